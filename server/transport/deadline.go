package transport

import (
	"sync"
	"time"
)

// past is a deadline that ends every wait.
var past = time.Unix(1, 0)

// deadliner is a connection, or a ResponseController.
type deadliner interface{ SetWriteDeadline(time.Time) error }

// writeDeadline is the write deadline of one answer's connection. Its methods
// may be called concurrently.
type writeDeadline struct {
	to    deadliner
	limit time.Duration

	mu        sync.Mutex
	cut, over bool // guarded by mu; cut is set at most once, and not once over is
}

// extend gives the next write its time, unless the answer is cut. A writer
// without deadlines, as tests use, goes without.
func (d *writeDeadline) extend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.cut {
		_ = d.to.SetWriteDeadline(time.Now().Add(d.limit))
	}
}

// cutNow ends a write that may be stalled, now and for good.
func (d *writeDeadline) cutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		d.cut = true
		_ = d.to.SetWriteDeadline(past)
	}
}

func (d *writeDeadline) isCut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// finish keeps a late cut from the connection's next answer. The deadline
// stays: it bounds what net/http itself writes after the handler.
func (d *writeDeadline) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}
