package decode

import (
	"context"

	"spillway/decode/lifetime"
	"spillway/decode/ranked"
)

// call is the result of something that one goroutine does for all who want it.
type call[V any] struct {
	done  chan struct{} // closed when value and err are set
	value V
	err   error
}

func newCall[V any]() *call[V] { return &call[V]{done: make(chan struct{})} }

func (c *call[V]) finish(v V, err error) {
	c.value, c.err = v, err
	close(c.done)
}

func (c *call[V]) wait(ctx context.Context) (V, error) {
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// once is something that is done once for all who want it, and again after a failure. The zero
// value has not been done. Its methods may be called concurrently.
type once[V any] struct {
	mu   ranked.Mutex[ranked.Once]
	call *call[V] // guarded by mu; nil: not begun, or failed
}

// do returns what fn returns, which is called in a goroutine of the lifetime.
func (o *once[V]) do(ctx context.Context, life *lifetime.Lifetime, fn func(ctx context.Context) (V, error)) (V, error) {
	o.mu.Lock()
	c := o.call
	if c == nil {
		c = newCall[V]()
		err := life.Go(func(ctx context.Context) {
			v, err := fn(ctx)
			if err != nil {
				o.mu.Lock()
				o.call = nil
				o.mu.Unlock()
			}
			c.finish(v, err)
		})
		if err != nil {
			o.mu.Unlock()
			var none V
			return none, err
		}
		o.call = c
	}
	o.mu.Unlock()
	return c.wait(ctx)
}

// set has it done, with that result.
func (o *once[V]) set(v V) {
	c := newCall[V]()
	c.finish(v, nil)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.call = c
}

// result returns what has been done, if anything has.
func (o *once[V]) result() (v V, ok bool) {
	o.mu.Lock()
	c := o.call
	o.mu.Unlock()
	if c == nil {
		return v, false
	}
	select {
	case <-c.done:
		return c.value, c.err == nil
	default:
		return v, false
	}
}

// bell tells whoever waits that something has changed. Its methods may be called concurrently, also
// by who holds any lock.
type bell struct {
	mu   ranked.Mutex[ranked.Leaf]
	rung chan struct{} // guarded by mu; closed and replaced at each change
}

func newBell() *bell { return &bell{rung: make(chan struct{})} }

// next returns a channel that is closed at the next change.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung
}

// ring tells of a change.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.rung)
	b.rung = make(chan struct{})
}
