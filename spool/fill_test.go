package spool_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"spillway/spool"
)

var errChunk = errors.New("this chunk cannot be had")

// gated makes f decode chunk i only when a token for it comes out of its gate, or
// never when the entry ends first.
func gated(f *file) (gates []chan struct{}) {
	for range (f.size-1)/f.chunk + 1 {
		gates = append(gates, make(chan struct{}))
	}
	f.before = func(ctx context.Context, i int64) error {
		select {
		case <-gates[i]:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return gates
}

// A file of the spool has no name, at no time: neither while it fills nor after.
func TestNoName(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, spool.Config{Budget: budget, Dir: dir, Retention: retention})
	defer closeSpool(t, s)
	empty := func() error {
		names, err := os.ReadDir(dir)
		if len(names) > 0 {
			return errors.New("there is a " + names[0].Name())
		}
		return err
	}
	f := &file{key: "f", size: 100_000, chunk: 4097, before: func(context.Context, int64) error { return empty() }}
	r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
	defer r.Close()
	read(t, r, f, spool.Extent{Off: 0, End: f.size})
	if err := empty(); err != nil {
		t.Error(err)
	}
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(r.SpoolFile().Fd())))
	if err != nil || !strings.HasSuffix(link, " (deleted)") {
		t.Errorf("the descriptor's name is %q, %v", link, err)
	}
}

func TestOpenDirectory(t *testing.T) {
	if _, err := spool.Open(spool.Config{Budget: budget, Dir: filepath.Join(t.TempDir(), "none"), Retention: retention}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := spool.Open(spool.Config{Budget: budget, Dir: file, AllowTmpfs: true, Retention: retention}); err == nil {
		s.Close()
		t.Error("a file for a directory was accepted")
	}
}

func TestAcquireSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 1 << 20, Window: 64 << 10, Retention: retention})
		defer closeSpool(t, s)
		for _, size := range []int64{0, -1, math.MinInt64} {
			if _, err := s.Acquire(t.Context(), "f", size, nil); !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		small := acquire(t, s, &file{key: "small", size: 1, chunk: 1})
		// Whoever writes a capability chooses the size in it; the budget holds all the same.
		huge := acquire(t, s, &file{key: "huge", size: math.MaxInt64, chunk: math.MaxInt64/2 - 1})
		if !huge.Private() {
			t.Fatal("the largest size is set aside")
		}
		check(t, s)
		if _, err := huge.Wait(t.Context(), math.MaxInt64-1); !errors.Is(err, spool.ErrFull) {
			t.Error(err)
		}
		closeReader(t, huge)
		closeReader(t, small)
	})
}

// A reader waits for its own bytes, not for the file.
func TestReaderOfFillingFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 10 * 5000, chunk: 5000}
		gates := gated(f)
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		gates[0] <- struct{}{}
		synctest.Wait()
		if n, err := r.Wait(t.Context(), 100); n != 4900 || err != nil {
			t.Fatalf("Wait: %d, %v", n, err)
		}
		read(t, r, f, spool.Extent{Off: 0, End: 5000})
		for _, c := range []int64{1, 2} {
			gates[c] <- struct{}{}
		}
		read(t, r, f, spool.Extent{Off: 5000, End: 3 * 5000})
		check(t, s)
		if got := s.States(); !slices.Equal(got, []string{"f filling 15000"}) {
			t.Error(got)
		}
		closeReader(t, r)
	})
}

// A range far ahead is decoded next: what is under way is all that comes before.
func TestFarAhead(t *testing.T) {
	const workers = 3
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: workers, key: "f", size: 100 * 5000, chunk: 5000}
		gates := gated(f)
		first := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		synctest.Wait() // the workers are in chunks 0, 1, 2
		far := acquire(t, s, f, spool.Extent{Off: 90 * 5000, End: 91 * 5000})
		got := make(chan error, 1)
		go func() { got <- tryRead(t.Context(), far, f, spool.Extent{Off: 90 * 5000, End: 91 * 5000}, nil) }()
		synctest.Wait()
		gates[1] <- struct{}{}
		gates[90] <- struct{}{}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := f.chunks(); len(got) != workers+2 || got[workers] != 90 {
			t.Errorf("decoded %v", got)
		}
		check(t, s)
		closeReader(t, far)
		closeReader(t, first)
	})
}

