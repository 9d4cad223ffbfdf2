package fleet

import "time"

// Distance is how far away a server is, by the round trip: the time of a request that brings next
// to nothing. Distances are ordered, nearer ones first.
type Distance int

const (
	Unknown Distance = iota // nothing has been asked yet
	Local                   // waiting takes no time worth hiding: a disk of this machine
	AtHand                  // a request costs the server more than the way costs time
	Away                    // connections begin so slowly that it shows
	Far                     // a round trip less is worth a request more
)

// Up to where each goes (see decisions first-byte-at-hand, slow-start-as-bbr and
// split-reads-far-away).
const (
	localEnds  = 2 * time.Millisecond
	atHandEnds = 10 * time.Millisecond
	awayEnds   = 40 * time.Millisecond
)

// DistanceOf returns the distance that a round trip is; 0 is an unknown one.
func DistanceOf(roundTrip time.Duration) Distance {
	switch {
	case roundTrip == 0:
		return Unknown
	case roundTrip <= localEnds:
		return Local
	case roundTrip <= atHandEnds:
		return AtHand
	case roundTrip < awayEnds:
		return Away
	}
	return Far
}

func (d Distance) String() string {
	return [...]string{"unknown", "local", "at hand", "away", "far"}[d]
}
