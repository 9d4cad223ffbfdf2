package decode

import (
	"context"
	"runtime"
	"slices"
	"time"

	"spillway/decode/grid"
)

// startup is how the reading of a File begins. Connections to servers far away begin slowly, so what arrives at first
// says nothing of what could. As BBR does (draft-ietf-ccwg-bbr, Startup), it lets few calls of WriteChunks be under way, and
// twice as many after each round trip, as long as one brings a quarter more than those before. Where a link is slow
// that soon ends, and the first byte does not share the way with much that nobody waits for.
type startup struct {
	calls     int           // that may be under way
	roundTrip time.Duration // 0: there is no more to it
	over      bool
	began     time.Time // the round trip under way; zero: none yet
	received  int64     // bytes, until then
	most      int64     // bytes, in one round trip
	full      int       // round trips in a row that brought no more
}

const (
	farAway = 10 * time.Millisecond // from which on connections begin so slowly that it shows
	// mostAtFirst is how many calls more than processors begin at once. With more, the first byte would have to
	// share the way with what is not wanted yet.
	mostAtFirst   = 4
	fullRoundTrip = 3 // so many in a row, and the way is full
)

// newStartup is for servers as far away as the quickest one, which tell how much comes from them or not.
func newStartup(roundTrip time.Duration, metered bool) startup {
	s := startup{calls: runtime.GOMAXPROCS(0) + int(min(roundTrip/(10*time.Millisecond), mostAtFirst))}
	if roundTrip >= farAway && metered {
		s.roundTrip = roundTrip
	}
	return s
}

// grows tells whether more calls may follow before any has ended.
func (s *startup) grows() bool { return s.roundTrip != 0 && !s.over }

// next returns how long the round trip under way will yet last.
func (s *startup) next(now time.Time) time.Duration {
	if !s.grows() {
		return time.Hour
	}
	return s.began.Add(s.roundTrip).Sub(now)
}

// advance begins the next round trip if it is time. So many bytes have been received; more calls than most are of no use.
func (s *startup) advance(now time.Time, received int64, most int) {
	switch {
	case !s.began.IsZero() && now.Before(s.began.Add(s.roundTrip)):
		return
	case s.began.IsZero():
	case received-s.received > s.most+s.most/4:
		s.most, s.full = received-s.received, 0
		s.calls *= 2
	case received > s.received:
		s.full++
	}
	s.began, s.received = now, received
	s.over = s.full == fullRoundTrip || s.calls >= most
}

// turn is a call of WriteChunks for n chunks that waits until it may begin.
type turn struct {
	n       int64
	granted chan struct{} // closed when load is set
	load    int           // calls under way, itself included
}

// begin waits until a call for n chunks may begin, and returns how many are under way with it; end follows. Those that
// Workers allows for do not wait, save while the startup grows.
func (f *File) begin(ctx context.Context, n int64) (load int, err error) {
	d := &f.depth
	d.mu.Lock()
	if len(d.waiting) == 0 && f.admitsLocked(n) {
		d.running++
		load = d.running
		d.mu.Unlock()
		return load, nil
	}
	t := &turn{n: n, granted: make(chan struct{})}
	d.waiting = append(d.waiting, t)
	for {
		next := d.startup.next(time.Now())
		d.mu.Unlock()
		select {
		case <-t.granted:
			return t.load, nil
		case <-time.After(next):
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-f.ctx.Done():
			err = context.Cause(f.ctx)
		}
		d.mu.Lock()
		i := slices.Index(d.waiting, t)
		if err != nil && i >= 0 {
			d.waiting = slices.Delete(d.waiting, i, i+1)
		}
		f.grantLocked()
		if err != nil {
			d.mu.Unlock()
			if i < 0 { // granted meanwhile
				return t.load, nil
			}
			return 0, err
		}
	}
}

// end is depth's end.
func (f *File) end(load int, n int64, took, gathering time.Duration, ok bool) {
	d := &f.depth
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endLocked(load, n, took, gathering, ok)
	f.grantLocked()
}

// grantLocked lets those begin that may, in the order in which they came.
func (f *File) grantLocked() {
	d := &f.depth
	for len(d.waiting) > 0 && f.admitsLocked(d.waiting[0].n) {
		t := d.waiting[0]
		d.waiting = slices.Delete(d.waiting, 0, 1)
		d.running++
		t.load = d.running
		close(t.granted)
	}
}

// admitsLocked tells whether one more call for n chunks may begin. It locks f.mu.
func (f *File) admitsLocked(n int64) bool {
	d := &f.depth
	if d.startup.roundTrip == 0 {
		return true
	}
	if d.startup.grows() {
		d.startup.advance(time.Now(), f.received(), f.mostCalls())
	}
	if d.startup.grows() {
		return d.running < d.startup.calls
	}
	return d.running < d.wantLocked(n)
}

// received returns how many bytes have come from the servers, as far as they tell.
func (f *File) received() (sum int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		if s, ok := m.Server.Server.(grid.Meter); ok {
			sum += s.Received()
		}
	}
	return sum
}

const (
	// splitting is from where on a share's blocks are read in parts: there a round trip less is worth a request more.
	splitting = 40 * time.Millisecond
	mostParts = 4
	leastPart = 32 << 10 // bytes
)

// parts returns in how many requests to read so many bytes of a share, side by side. Far away, what a connection brings in a
// round trip is little, and there are more connections than reads that fit into memory. So reads share them all.
func (f *File) parts(m *member, bytes int) int {
	if m.pace.roundTrip() < splitting {
		return 1
	}
	servers := 0
	f.mu.Lock()
	for _, s := range f.shares {
		if s.beside == 0 {
			servers++
		}
	}
	f.mu.Unlock()
	f.depth.mu.Lock()
	reads := max(f.depth.running, 1) * f.verifier.K
	f.depth.mu.Unlock()
	return max(1, min(maxRequests*servers/reads, mostParts, bytes/leastPart))
}
