package spool_test

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"spillway/spool"
)

func TestPurgeIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		for _, key := range []string{"a", "b", "c"} {
			spooled(t, s, &file{key: key, size: 1000, chunk: 300})
		}
		if p, err := s.Purge("b", false); err != nil || p != (spool.Purged{Entries: 1, FreedBytes: 1000}) {
			t.Errorf("Purge: %+v, %v", p, err)
		}
		wantIDs(t, s, "a", "c")
		if _, err := s.Purge("b", false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("again: %v", err)
		}
		r := acquire(t, s, &file{key: "c", size: 1000, chunk: 300})
		if p, err := s.Purge("c", true); err != nil || p != (spool.Purged{}) {
			t.Errorf("in use: %+v, %v", p, err)
		}
		if p := s.PurgeAll(true); p != (spool.Purged{Entries: 1, FreedBytes: 1000}) {
			t.Errorf("PurgeAll: %+v", p)
		}
		wantIDs(t, s, "c")
		closeReader(t, r)
		check(t, s)
		if got := s.Snapshot(); got.Purged != 2 || got.ReservedBytes != 1000 {
			t.Errorf("snapshot: %+v", got)
		}
	})
}

// A purge stops a fill that nobody reads, and returns when its bytes are free.
func TestPurgeLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 1000, chunk: 300}
		gated(f)
		closeReader(t, acquire(t, s, f, spool.Extent{Off: 0, End: 1000}))
		synctest.Wait()
		if p := s.PurgeAll(true); p != (spool.Purged{Entries: 1, FreedBytes: 1000}) {
			t.Errorf("PurgeAll: %+v", p)
		}
		if s.Snapshot().ReservedBytes != 0 || f.closed.Load() != 1 {
			t.Error("the fill goes on")
		}
	})
}

// Readers that lack bytes are cut, those that lack nothing finish; then the bytes are free.
func TestPurgeInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 10 * 5000, chunk: 5000}
		gates := gated(f)
		content := acquire(t, s, f, spool.Extent{Off: 0, End: 10_000})
		lacking := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		for c := range 3 {
			gates[c] <- struct{}{}
		}
		waiting := acquire(t, s, f, spool.Extent{Off: 45_000, End: f.size})
		read(t, content, f, spool.Extent{Off: 0, End: 100})
		var cuts [3]atomic.Int32
		content.OnCut(func() { cuts[0].Add(1) })
		lacking.OnCut(func() { cuts[1].Add(1) })
		got := make(chan error)
		go func() {
			_, err := waiting.Wait(t.Context(), 45_000)
			got <- err
		}()
		synctest.Wait()
		if p, err := s.Purge("f", false); err != nil || p != (spool.Purged{Entries: 1, WaitingBytes: f.size}) {
			t.Errorf("Purge: %+v, %v", p, err)
		}
		if err := <-got; !errors.Is(err, spool.ErrPurged) {
			t.Errorf("the waiting reader: %v", err)
		}
		if _, err := lacking.Wait(t.Context(), 0); !errors.Is(err, spool.ErrPurged) {
			t.Errorf("the lacking reader: %v", err)
		}
		waiting.OnCut(func() { cuts[2].Add(1) })
		synctest.Wait()
		check(t, s)
		wantIDs(t, s, "f~1")
		// Whoever comes now begins anew.
		anew := acquire(t, s, f)
		wantIDs(t, s, "f", "f~1")
		read(t, content, f, spool.Extent{Off: 100, End: 10_000})
		if _, err := content.Wait(t.Context(), 20_000); !errors.Is(err, spool.ErrPurged) {
			t.Errorf("beyond what is there: %v", err)
		}
		// Again: what waits still waits.
		if p, err := s.Purge("f~1", false); err != nil || p != (spool.Purged{WaitingBytes: f.size}) {
			t.Errorf("the second Purge: %+v, %v", p, err)
		}
		closeReader(t, waiting)
		closeReader(t, lacking)
		if got := s.Snapshot().ReservedBytes; got != 2*f.size {
			t.Errorf("%d bytes reserved", got)
		}
		closeReader(t, content)
		wantIDs(t, s, "f")
		if got := s.Snapshot().ReservedBytes; got != f.size {
			t.Errorf("%d bytes reserved", got)
		}
		closeReader(t, anew)
		for i, want := range []int32{0, 1, 1} {
			if n := cuts[i].Load(); n != want {
				t.Errorf("reader %d was cut %d times", i, n)
			}
		}
	})
}

func TestPurgeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 100_000, Window: 30_000, Retention: retention})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 1_000_000, chunk: 5000}
		lacking := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		content := acquire(t, s, f, spool.Extent{Off: 12_345, End: 22_345})
		synctest.Wait()
		if p := s.PurgeAll(false); p != (spool.Purged{Entries: 2, WaitingBytes: 60_000}) {
			t.Errorf("PurgeAll: %+v", p)
		}
		read(t, content, f, spool.Extent{Off: 12_345, End: 22_345})
		if _, err := lacking.Wait(t.Context(), 0); !errors.Is(err, spool.ErrPurged) {
			t.Errorf("Wait: %v", err)
		}
		closeReader(t, lacking)
		closeReader(t, content)
		synctest.Wait()
		wantIDs(t, s)
	})
}

// Close cuts every reader, even one that lacks nothing, and returns when all have left.
func TestCloseCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		f := &file{key: "f", size: 1000, chunk: 100}
		gated(f)
		spooled(t, s, &file{key: "idle", size: 1000, chunk: 100})
		g := &file{key: "g", size: 1000, chunk: 100}
		content := acquire(t, s, g, spool.Extent{Off: 0, End: 1000})
		read(t, content, g, spool.Extent{Off: 0, End: 1000})
		lacking := acquire(t, s, f)
		var cuts atomic.Int32
		content.OnCut(func() { cuts.Add(1) })
		lacking.OnCut(func() { cuts.Add(1) })
		got, closed := make(chan error), make(chan error)
		go func() {
			_, err := lacking.Wait(t.Context(), 0)
			got <- err
		}()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		if err := <-got; !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
		synctest.Wait()
		check(t, s)
		select {
		case <-closed:
			t.Error("Close does not wait for the readers")
		default:
		}
		if _, err := s.Acquire(t.Context(), "f", 1000, f.open); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Acquire: %v", err)
		}
		if _, err := content.Wait(t.Context(), 0); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Wait: %v", err)
		}
		closeReader(t, lacking)
		closeReader(t, content)
		if err := <-closed; err != nil || cuts.Load() != 2 || f.closed.Load() != 1 {
			t.Errorf("Close: %v, %d cuts, the source closed %d times", err, cuts.Load(), f.closed.Load())
		}
		closeSpool(t, s) // a second time
	})
}
