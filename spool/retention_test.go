package spool_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"spillway/spool"
)

// spooled reads the whole of f into s and leaves it.
func spooled(t *testing.T, s *spool.Spool, f *file) {
	t.Helper()
	r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
	read(t, r, f, spool.Extent{Off: 0, End: f.size})
	closeReader(t, r)
	synctest.Wait()
	check(t, s)
}

func ids(s *spool.Spool) (ids []string) {
	for _, e := range s.Snapshot().Entries {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	return ids
}

func wantIDs(t *testing.T, s *spool.Spool, want ...string) {
	t.Helper()
	if got := ids(s); !slices.Equal(got, want) {
		t.Errorf("the spool holds %v, want %v", got, want)
	}
}

// Entries go in the order in which their last readers left, and only as many as must.
func TestEvictionOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 4000, Retention: retention})
		defer closeSpool(t, s)
		files := map[string]*file{}
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			files[key] = &file{key: key, size: 1000, chunk: 300}
		}
		for _, key := range []string{"a", "b", "c", "d"} {
			spooled(t, s, files[key])
		}
		spooled(t, s, files["a"]) // of the four now the last
		pinned := acquire(t, s, files["c"])
		spooled(t, s, files["e"])
		wantIDs(t, s, "a", "c", "d", "e")
		spooled(t, s, files["f"])
		wantIDs(t, s, "a", "c", "e", "f")
		// Two at once, the pinned one spared, though it left before them.
		spooled(t, s, &file{key: "big", size: 2000, chunk: 300})
		wantIDs(t, s, "big", "c", "f")
		read(t, pinned, files["c"], spool.Extent{Off: 0, End: 1000})
		closeReader(t, pinned)
		if got := s.Snapshot(); got.Evicted != 4 {
			t.Errorf("evicted %d", got.Evicted)
		}
	})
}

// What cannot be had even by giving up all idle entries costs none of them.
func TestNoVainEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 4000, Window: 1000, Retention: retention})
		defer closeSpool(t, s)
		spooled(t, s, &file{key: "a", size: 1000, chunk: 300})
		r := acquire(t, s, &file{key: "large", size: 5000, chunk: 300})
		if !r.Private() {
			t.Error("5000 bytes in a budget of 4000")
		}
		wantIDs(t, s, "a", "large~1")
		closeReader(t, r)
		wantIDs(t, s, "a")
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: time.Hour})
		defer closeSpool(t, s)
		a, b := &file{key: "a", size: 1000, chunk: 300}, &file{key: "b", size: 1000, chunk: 300}
		spooled(t, s, a)
		time.Sleep(40 * time.Minute)
		spooled(t, s, b)
		r := acquire(t, s, a)
		time.Sleep(3 * time.Hour)
		wantIDs(t, s, "a")
		other := acquire(t, s, a)
		closeReader(t, r)
		time.Sleep(3 * time.Hour)
		closeReader(t, other) // only now does retention begin
		time.Sleep(time.Hour - time.Nanosecond)
		synctest.Wait()
		wantIDs(t, s, "a")
		if e := s.Snapshot().Entries[0]; e.ExpiresIn != 1 || e.Idle != time.Hour-1 || e.Age != 7*time.Hour+40*time.Minute-1 {
			t.Errorf("entry: %+v", e)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantIDs(t, s)
		check(t, s)
		if got := s.Snapshot(); got.Expired != 2 || got.ReservedBytes != 0 {
			t.Errorf("snapshot: %+v", got)
		}
		spooled(t, s, a) // the reaper sleeps no deeper for having had nothing to do
		time.Sleep(time.Hour)
		synctest.Wait()
		wantIDs(t, s)
		if n := len(a.chunks()); n != 8 {
			t.Errorf("decoded %d chunks of a", n)
		}
	})
}

// Without retention a file goes with its last reader, and its fill does not linger.
func TestNoRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 100_000, Window: 10_000})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 100_000, chunk: 1000, before: func(ctx context.Context, i int64) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		first := acquire(t, s, f, spool.Extent{Off: 0, End: 10_000})
		read(t, first, f, spool.Extent{Off: 0, End: 1})
		second := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		closeReader(t, first) // somebody is still there
		read(t, second, f, spool.Extent{Off: 0, End: 10_000})
		closeReader(t, second)
		synctest.Wait()
		wantIDs(t, s)
		if got := s.Snapshot(); f.closed.Load() != 1 || got.ReservedBytes != 0 || got.Expired != 1 {
			t.Errorf("the source was closed %d times, snapshot: %+v", f.closed.Load(), got)
		}
		check(t, s)

		// Whoever comes back has only what he asks for decoded again, in a file of the whole
		// budget.
		before := len(f.chunks())
		resumed := acquire(t, s, f, spool.Extent{Off: 50_500, End: f.size})
		if resumed.Private() {
			t.Error("the bytes of the first file are not free")
		}
		read(t, resumed, f, spool.Extent{Off: 50_500, End: f.size})
		if got := f.chunks()[before:]; !slices.Equal(got[:50], upTo(100)[50:]) {
			t.Errorf("decoded %v", got)
		}
		closeReader(t, resumed)
		// At once, while the fill of the one before is still to end.
		again := acquire(t, s, f, spool.Extent{Off: 0, End: 10})
		if again.Private() {
			t.Error("the bytes of the file before are not free")
		}
		read(t, again, f, spool.Extent{Off: 0, End: 10})
		closeReader(t, again)
		synctest.Wait()
		wantIDs(t, s)
		check(t, s)
	})
}

