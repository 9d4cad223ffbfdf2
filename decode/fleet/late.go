package fleet

import (
	"sync/atomic"
	"time"
)

// See decision late-reads-and-hedging.
const (
	// patience is how long a read may at most keep its reader waiting before another one is begun
	// as well, unless the server is some 150 ms away or more.
	patience = 1500 * time.Millisecond
	// slowStart is how many round trips the first blocks take, handshakes included, as a
	// connection begins slowly.
	slowStart = 10
	// mostPatient is the patience with servers however far away.
	mostPatient = 4 * time.Second
	// manyLate is how many times in a row a server is late before the log tells.
	manyLate = 3
)

// late returns after what time a request is late that begins now: twice as late for each
// competitor that others have had already, up to what patience there is.
func (m *Member) late(bytes, competitors int) time.Duration {
	most := max(patience, min(slowStart*m.pace.roundTrip(), mostPatient))
	return min(m.pace.lateNext(bytes, most)<<min(competitors, 8), most)
}

// LateSmall returns after what time a request that brings next to nothing is late.
func (m *Member) LateSmall() time.Duration { return m.late(SmallRead, 0) }

// Watch looks after one read that somebody waits for: it tells when that is late, and whether
// another one may be begun beside it. It is used by one goroutine.
type Watch struct {
	member *Member
	began  time.Time
	due    time.Time // when it is late, or looked at again
	noted  bool      // that it is late
	hedged bool      // another one may be begun, which is said once
}

// Watch begins to look after a read of so many bytes whose reader has begun competitors to others
// already.
func (m *Member) Watch(now time.Time, bytes, competitors int) Watch {
	m.fleet.hedges.earn()
	return Watch{member: m, began: now, due: now.Add(m.late(bytes, competitors))}
}

// Due returns when to call Late; never again once that has returned true.
func (w *Watch) Due() (at time.Time, ok bool) { return w.due, !w.hedged }

// Late tells, once, whether a read is late by now and another one may be begun beside it. One in
// ten may, and a few dozen at once: when everything is slow, servers or this machine, more of them
// would make it slower. The others may when patience has run out (see decision
// late-reads-and-hedging). File names what is read, for the log.
func (w *Watch) Late(now time.Time, file string) bool {
	if w.hedged || now.Before(w.due) {
		return false
	}
	f := w.member.fleet
	if !w.noted {
		w.noted = true
		if w.member.pace.isLate(now, w.began) == manyLate {
			f.log.Info("server was late several times and is hardly asked any more", "file", file, "server", w.member.String())
		}
	}
	if !f.hedges.take() && now.Sub(w.began) < patience {
		w.due = w.began.Add(patience)
		return false
	}
	w.hedged = true
	f.hedged.Add(1)
	return true
}

// hedges bounds the reads that are made because others are late: one for ten, and a burst.
type hedges struct{ spent atomic.Int64 } // in tenths of a read; may not exceed hedgeBurst

const hedgeBurst = 32 * 10

// earn notes a read.
func (h *hedges) earn() {
	if h.spent.Add(-1) < 0 {
		h.spent.Add(1)
	}
}

// take tells whether one more may be made.
func (h *hedges) take() bool {
	if h.spent.Add(10) > hedgeBurst {
		h.spent.Add(-10)
		return false
	}
	return true
}
