package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"spillway/spool"
)

// faults fails the nth call.
type faults struct {
	n     int64
	err   error
	calls atomic.Int64
}

func (f *faults) next() error {
	if f.calls.Add(1) == f.n {
		return fmt.Errorf("injected: %w", f.err)
	}
	return nil
}

// failing runs test with the first call failing, then the second and so on, until none fails.
func failing(t *testing.T, err error, test func(t *testing.T, f *faults)) {
	for n := int64(1); ; n++ {
		f := &faults{n: n, err: err}
		synctest.Test(t, func(t *testing.T) { test(t, f) })
		if t.Failed() {
			t.Fatalf("with call %d failing", n)
		}
		if f.calls.Load() < n {
			return
		}
		if n > 1000 {
			t.Fatal("the calls do not end")
		}
	}
}

func TestCreateFails(t *testing.T) {
	for _, injected := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EMFILE} {
		t.Run(injected.Error(), func(t *testing.T) {
			failing(t, injected, func(t *testing.T, faults *faults) {
				s := openSpool(t, spool.Config{Budget: 400_000, Window: 50_000, Retention: retention})
				defer closeSpool(t, s)
				s.SetCreate(func(dir string, size int64) (*os.File, error) {
					if err := faults.next(); err != nil {
						return nil, err
					}
					return spool.CreateAllocated(dir, size)
				})
				reported := 0
				for i := range 6 {
					f := &file{key: fmt.Sprint("f", i), size: 150_000, chunk: 20_000, seed: uint64(i)}
					r, err := s.Acquire(t.Context(), f.key, f.size, f.open)
					check(t, s)
					if err != nil {
						if !errors.Is(err, injected) {
							t.Errorf("Acquire: %v", err)
						}
						reported++
						continue
					}
					r.Want(spool.Extent{Off: 0, End: f.size})
					read(t, r, f, spool.Extent{Off: 0, End: f.size})
					closeReader(t, r)
					synctest.Wait()
					check(t, s)
				}
				// A full disk costs the oldest idle entry, or, where there is none, makes a
				// window do. Nothing else is made up for.
				snap := s.Snapshot()
				hit := faults.calls.Load() >= faults.n
				switch full := spool.IsFull(injected); {
				case full && reported > 0:
					t.Errorf("%d Acquires failed", reported)
				case full && hit && faults.n == 1 && snap.Windows != 1:
					t.Errorf("the first file has no window: %+v", snap.Totals)
				case full && hit && faults.n > 1 && snap.Windows != 0:
					t.Errorf("a window in spite of idle files: %+v", snap.Totals)
				case !full && hit && reported != 1:
					t.Errorf("%d Acquires failed", reported)
				}
			})
		})
	}
}

// Whoever joined a file that then cannot be created tries for himself.
func TestCreateFailsForJoiner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		release, calls := make(chan struct{}), atomic.Int64{}
		s.SetCreate(func(dir string, size int64) (*os.File, error) {
			if calls.Add(1) == 1 {
				<-release
				return nil, unix.EIO
			}
			return spool.CreateAllocated(dir, size)
		})
		f := &file{key: "f", size: 1000, chunk: 100}
		creator, joiner := make(chan error), make(chan error)
		go func() {
			_, err := s.Acquire(t.Context(), f.key, f.size, f.open)
			creator <- err
		}()
		synctest.Wait()
		go func() {
			r, err := s.Acquire(t.Context(), f.key, f.size, f.open)
			if err == nil {
				err = errors.Join(tryRead(t.Context(), r, f, spool.Extent{Off: 0, End: f.size}, nil), r.Close())
			}
			joiner <- err
		}()
		synctest.Wait()
		close(release)
		if err := <-creator; !errors.Is(err, unix.EIO) {
			t.Errorf("the creator: %v", err)
		}
		if err := <-joiner; err != nil {
			t.Errorf("the joiner: %v", err)
		}
		synctest.Wait()
		check(t, s)
	})
}

