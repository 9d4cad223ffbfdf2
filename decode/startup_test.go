package decode

import (
	"runtime"
	"testing"
	"time"
)

// TestStartup doubles the calls as long as round trips bring more, and as more are of use.
func TestStartup(t *testing.T) {
	const roundTrip = 20 * time.Millisecond
	first := runtime.GOMAXPROCS(0) + 2
	for _, test := range []struct {
		name   string
		bring  []int64 // bytes in each round trip
		most   int     // calls of use
		calls  int     // in the end
		isOver bool
	}{
		{"nothing has come yet", []int64{0, 0, 0, 0, 0}, 1000, first, false},
		{"ever more", []int64{0, 100, 200, 400}, 1000, 8 * first, false},
		{"more than are of use", []int64{100, 200}, 3 * first, 4 * first, true},
		{"a slow link", []int64{0, 100, 110, 100, 120}, 1000, 2 * first, true},
		{"a pause", []int64{100, 0, 0, 0, 200}, 1000, 4 * first, false},
	} {
		s := newStartup(roundTrip, true)
		now, received := time.Now(), int64(0)
		s.advance(now, received, test.most)
		for _, bytes := range test.bring {
			now, received = now.Add(roundTrip), received+bytes
			s.advance(now.Add(-time.Millisecond), received, test.most) // too early
			s.advance(now, received, test.most)
		}
		if s.calls != test.calls || s.over != test.isOver {
			t.Errorf("%s: %d calls, over %v, want %d, %v", test.name, s.calls, s.over, test.calls, test.isOver)
		}
	}
	for _, s := range []startup{newStartup(roundTrip, false), newStartup(time.Millisecond, true)} {
		if s.grows() {
			t.Errorf("a startup of servers that do not tell what comes, or are at hand: %+v", s)
		}
	}
}
