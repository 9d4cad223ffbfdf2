package decode

import (
	"runtime"
	"time"

	"spillway/decode/fleet"
)

// startup is how the reading of a File begins. Connections to servers far away begin slowly, so
// what arrives at first says nothing of what could. As BBR does (draft-ietf-ccwg-bbr, Startup), it
// lets few calls of WriteChunks be under way, and twice as many after each round trip, as long as
// one brings a quarter more than those before. Where a link is slow that soon ends, and the first
// byte does not share the way with much that nobody waits for (see decision slow-start-as-bbr).
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
	// mostAtFirst is how many calls more than processors begin at once: one for each ten
	// milliseconds of the round trip. With more, the first byte would have to share the way with
	// what is not wanted yet.
	mostAtFirst   = 4
	fullRoundTrip = 3 // so many in a row, and the way is full
)

// newStartup is for servers as far away as the quickest one, which tell how much comes from them or
// not.
func newStartup(roundTrip time.Duration, metered bool) startup {
	s := startup{calls: runtime.GOMAXPROCS(0) + int(min(roundTrip/(10*time.Millisecond), mostAtFirst))}
	if fleet.DistanceOf(roundTrip) >= fleet.Away && metered {
		s.roundTrip = roundTrip
	}
	return s
}

// governs tells whether there is a startup at all, which does not change.
func (s *startup) governs() bool { return s.roundTrip != 0 }

// grows tells whether more calls may follow before any has ended.
func (s *startup) grows() bool { return s.governs() && !s.over }

// next returns how long the round trip under way will yet last.
func (s *startup) next(now time.Time) time.Duration {
	if !s.grows() {
		return time.Hour
	}
	return s.began.Add(s.roundTrip).Sub(now)
}

// advance begins the next round trip if it is time. So many bytes have been received; more calls
// than most are of no use.
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
