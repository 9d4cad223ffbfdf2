// Package allowance shares out what there is too little of: memory for chunks, requests to a
// server.
//
// When it is short, the holder that has the least is served first, and one that has something
// already leaves a fifth of it to those that have nothing. So no file can make another one starve
// (see decision nobody-starves).
package allowance

import (
	"context"
	"slices"

	"spillway/decode/ranked"
)

// Holder is who takes something of an Allowance, such as a *decode.File. Holders are compared by
// ==; nil is one as well.
type Holder any

// Allowance is a limited amount of something. Its methods may be called concurrently.
type Allowance struct {
	limit int64

	mu      ranked.Mutex[ranked.Leaf] // guards all below
	taken   int64
	held    map[Holder]int64
	waiting []*claim // in the order in which they came
}

// claim is somebody waiting for n.
type claim struct {
	holder  Holder
	n       int64
	granted chan struct{}
}

// New returns an Allowance of limit.
func New(limit int64) *Allowance {
	return &Allowance{limit: limit, held: map[Holder]int64{}}
}

// Limit is how much there is in all.
func (a *Allowance) Limit() int64 { return a.limit }

// Most is how much one holder may have of it in shares of n.
func (a *Allowance) Most(n int64) int64 { return max(n, a.limit-a.limit/5) }

// Acquire waits for n, at most the limit, of it. The error is the cause of the context's end.
func (a *Allowance) Acquire(ctx context.Context, h Holder, n int64) error {
	if a.TryAcquire(h, n) {
		return nil
	}
	a.mu.Lock()
	c := &claim{holder: h, n: n, granted: make(chan struct{})}
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

// TryAcquire takes n if that is free and nobody waits.
func (a *Allowance) TryAcquire(h Holder, n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) > 0 || !a.admitsLocked(h, n) {
		return false
	}
	a.takeLocked(h, n)
	return true
}

// Release gives n back.
func (a *Allowance) Release(h Holder, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken -= n
	if a.held[h] -= n; a.held[h] == 0 {
		delete(a.held, h)
	}
	a.grantLocked()
}

func (a *Allowance) admitsLocked(h Holder, n int64) bool {
	held := a.held[h]
	return a.taken+n <= a.limit && (held == 0 || a.taken+n <= a.Most(n))
}

func (a *Allowance) takeLocked(h Holder, n int64) {
	a.taken += n
	a.held[h] += n
}

// grantLocked gives what is free to those that wait.
func (a *Allowance) grantLocked() {
	for len(a.waiting) > 0 {
		first := 0
		for i, c := range a.waiting {
			if a.held[c.holder] < a.held[a.waiting[first].holder] {
				first = i
			}
		}
		c := a.waiting[first]
		if !a.admitsLocked(c.holder, c.n) {
			return
		}
		a.waiting = slices.Delete(a.waiting, first, first+1)
		a.takeLocked(c.holder, c.n)
		close(c.granted)
	}
}

// InUse is how much is taken.
func (a *Allowance) InUse() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taken
}
