package fleet

import (
	"testing"
	"testing/synctest"
	"time"
)

// start begins a read.
func start(p *pace) int {
	p.enqueue(0)
	return p.begin(true)
}

// ask has the server answer a read in the time.
func ask(p *pace, bytes int, took time.Duration) { p.end(start(p), bytes, took, true) }

func TestPaceRanks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var quick, slow, unknown pace
		for range 20 {
			ask(&quick, 100, 10*time.Millisecond)
			ask(&quick, 1<<20, 20*time.Millisecond)
			ask(&slow, 100, 10*time.Millisecond)
			ask(&slow, 1<<20, 500*time.Millisecond)
		}
		class := func(p *pace) int { return p.outlook(time.Now()).Class(1<<20, 0, false) }
		if a, b, c := class(&unknown), class(&quick), class(&slow); a > b || b >= c {
			t.Errorf("classes of an unknown, a quick and a slow server: %d, %d, %d", a, b, c)
		}
		// What is under way on the quick one delays what comes.
		idle := class(&quick)
		for range 60 {
			start(&quick)
		}
		if busy := class(&quick); busy <= idle || busy < class(&slow) {
			t.Errorf("busy with 60 reads it is of class %d, idle of %d", busy, idle)
		}
		// A server that was slow long ago is worth a try.
		time.Sleep(2 * time.Minute)
		if c := class(&slow); c > idle {
			t.Errorf("after two minutes the slow one is of class %d", c)
		}
	})
}

func TestPaceLate(t *testing.T) {
	const most = 1500 * time.Millisecond
	var p pace
	if d := p.lateNext(1<<20, most); d != most {
		t.Errorf("an unknown server is late after %v", d)
	}
	for range 50 {
		ask(&p, 100, 50*time.Millisecond)
		ask(&p, 1<<20, 150*time.Millisecond)
	}
	usual := p.lateNext(1<<20, most)
	if usual < 150*time.Millisecond || usual > 500*time.Millisecond {
		t.Errorf("a server that needs 150 ms is late after %v", usual)
	}
	if d := p.lateNext(4<<20, most); d <= usual {
		t.Errorf("with four times the bytes it is late after %v, else %v", d, usual)
	}
	for i := range 50 {
		ask(&p, 1<<20, time.Duration(50+200*(i%2))*time.Millisecond)
	}
	if d := p.lateNext(1<<20, most); d <= usual {
		t.Errorf("unsteady, it is late after %v, steady after %v", d, usual)
	}
}

func TestPaceBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		ask(&p, 1<<20, time.Millisecond)
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			want *= time.Second
			until := p.fail(time.Now())
			if d := time.Until(until); d != want {
				t.Fatalf("tried again after %v, want %v", d, want)
			}
			if again := p.fail(time.Now()); again != until {
				t.Fatal("what fails at the same time counts twice")
			}
			if p.outlook(time.Now()).Class(1, 0, false) != lastClass {
				t.Fatal("it is preferred to servers that answer")
			}
			time.Sleep(want)
			if p.outlook(time.Now()).Class(1, 0, false) == lastClass {
				t.Fatal("it is not tried again")
			}
			n := start(&p)
			if p.outlook(time.Now()).Class(1, 0, false) != lastClass {
				t.Fatal("it is tried by several at a time")
			}
			p.end(n, 0, time.Second, false)
		}
		ask(&p, 1, time.Millisecond)
		if !p.next().IsZero() {
			t.Error("an answer changes nothing")
		}
	})
}

// TestPaceLateOrSilent: a server that answers other reads has not failed.
func TestPaceLateOrSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		began := time.Now()
		time.Sleep(time.Second)
		ask(&p, 1, time.Millisecond)
		if n := p.isLate(time.Now(), began); n != 0 || !p.next().IsZero() {
			t.Errorf("a server that answers has failed %d times", n)
		}
		time.Sleep(time.Second)
		if n := p.isLate(time.Now(), time.Now().Add(-time.Millisecond)); n != 1 || p.next().IsZero() {
			t.Errorf("a silent server has failed %d times", n)
		}
	})
}

// TestHedges: a burst is free, then it is one for ten.
func TestHedges(t *testing.T) {
	var h hedges
	burst := 0
	for h.take() {
		burst++
	}
	more := 0
	for range 1000 {
		h.earn()
		if h.take() {
			more++
		}
	}
	if burst != hedgeBurst/10 || more != 100 {
		t.Errorf("%d at once, %d for 1000 reads", burst, more)
	}
}
