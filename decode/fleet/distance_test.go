package fleet_test

import (
	"testing"
	"time"

	"spillway/decode/fleet"
)

func TestDistanceOf(t *testing.T) {
	for roundTrip, want := range map[time.Duration]fleet.Distance{
		0:                       fleet.Unknown,
		time.Nanosecond:         fleet.Local,
		2 * time.Millisecond:    fleet.Local,
		2*time.Millisecond + 1:  fleet.AtHand,
		10 * time.Millisecond:   fleet.AtHand,
		10*time.Millisecond + 1: fleet.Away,
		40*time.Millisecond - 1: fleet.Away,
		40 * time.Millisecond:   fleet.Far,
		300 * time.Millisecond:  fleet.Far,
		1500 * time.Millisecond: fleet.Far,
	} {
		if got := fleet.DistanceOf(roundTrip); got != want {
			t.Errorf("%v is %v, want %v", roundTrip, got, want)
		}
	}
}