// TestRunFails: of a run that fails, what can be had by itself is spooled.
func TestRunFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 1000, chunk: 100, run: 4, before: func(_ context.Context, i int64) error {
			if i == 6 {
				return errChunk
			}
			return nil
		}}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		defer r.Close()
		if err := tryRead(t.Context(), r, f, spool.Extent{Off: 0, End: 600}, nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if err := tryRead(t.Context(), r, f, spool.Extent{Off: 700, End: 1000}, nil); err != nil {
			t.Error(err)
		}
		if err := tryRead(t.Context(), r, f, spool.Extent{Off: 600, End: 700}, nil); !errors.Is(err, errChunk) {
			t.Errorf("chunk 6: %v", err)
		}
		synctest.Wait()
		check(t, s)
		if got := s.Snapshot().Entries[0].SpooledBytes; got != 900 {
			t.Errorf("%d bytes are spooled", got)
		}
		// Chunk 0 alone, as a reader waits for it; 1 to 4; 5 and 6 of the next run, then each of it
		// alone; 9.
		if got, want := f.chunks(), []int64{0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 6}; !slices.Equal(got, want) {
			t.Errorf("decoded %v, want %v", got, want)
		}
	})
}

func TestWriteFails(t *testing.T) {
	for _, injected := range []error{unix.ENOSPC, unix.EIO, errChunk} {
		for _, size := range []int64{150_000, 1_000_000} { // the second in a window
			for _, idle := range []bool{false, true} {
				t.Run(fmt.Sprint(injected, size, idle), func(t *testing.T) {
					failing(t, injected, func(t *testing.T, faults *faults) {
						s := openSpool(t, spool.Config{Budget: 400_000, Window: 100_000, Retention: retention})
						defer closeSpool(t, s)
						if idle {
							spooled(t, s, &file{workers: 2, key: "idle", size: 1000, chunk: 1000})
						}
						f := &file{workers: 2, key: "f", size: size, chunk: 20_000, before: func(context.Context, int64) error { return faults.next() }}
						r := acquire(t, s, f, spool.Extent{Off: 0, End: size})
						told := 0
						for off := int64(0); off < size; {
							err := tryRead(t.Context(), r, f, spool.Extent{Off: off, End: size}, func(run spool.Extent) error {
								off = run.End
								return s.Check()
							})
							if err != nil && !errors.Is(err, injected) {
								t.Fatal(err)
							}
							if err != nil {
								told++
							}
						}
						synctest.Wait()
						check(t, s)
						snap, hit := s.Snapshot(), faults.calls.Load() >= faults.n
						switch {
						case told > 1:
							t.Errorf("told %d times", told)
						case hit && idle && injected == unix.ENOSPC && (snap.Failed != 0 || snap.Evicted != 1):
							t.Errorf("the idle file gave no room: %+v", snap.Totals)
						case hit && !(idle && injected == unix.ENOSPC) && (snap.Failed != 1 || snap.Evicted != 0):
							t.Errorf("the error is not counted: %+v", snap.Totals)
						}
						closeReader(t, r)
					})
				})
			}
		}
	}
}

// Fills that want room on a full disk neither wait for one another nor for
// themselves, whether anybody reads them or not.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		release := make(chan struct{})
		var files []*file
		var readers []*spool.Reader
		for i := range 4 {
			f := &file{workers: 2, key: fmt.Sprint("f", i), size: 10_000, chunk: 1000, before: func(context.Context, int64) error {
				<-release
				return unix.ENOSPC
			}}
			files, readers = append(files, f), append(readers, acquire(t, s, f, spool.Extent{Off: 0, End: f.size}))
		}
		synctest.Wait()
		for _, r := range readers[2:] {
			closeReader(t, r) // lingers
		}
		close(release)
		for i, r := range readers[:2] {
			if _, err := r.Wait(t.Context(), 0); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("Wait: %v", err)
			}
			// Its fill does not go through the file for the sake of the same error.
			if n := len(files[i].chunks()); n > 10 {
				t.Errorf("%d chunks were tried", n)
			}
		}
		synctest.Wait()
		check(t, s)
		wantIDs(t, s, "f0", "f1")
		closeReader(t, readers[0])
		closeReader(t, readers[1])
	})
}

func TestOpenFails(t *testing.T) {
	failing(t, errChunk, func(t *testing.T, faults *faults) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		told := 0
		for i := range 3 {
			f := &file{key: fmt.Sprint("f", i), size: 1000, chunk: 100, opening: func(context.Context) error { return faults.next() }}
			r, err := s.Acquire(t.Context(), f.key, f.size, f.open)
			if err != nil {
				if told++; !errors.Is(err, errChunk) {
					t.Error(err)
				}
			} else {
				read(t, r, f, spool.Extent{Off: 0, End: 1000})
				closeReader(t, r)
			}
			synctest.Wait()
			check(t, s)
		}
		if hit := faults.calls.Load() >= faults.n; hit != (told == 1) {
			t.Errorf("told %d times", told)
		}
	})
}