// Retention ends a fill that would linger for longer.
func TestRetentionShorterThanLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: time.Second, Linger: time.Hour})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 1000, chunk: 100}
		gated(f)
		closeReader(t, acquire(t, s, f, spool.Extent{Off: 0, End: f.size}))
		time.Sleep(time.Second)
		synctest.Wait()
		wantIDs(t, s)
		if f.closed.Load() != 1 {
			t.Error("the fill goes on")
		}
	})
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		cfg  spool.Config
		want string
	}{
		{spool.Config{}, "a budget of 0 bytes"},
		{spool.Config{Budget: -5}, "a budget of -5 bytes"},
		{spool.Config{Budget: 1, Retention: -time.Second}, "a retention of -1s"},
		{spool.Config{Budget: 1, Linger: -time.Minute}, "a linger time of -1m0s"},
		{spool.Config{Budget: 1, Window: -4096}, "a window of -4096 bytes"},
	} {
		test.cfg.Dir, test.cfg.AllowTmpfs = t.TempDir(), true
		s, err := spool.Open(test.cfg)
		if s != nil || !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, %v", test.cfg, s, err)
		}
	}
}

// A fill outlives its last reader for the linger time, then pauses, and goes on with what is there.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Linger: 30 * time.Second, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 100 * 500, chunk: 500}
		f.before = func(ctx context.Context, i int64) error {
			time.Sleep(time.Second)
			return ctx.Err()
		}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		read(t, r, f, spool.Extent{Off: 0, End: 10 * 500})
		closeReader(t, r)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		check(t, s)
		if got, n := s.States(), len(f.chunks()); !slices.Equal(got, []string{"f paused 20000"}) || n != 40 || f.closed.Load() != 1 {
			t.Errorf("%v, %d chunks decoded, the source closed %d times", got, n, f.closed.Load())
		}
		// What is there costs nothing, and a reader that lacks nothing starts nothing.
		r = acquire(t, s, f, spool.Extent{Off: 0, End: 40 * 500})
		read(t, r, f, spool.Extent{Off: 0, End: 40 * 500})
		synctest.Wait()
		if f.opened.Load() != 1 {
			t.Error("the source was opened for nothing")
		}
		r.Want(spool.Extent{Off: 0, End: f.size})
		read(t, r, f, spool.Extent{Off: 0, End: f.size})
		synctest.Wait()
		if got, n := s.States(), len(f.chunks()); !slices.Equal(got, []string{"f complete 50000"}) || n != 100 || f.opened.Load() != 2 {
			t.Errorf("%v, %d chunks decoded, opened %d times", got, n, f.opened.Load())
		}
		closeReader(t, r)
	})
}

// A reader that comes back within the linger time finds the fill at work.
func TestLingerReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Linger: 5 * time.Second, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 2, key: "f", size: 100 * 500, chunk: 500, before: func(ctx context.Context, i int64) error {
			time.Sleep(time.Second)
			return ctx.Err()
		}}
		for range 12 {
			r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
			time.Sleep(time.Second)
			closeReader(t, r)
			time.Sleep(4 * time.Second)
		}
		synctest.Wait()
		if got := s.States(); !slices.Equal(got, []string{"f complete 50000"}) || f.opened.Load() != 1 {
			t.Errorf("%v, opened %d times", got, f.opened.Load())
		}
	})
}

// The budget counts bytes until their file is closed, not until the index has forgotten them.
func TestBudgetUntilFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 1000, Linger: time.Hour, Retention: retention})
		defer closeSpool(t, s)
		finish := make(chan struct{})
		f := &file{workers: 1, key: "f", size: 1000, chunk: 500, before: func(ctx context.Context, i int64) error {
			<-ctx.Done()
			<-finish // a source that is slow to give up
			return ctx.Err()
		}}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: 1000})
		synctest.Wait()
		closeReader(t, r)
		g := &file{workers: 1, key: "g", size: 1000, chunk: 500}
		var acquired sync.WaitGroup
		acquired.Go(func() {
			r, err := s.Acquire(t.Context(), g.key, g.size, g.open)
			if err != nil {
				t.Error(err)
				return
			}
			read(t, r, g, spool.Extent{Off: 0, End: 1000})
			closeReader(t, r)
		})
		synctest.Wait()
		check(t, s)
		if got := s.Snapshot(); got.ReservedBytes != 1000 || len(got.Entries) != 1 || got.Entries[0].State != spool.Leaving {
			t.Errorf("snapshot: %+v", got)
		}
		close(finish)
		acquired.Wait()
		check(t, s)
		wantIDs(t, s, "g")
	})
}

func TestErrFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 100_000, Window: 40_000, Retention: retention})
		defer closeSpool(t, s)
		pin := acquire(t, s, &file{key: "pin", size: 30_000, chunk: 5000})
		f := &file{key: "f", size: 1_000_000, chunk: 5000}
		one := acquire(t, s, f)
		if _, err := s.Acquire(t.Context(), f.key, f.size, f.open); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Acquire: %v", err)
		}
		// Who came first is not harmed.
		one.Want(spool.Extent{Off: 0, End: 200_000})
		read(t, one, f, spool.Extent{Off: 0, End: 200_000})
		closeReader(t, one)
		two := acquire(t, s, f)
		read(t, two, f, spool.Extent{Off: 0, End: 10})
		closeReader(t, two)
		closeReader(t, pin)
		if got := s.Snapshot(); got.Refused != 1 || got.Windows != 2 {
			t.Errorf("totals: %+v", got.Totals)
		}
	})
}

func TestErrFullWithoutHoles(t *testing.T) {
	s := openSpool(t, spool.Config{Budget: 100_000, Window: 40_000, Retention: retention})
	defer closeSpool(t, s)
	s.DisallowHoles()
	f := &file{key: "f", size: 1_000_000, chunk: 5000}
	if _, err := s.Acquire(t.Context(), f.key, f.size, f.open); !errors.Is(err, spool.ErrFull) {
		t.Errorf("Acquire: %v", err)
	}
}
