package spool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"spillway/spool"
)

// TestClaim: a file that nobody has shown to be there takes no space and has nothing given up,
// however large it is said to be, while it is opened and when that fails.
func TestClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 10_000, Window: 1000, Retention: retention})
		defer closeSpool(t, s)
		for _, key := range []string{"a", "b", "c"} {
			f := &file{key: key, size: 3000, chunk: 1000}
			r := acquire(t, s, f)
			read(t, r, f, spool.Extent{Off: 0, End: 3000})
			closeReader(t, r)
		}
		f := &file{key: "claim", size: 10_000, chunk: 1000}
		release := f.holdOpening(errChunk)
		wait := f.refused(t, s, 8, errChunk)
		check(t, s)
		wantIDs(t, s, "a", "b", "c", "claim")
		for _, e := range s.Snapshot().Entries {
			if e.ID == "claim" && (e.State != spool.Opening || e.Readers != 8 || e.ReservedBytes != 0) {
				t.Errorf("%+v", e)
			}
		}
		if n := s.Snapshot().ReservedBytes; n != 9000 {
			t.Errorf("%d bytes are reserved", n)
		}
		// Somebody else's file has room meanwhile.
		other := &file{key: "d", size: 1000, chunk: 1000}
		r := acquire(t, s, other)
		read(t, r, other, spool.Extent{Off: 0, End: 1000})
		closeReader(t, r)
		release()
		wait()
		check(t, s)
		wantIDs(t, s, "a", "b", "c", "d")
		if n := s.Snapshot().Evicted; n != 0 {
			t.Errorf("%d files were given up", n)
		}
	})
}

// TestClaimLeft: the opening ends when the last one has left, and not before.
func TestClaimLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		ended := false
		f := &file{key: "f", size: 100, chunk: 100, opening: func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		}}
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		defer leaveFirst()
		defer leaveSecond()
		var claims sync.WaitGroup
		for _, ctx := range []context.Context{first, second} {
			claims.Go(func() {
				if _, err := s.Acquire(ctx, f.key, f.size, f.open); !errors.Is(err, context.Canceled) {
					t.Errorf("Acquire: %v", err)
				}
			})
		}
		synctest.Wait()
		leaveFirst()
		synctest.Wait()
		if ended {
			t.Error("the opening has ended while somebody waited for it")
		}
		leaveSecond()
		claims.Wait()
		synctest.Wait()
		if !ended {
			t.Error("the opening goes on for nobody")
		}
		check(t, s)
		wantIDs(t, s)
	})
}

// TestProvenOnce: those who come together have one source opened, which the first fill uses. A
// source that nobody reads from is closed when its reader leaves, or when the spool does.
func TestProvenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		f := &file{key: "f", size: 5000, chunk: 1000}
		release := f.holdOpening(nil)
		var readers sync.WaitGroup
		for range 5 {
			readers.Go(func() {
				r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
				read(t, r, f, spool.Extent{Off: 0, End: f.size})
				closeReader(t, r)
			})
		}
		synctest.Wait()
		release()
		readers.Wait()
		synctest.Wait()
		if n := f.opened.Load(); n != 1 || f.closed.Load() != 1 {
			t.Errorf("opened %d times, closed %d times", n, f.closed.Load())
		}
		g := &file{key: "g", size: 5000, chunk: 1000}
		closeReader(t, acquire(t, s, g))
		if g.opened.Load() != 1 || g.closed.Load() != 1 {
			t.Errorf("left unread: opened %d times, closed %d times", g.opened.Load(), g.closed.Load())
		}
		check(t, s)
		h := &file{key: "h", size: 5000, chunk: 1000}
		r := acquire(t, s, h)
		var closing sync.WaitGroup
		closing.Go(func() { closeSpool(t, s) })
		synctest.Wait()
		closeReader(t, r)
		closing.Wait()
		if h.opened.Load() != 1 || h.closed.Load() != 1 {
			t.Errorf("when the spool is closed: opened %d times, closed %d times", h.opened.Load(), h.closed.Load())
		}
	})
}

// TestRefused: a file that is not there is looked for less and less often, however often it is
// asked for, and found when it is there again.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		var looked []time.Duration
		began := time.Now()
		f := &file{key: "f", size: 100, chunk: 100, opening: func(context.Context) error {
			looked = append(looked, time.Since(began))
			return errChunk
		}}
		for time.Since(began) < 100*time.Second {
			if _, err := s.Acquire(t.Context(), f.key, f.size, f.open); !errors.Is(err, errChunk) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		var want []time.Duration
		for _, at := range []int{0, 1, 3, 7, 15, 31, 61, 91} {
			want = append(want, time.Duration(at)*time.Second)
		}
		if !slices.Equal(looked, want) {
			t.Errorf("looked for at %v", looked)
		}
		f.opening = nil
		time.Sleep(30 * time.Second)
		closeReader(t, acquire(t, s, f))
		// Others are remembered, but not any number of them.
		for i := range 5000 {
			g := &file{key: fmt.Sprint("g", i), size: 100, chunk: 100, opening: func(context.Context) error { return errChunk }}
			if _, err := s.Acquire(t.Context(), g.key, g.size, g.open); !errors.Is(err, errChunk) {
				t.Fatal(err)
			}
		}
		if n := s.Refusals(); n > 4096 {
			t.Errorf("%d failures are remembered", n)
		}
	})
}