// Each chunk is decoded once, however many clients come.
func TestOneDecode(t *testing.T) {
	s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
	defer closeSpool(t, s)
	f := &file{workers: 4, key: "f", size: 1<<20 + 1, chunk: 4097}
	var clients sync.WaitGroup
	for i := range 64 {
		clients.Go(func() {
			r, err := s.Acquire(t.Context(), f.key, f.size, f.open)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			from := int64(i) * 16 << 10
			for _, x := range []spool.Extent{{Off: from, End: f.size}, {Off: 0, End: from}} {
				r.Want(x)
				if err := tryRead(t.Context(), r, f, x, nil); err != nil {
					t.Error(err)
				}
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	decoded := f.chunks()
	slices.Sort(decoded)
	if want := upTo((f.size-1)/f.chunk + 1); !slices.Equal(decoded, want) {
		t.Errorf("decoded %d chunks, want %d", len(decoded), len(want))
	}
	if f.opened.Load() != 1 {
		t.Errorf("opened %d times", f.opened.Load())
	}
	snap := s.Snapshot()
	if snap.Hits != 63 || snap.Misses != 1 || snap.ChunksWritten != int64(len(decoded)) || snap.BytesWritten != f.size {
		t.Errorf("totals: %+v", snap.Totals)
	}
}

func TestOpenError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		errOpen := errors.New("no servers")
		f := &file{key: "f", size: 100, chunk: 100}
		release := f.holdOpening(errOpen)
		wait := f.refused(t, s, 3, errOpen)
		release()
		wait()
		check(t, s)
		// For a while nothing is tried; then the next comer tries anew.
		f.opening = nil
		if _, err := s.Acquire(t.Context(), f.key, f.size, f.open); !errors.Is(err, errOpen) {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(time.Second)
		r := acquire(t, s, f)
		read(t, r, f, spool.Extent{Off: 0, End: 100})
		closeReader(t, r)
		check(t, s)
	})
}

// A source that is not what was announced is an error, not wrong bytes.
func TestOtherSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		for _, other := range []*file{{size: 101, chunk: 10}, {size: 100, chunk: 0}, {size: 100, chunk: -1}} {
			if _, err := s.Acquire(t.Context(), "f", 100, other.open); err == nil {
				t.Errorf("a source of %d bytes by %d was accepted", other.size, other.chunk)
			}
			time.Sleep(time.Minute) // after which it is looked for again
			if other.closed.Load() != 1 {
				t.Error("the source was not closed")
			}
		}
	})
}

// A chunk that fails concerns those who wait for it. Others go on, and who comes
// back for it has it tried again.
func TestChunkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		fail := true // read by the source only while the test waits for it
		f := &file{workers: 2, key: "f", size: 10 * 5000, chunk: 5000, before: func(_ context.Context, i int64) error {
			if i == 4 && fail {
				return errChunk
			}
			return nil
		}}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		other := acquire(t, s, f)
		synctest.Wait()
		if got := s.States(); !slices.Equal(got, []string{"f failed 45000"}) {
			t.Error(got)
		}
		if e := s.Snapshot().Entries[0]; e.Key != "f" || !errors.Is(e.Err, errChunk) {
			t.Errorf("entry %+v", e)
		}
		read(t, r, f, spool.Extent{Off: 0, End: 4 * 5000})
		for range 2 {
			if _, err := r.Wait(t.Context(), 4*5000); !errors.Is(err, errChunk) {
				t.Errorf("Wait: %v", err)
			}
		}
		read(t, other, f, spool.Extent{Off: 5 * 5000, End: f.size})
		synctest.Wait()
		fail = false
		read(t, r, f, spool.Extent{Off: 4 * 5000, End: f.size})
		synctest.Wait()
		check(t, s)
		if got := s.States(); !slices.Equal(got, []string{"f complete 50000"}) {
			t.Error(got)
		}
		if e := s.Snapshot().Entries[0]; e.Err != nil {
			t.Errorf("entry %+v", e)
		}
		if n := len(f.chunks()); n != 13 {
			t.Errorf("decoded %d chunks", n)
		}
		closeReader(t, r)
		closeReader(t, other)
	})
}

