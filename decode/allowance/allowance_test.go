package allowance_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"spillway/decode/allowance"
)

// holder has a size, so that each has an address of its own.
type holder struct{ _ byte }

// TestAllowance: a File that has much leaves something to the others, and of those
// that wait the one that has the least goes first.
func TestAllowance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := allowance.New(10)
		first, second, third := new(holder), new(holder), new(holder)
		for range 4 {
			if !a.TryAcquire(first, 2) {
				t.Fatal("what is free cannot be had")
			}
		}
		if a.TryAcquire(first, 2) {
			t.Fatal("the first File takes everything")
		}
		var order []*holder
		claim := func(f *holder, n int64) {
			go func() {
				if err := a.Acquire(t.Context(), f, n); err != nil {
					t.Error(err)
				}
				order = append(order, f)
			}()
			synctest.Wait()
		}
		claim(first, 2)
		claim(second, 2) // at once, from what is left to newcomers
		if len(order) != 1 || order[0] != second {
			t.Fatalf("%d were served", len(order))
		}
		claim(second, 2)
		claim(third, 2)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- a.Acquire(ctx, third, 10) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		for range 3 {
			a.Release(first, 2)
			synctest.Wait()
		}
		// who holds as much as the second and came before
		if len(order) != 3 || order[1] != third || order[2] != first {
			t.Errorf("served in another order, %d of them", len(order))
		}
		a.Release(first, 2)
		synctest.Wait()
		if len(order) != 4 || order[3] != second {
			t.Errorf("%d were served, the second File not at last", len(order))
		}
		a.Release(first, 2)
		a.Release(second, 4)
		a.Release(third, 2)
		if n := a.InUse(); n != 0 || a.Holders() != 0 {
			t.Errorf("%d are taken, %d Files hold something", n, a.Holders())
		}
		if !a.TryAcquire(first, 10) {
			t.Error("a File that holds nothing cannot have everything")
		}
	})
}

// TestAllowanceGrantedWhileLeaving: what is granted to one whose context ends at that moment is not
// lost.
func TestAllowanceGrantedWhileLeaving(t *testing.T) {
	f, g := new(holder), new(holder)
	a := allowance.New(1)
	for range 1000 {
		a.TryAcquire(f, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Acquire(ctx, g, 1) }()
		go cancel()
		a.Release(f, 1)
		if <-done == nil {
			a.Release(g, 1)
		}
		if n := a.InUse(); n != 0 {
			t.Fatalf("%d are lost", n)
		}
	}
}
