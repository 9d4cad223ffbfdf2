package decode

import (
	"context"
	"slices"
	"sync"
)

// allowance shares out a limited amount between Files: memory for chunks, requests to a server.
// When it is short, the File that holds the least is served first, and one that holds something
// already leaves a fifth of it to those that hold nothing. So no File can make another one starve.
type allowance struct {
	limit int64

	mu      sync.Mutex
	taken   int64
	held    map[*File]int64
	waiting []*claim // in the order in which they came
}

// claim is somebody waiting for n.
type claim struct {
	file    *File
	n       int64
	granted chan struct{}
}

func newAllowance(limit int64) *allowance {
	return &allowance{limit: limit, held: map[*File]int64{}}
}

// most is how much one File may hold of it in shares of n.
func (a *allowance) most(n int64) int64 { return max(n, a.limit-a.limit/5) }

// acquire waits for n, at most the limit, of it. The error is the cause of the context's end.
func (a *allowance) acquire(ctx context.Context, f *File, n int64) error {
	if a.tryAcquire(f, n) {
		return nil
	}
	a.mu.Lock()
	c := &claim{file: f, n: n, granted: make(chan struct{})}
	a.waiting = append(a.waiting, c)
	a.grantLocked() // it may come before those that wait
	a.mu.Unlock()
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.waiting, c); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
		a.grantLocked()
		return context.Cause(ctx)
	}
	return nil // granted meanwhile
}

// tryAcquire takes n if that is free and nobody waits.
func (a *allowance) tryAcquire(f *File, n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) > 0 || !a.admitsLocked(f, n) {
		return false
	}
	a.takeLocked(f, n)
	return true
}

// release gives n back.
func (a *allowance) release(f *File, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken -= n
	if a.held[f] -= n; a.held[f] == 0 {
		delete(a.held, f)
	}
	a.grantLocked()
}

func (a *allowance) admitsLocked(f *File, n int64) bool {
	held := a.held[f]
	return a.taken+n <= a.limit && (held == 0 || a.taken+n <= a.most(n))
}

func (a *allowance) takeLocked(f *File, n int64) {
	a.taken += n
	a.held[f] += n
}

// grantLocked gives what is free to those that wait.
func (a *allowance) grantLocked() {
	for len(a.waiting) > 0 {
		first := 0
		for i, c := range a.waiting {
			if a.held[c.file] < a.held[a.waiting[first].file] {
				first = i
			}
		}
		c := a.waiting[first]
		if !a.admitsLocked(c.file, c.n) {
			return
		}
		a.waiting = slices.Delete(a.waiting, first, first+1)
		a.takeLocked(c.file, c.n)
		close(c.granted)
	}
}

// inUse is how much is taken.
func (a *allowance) inUse() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taken
}