// A chunk that failed is tried again at once, though another takes for ever.
func TestChunkFailsBesideSlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		tries := 0 // of chunk 1, one after the other
		f := &file{workers: 2, key: "f", size: 3000, chunk: 1000, before: func(ctx context.Context, i int64) error {
			switch i {
			case 1:
				if tries++; tries == 1 {
					return errChunk
				}
			case 2:
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: 2000})
		synctest.Wait()
		read(t, r, f, spool.Extent{Off: 0, End: 2000})
		check(t, s)
		closeReader(t, r)
	})
}

func TestWaitCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 100, chunk: 50}
		gates := gated(f)
		r := acquire(t, s, f)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Wait(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v", err)
		}
		check(t, s)
		gates[0] <- struct{}{}
		synctest.Wait()
		// What is there is there, context or not; the next chunk is not.
		if n, err := r.Wait(ctx, 0); n != 50 || err != nil {
			t.Errorf("Wait: %d, %v", n, err)
		}
		if _, err := r.Wait(ctx, 50); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v", err)
		}
		for _, off := range []int64{-1, 100, math.MaxInt64} {
			if _, err := r.Wait(t.Context(), off); err != io.EOF {
				t.Errorf("Wait(%d): %v", off, err)
			}
		}
		closeReader(t, r)
		if err := r.Close(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("the second Close: %v", err)
		}
	})
}

// TestWaitAlone: while a reader waits for a chunk, only what is wanted is decoded beside it; when
// it gives up, the rest is.
func TestWaitAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		release, waits := make(chan struct{}), make(chan struct{})
		f := &file{workers: 2, key: "f", size: 1000, chunk: 100, before: func(_ context.Context, i int64) error {
			switch i {
			case 5:
				<-release
			case 6:
				<-waits
			}
			return nil
		}}
		r := acquire(t, s, f, spool.Extent{Off: 500, End: 620})
		defer r.Close()
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error)
		go func() {
			_, err := r.Wait(ctx, 500)
			waited <- err
		}()
		synctest.Wait()
		close(waits)
		synctest.Wait()
		if got := f.chunks(); !slices.Contains(got, 5) || slices.Contains(got, 9) {
			t.Errorf("decoding %v while the reader waits", got)
		}
		cancel()
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if got := len(f.chunks()); got != 10 {
			t.Errorf("%d chunks are decoded when the reader has given up", got)
		}
		close(release)
		synctest.Wait()
		check(t, s)
	})
}

// What lies outside the file cannot be wanted.
func TestWantOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 100, chunk: 30}
		r := acquire(t, s, f, spool.Extent{Off: 200, End: 300}, spool.Extent{Off: -5, End: 40},
			spool.Extent{Off: 50, End: 50}, spool.Extent{Off: 60, End: 20}, spool.Extent{Off: 90, End: math.MaxInt64}, spool.Extent{Off: 100, End: 101})
		read(t, r, f, spool.Extent{Off: 0, End: 40})
		read(t, r, f, spool.Extent{Off: 90, End: 100})
		synctest.Wait()
		check(t, s)
		closeReader(t, r)
	})
}

// TestManyWorkers: as many chunks are decoded in front of a reader that waits as the source has
// workers for, and nothing elsewhere.
func TestManyWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 30, key: "f", size: 100 * 1000, chunk: 1000}
		gates := gated(f)
		r := acquire(t, s, f, spool.Extent{Off: 40_000, End: f.size})
		waited := make(chan error)
		go func() {
			_, err := r.Wait(t.Context(), 40_000)
			waited <- err
		}()
		synctest.Wait()
		got := f.chunks()
		if slices.Sort(got); len(got) != 30 || got[0] != 40 || got[29] != 69 {
			t.Errorf("decoding %v", got)
		}
		gates[40] <- struct{}{}
		if err := <-waited; err != nil {
			t.Error(err)
		}
		closeReader(t, r)
	})
}
