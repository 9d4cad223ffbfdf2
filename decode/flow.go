package decode

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"spillway/decode/fleet"
	"spillway/decode/ranked"
)

// flow is how much of a File is under way: how many calls of WriteChunks at a time, and how many
// chunks in each. It knows nothing of servers, and is told of calls and of received bytes.
//
// It finds out how many calls keep the processors and the servers busy: as many as there are
// processors, and some times what arrives in the time that the servers need when nothing is in the
// way (Little's law; see decision depth-by-littles-law). More would only wait in queues. So that
// this time stays true, now and then it goes back to few calls for a moment, as BBR does
// (draft-ietf-ccwg-bbr, ProbeRTT).
type flow struct {
	leastRun int64        // chunks; set once, before any call
	mostRun  int64        // chunks; set once, before any call
	run      atomic.Int64 // chunks, at present

	mu       ranked.Mutex[ranked.Leaf] // guards all below
	running  int
	rate     float64       // chunks a second; 0: unknown
	least    time.Duration // that gathering the blocks of a call took
	measured time.Time     // when it did
	startup  startup
	waiting  []*claim // in the order in which they came
}

// traffic is what the flow is told when a call begins, waits or ends.
type traffic struct {
	received int64 // bytes from all servers, as far as they tell
	most     int   // calls that there is memory for
}

const (
	// leastHolds: the time is measured again then, or after a hundred times as long as it is.
	leastHolds = 20 * time.Second
	// ahead and aheadFar are how many times (see decision depth-by-littles-law) what arrives
	// meanwhile is to be under way: far away the ways of several servers are not all as quick, and
	// each is to be full.
	ahead    = 2
	aheadFar = 4
)

// endLocked notes a call for n chunks that took so long, so long of it for gathering blocks, load
// of them under way when it began.
func (w *flow) endLocked(load int, n int64, took, gathering time.Duration, ok bool) {
	now := time.Now()
	rate := float64(w.running) * float64(n) / max(took, time.Microsecond).Seconds()
	w.running--
	if !ok {
		return
	}
	if rate > w.rate {
		w.rate += (rate - w.rate) / 2
	} else {
		w.rate += (rate - w.rate) / 8
	}
	if w.least == 0 || gathering < w.least || w.isOldLocked(now) && load <= runtime.GOMAXPROCS(0) {
		w.least, w.measured = gathering, now
	}
}

func (w *flow) isOldLocked(now time.Time) bool {
	return now.Sub(w.measured) > max(leastHolds, 100*w.least)
}

// wantLocked returns how many calls for n chunks each should be under way.
func (w *flow) wantLocked(n int64) int {
	calls := runtime.GOMAXPROCS(0)
	switch {
	case w.rate == 0:
		calls = max(calls, w.startup.calls)
	case fleet.DistanceOf(w.least) > fleet.Local && !w.isOldLocked(time.Now()):
		times := float64(ahead)
		if w.startup.governs() {
			times = aheadFar
		}
		calls += int(times * w.rate / float64(n) * w.least.Seconds())
	}
	return calls
}

// workers returns how many calls at a time keep the servers busy, at most so many.
func (w *flow) workers(most int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.startup.grows() {
		return most // which wait for their turns
	}
	return min(w.wantLocked(w.run.Load()), most)
}

// A request costs a storage node as much as sending some 500 KB. So more is read at once of each
// share, up to quickRead bytes, of servers at hand, if they bring it within quickTime: who is
// slower would keep readers waiting for what others could bring meanwhile (see decision
// larger-runs-where-servers-are-quick).
const (
	quickRead = 4 << 20
	quickTime = 150 * time.Millisecond
)

// adjustRun makes runs as large as servers at hand bring in quickTime, at a rate in bytes a second,
// of a share of which a chunk takes so many bytes.
func (w *flow) adjustRun(rate float64, shareBytes int64) {
	run := int64(rate*quickTime.Seconds()) / shareBytes
	w.run.Store(min(max(run, w.leastRun), w.mostRun))
}

// turn is a call for n chunks under way.
type turn struct {
	n    int64
	load int // calls under way when it began, itself included
}

// claim is a call that waits until it may begin.
type claim struct {
	turn    turn          // set when it is granted
	granted chan struct{} // closed then
}

// take takes a turn for n chunks if that may begin at once, as all may that workers allows for,
// save while the startup grows.
func (w *flow) take(n int64, told traffic) (t turn, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) > 0 || !w.admitsLocked(n, told) {
		return t, false
	}
	w.running++
	return turn{n, w.running}, true
}

// ask asks for a turn for n chunks. Next is when to tell the flow again, unless it is granted
// before.
func (w *flow) ask(n int64, told traffic) (c *claim, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c = &claim{turn: turn{n: n}, granted: make(chan struct{})}
	w.waiting = append(w.waiting, c)
	w.grantLocked(told)
	return c, w.startup.next(time.Now())
}

// tell lets those begin that may by now, and returns when to tell again.
func (w *flow) tell(told traffic) (next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.grantLocked(told)
	return w.startup.next(time.Now())
}

// giveUp takes back what ask asked for; false if it has been granted meanwhile.
func (w *flow) giveUp(c *claim, told traffic) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, c)
	if i < 0 {
		return false
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	w.grantLocked(told)
	return true
}

// end ends a turn, after a call that took so long, so long of it for gathering blocks.
func (w *flow) end(t turn, took, gathering time.Duration, ok bool, told traffic) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endLocked(t.load, t.n, took, gathering, ok)
	w.grantLocked(told)
}

// grantLocked lets those begin that may, in the order in which they came.
func (w *flow) grantLocked(told traffic) {
	for len(w.waiting) > 0 && w.admitsLocked(w.waiting[0].turn.n, told) {
		c := w.waiting[0]
		w.waiting = slices.Delete(w.waiting, 0, 1)
		w.running++
		c.turn.load = w.running
		close(c.granted)
	}
}

// admitsLocked tells whether one more call for n chunks may begin.
func (w *flow) admitsLocked(n int64, told traffic) bool {
	if !w.startup.governs() {
		return true
	}
	if w.startup.grows() {
		w.startup.advance(time.Now(), told.received, told.most)
	}
	if w.startup.grows() {
		return w.running < w.startup.calls
	}
	return w.running < w.wantLocked(n)
}

// calls returns how many calls are under way, at least one.
func (w *flow) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.running, 1)
}

// takeTurn waits until a call for n chunks may begin; flow.end follows.
func (f *File) takeTurn(ctx context.Context, n int64) (turn, error) {
	if t, ok := f.flow.take(n, f.traffic()); ok {
		return t, nil
	}
	c, next := f.flow.ask(n, f.traffic())
	for {
		var err error
		select {
		case <-c.granted:
			return c.turn, nil
		case <-time.After(next):
			next = f.flow.tell(f.traffic())
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-f.life.Context().Done():
			err = context.Cause(f.life.Context())
		}
		if !f.flow.giveUp(c, f.traffic()) {
			return c.turn, nil // granted meanwhile
		}
		return turn{}, err
	}
}

const (
	mostParts = 4
	leastPart = 32 << 10 // bytes
)

// parts returns in how many requests to read so many bytes of a share, side by side. Far away, what
// a connection brings in a round trip is little, and there are more connections than reads that fit
// into memory. So reads share them all (see decision split-reads-far-away).
func (f *File) parts(m *fleet.Member, bytes int) int {
	if m.Distance() < fleet.Far {
		return 1
	}
	reads := f.flow.calls() * f.verifier.K
	return max(1, min(fleet.MaxRequests*f.roster.holders()/reads, mostParts, bytes/leastPart))
}
