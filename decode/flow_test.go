package decode

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestFlow: far servers get as many calls as arrive meanwhile, near ones as many as there are
// processors, and servers that are at their limit not many more than they can take, even after a
// long time.
func TestFlow(t *testing.T) {
	const latency = 100 * time.Millisecond
	for _, test := range []struct {
		name        string
		rate        float64 // calls a second at most
		latency     time.Duration
		least, most int
	}{
		{"near", 1000, time.Millisecond, 0, 0},
		{"far", 1e6, latency, 64, 1 << 30},
		{"far and slow", 20, latency, 2, 16},
		{"far and quick", 200, latency, 20, 60},
	} {
		synctest.Test(t, func(t *testing.T) {
			var d flow
			alone := d.wantLocked(1)
			var calls []int // the load with which each began, in their order
			for range 5000 {
				for d.running < d.wantLocked(1) && d.running < 1000 {
					d.running++
					calls = append(calls, d.running)
				}
				took := max(test.latency, time.Duration(float64(d.running)/test.rate*float64(time.Second)))
				time.Sleep(took / time.Duration(d.running))
				d.endLocked(calls[0], 1, took+3*time.Millisecond, took, true)
				calls = calls[1:]
			}
			measuring := d.isOldLocked(time.Now())
			if n := d.wantLocked(1) - alone; !measuring && (n < test.least || n > test.most) {
				t.Errorf("%s: %d calls more than processors, want %d to %d", test.name, n, test.least, test.most)
			}
		})
	}
}
