package decode

import "sync/atomic"

// hedges bounds the reads that are made because others are late: one for ten, and a few at once.
// When everything is slow, servers or this machine, more of them would make it slower.
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
