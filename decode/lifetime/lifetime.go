// Package lifetime is how everything in decode that has goroutines ends: its Close refuses what
// comes later, cancels what is under way, and returns when all of that has ended.
package lifetime

import (
	"context"
	"sync"

	"spillway/decode/ranked"
)

// Lifetime is the time from when its owner is made until that is closed. Its methods may be
// called concurrently.
type Lifetime struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	closed error // what calls get that come later, and what ends those under way

	mu   ranked.Mutex[ranked.Lifetime]
	over bool           // guarded by mu
	work sync.WaitGroup // calls and goroutines; nothing is added once over is set
}

// New begins a lifetime. It ends at the latest with the parent, whose cause stays the cause.
func New(parent context.Context, closed error) *Lifetime {
	l := &Lifetime{closed: closed}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	return l
}

// Context ends with the lifetime; its cause is the error that New was given, or the parent's.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Enter begins a call, which End waits for; Leave ends it. The error is that of New.
func (l *Lifetime) Enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return l.closed
	}
	l.work.Add(1)
	return nil
}

// Leave ends a call that Enter began.
func (l *Lifetime) Leave() { l.work.Done() }

// Join is Enter for a call that is all waiting: the context that it returns ends with the lifetime
// too. Done ends the call.
func (l *Lifetime) Join(ctx context.Context) (_ context.Context, done func(), _ error) {
	if err := l.Enter(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := Joined(ctx, l.ctx)
	return ctx, func() { cancel(); l.Leave() }, nil
}

// Go runs fn in a goroutine with the lifetime's context, which End waits for. When the lifetime is
// over it runs nothing and returns the error that New was given.
func (l *Lifetime) Go(fn func(ctx context.Context)) error {
	if err := l.Enter(); err != nil {
		return err
	}
	go func() {
		defer l.Leave()
		fn(l.ctx)
	}()
	return nil
}

// Stop ends the lifetime: what comes later is refused, and what is under way is cancelled. It
// returns false to all callers but the first.
func (l *Lifetime) Stop() (first bool) {
	l.mu.Lock()
	first = !l.over
	l.over = true
	l.mu.Unlock()
	l.cancel(l.closed)
	return first
}

// End is Stop that waits for what is under way, also when it is not the first.
func (l *Lifetime) End() (first bool) {
	first = l.Stop()
	l.work.Wait()
	return first
}

// Joined returns a context that ends with the first of two and has its cause. Done gives back what
// that takes.
func Joined(ctx, owner context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(owner, func() { cancel(context.Cause(owner)) })
	return ctx, func() { stop(); cancel(nil) }
}
