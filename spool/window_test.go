package spool_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"spillway/spool"
)

// Disk usage stays within the reservation, whatever is read in whatever order, and
// what is read is the file's bytes.
func TestWindow(t *testing.T) {
	short := func(size, step, length int64) (extents []spool.Extent) {
		for off := int64(0); off+length <= size; off += step {
			extents = append(extents, spool.Extent{Off: off, End: off + length})
		}
		return extents
	}
	reversed := func(extents []spool.Extent) []spool.Extent {
		slices.Reverse(extents)
		return extents
	}
	for _, test := range []struct {
		name        string
		size, chunk int64
		wants       []spool.Extent
		once        bool // no chunk need be decoded twice
	}{
		{"whole", 4_000_000, 10_000, []spool.Extent{{0, 4_000_000}}, true},
		{"whole, in chunks of a page", 1_000_000, 4096, []spool.Extent{{0, 1_000_000}}, true},
		{"whole, a byte more than a page", 1_000_000, 4097, []spool.Extent{{0, 1_000_000}}, true},
		{"whole, a byte more than chunks", 40*25_000 + 1, 25_000, []spool.Extent{{0, 40*25_000 + 1}}, true},
		{"whole, in chunks far smaller than a page", 700_000, 1001, []spool.Extent{{0, 700_000}}, true},
		{"whole, in chunks larger than the window", 3_000_000, 300_007, []spool.Extent{{0, 3_000_000}}, true},
		{"whole, in chunks of 1000003 bytes", 9_000_100, 1_000_003, []spool.Extent{{0, 9_000_100}}, true},
		{"from the middle", 1_000_000, 10_000, []spool.Extent{{555_555, 1_000_000}}, true},
		{"backwards", 1_000_000, 10_001, reversed(short(1_000_000, 40_000, 40_000)), false},
		{"short extents in far chunks", 4_000_000, 10_000, short(4_000_000, 50_000, 3), true},
		{"short extents backwards", 4_000_000, 10_000, reversed(short(4_000_000, 50_000, 3)), true},
		{"the same again and again", 4_000_000, 10_000, []spool.Extent{{0, 200_000}, {0, 200_000}, {0, 1}, {199_999, 200_000}, {0, 200_000}}, false},
		{"overlapping", 1_000_000, 10_000, short(1_000_000, 10_000, 35_000), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openSpool(t, spool.Config{Budget: 1_000_000 + 2*test.chunk, Window: 100_000, Retention: retention})
				defer closeSpool(t, s)
				pin := acquire(t, s, &file{workers: 3, key: "pin", size: 700_000, chunk: 1000})
				f := &file{workers: 3, key: "f", size: test.size, chunk: test.chunk, seed: 7}
				if test.size <= 300_000+2*test.chunk {
					t.Fatal("this would not need a window")
				}
				r := acquire(t, s, f, test.wants...)
				if !r.Private() {
					t.Fatal("no window")
				}
				for _, x := range test.wants {
					err := tryRead(t.Context(), r, f, x, func(spool.Extent) error { return s.Check() })
					if err != nil {
						t.Fatalf("in %v: %v", x, err)
					}
					synctest.Wait() // the window is as full as it gets
					check(t, s)
				}
				if want := max(100_000, 2*test.chunk); r.Reserved() != want {
					t.Errorf("%d bytes reserved, want %d", r.Reserved(), want)
				}
				decoded := f.chunks()
				slices.Sort(decoded)
				if all := len(decoded); test.once && len(slices.Compact(decoded)) != all {
					t.Errorf("some of %d chunks were decoded again", all)
				}
				closeReader(t, r)
				closeReader(t, pin)
			})
		})
	}
}

// A window does not wait until its reader has nothing left to read.
func TestWindowDecodesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 200_000, Window: 50_000, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 1, key: "f", size: 1_000_000, chunk: 10_000}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		synctest.Wait()
		if n := len(f.chunks()); n != 5 {
			t.Errorf("%d chunks are decoded before the first Wait", n)
		}
		for i := range int64(20) {
			if _, err := r.Wait(t.Context(), i*10_000); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			check(t, s)
			if n := int64(len(f.chunks())); n != i+5 {
				t.Errorf("the reader is in chunk %d, %d are decoded", i, n)
			}
		}
		closeReader(t, r)
		check(t, s)
	})
}

// Wanting something else keeps nothing of what was ahead.
func TestWindowWantsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 60_000, Window: 50_000, Retention: retention})
		defer closeSpool(t, s)
		f := &file{workers: 2, key: "f", size: 10_000_000, chunk: 9999}
		r := acquire(t, s, f)
		for i := range int64(60) {
			off := i * 3_797_213 % 9_000_000
			x := spool.Extent{Off: off, End: off + 500 + i%5*9000}
			r.Want(x)
			synctest.Wait()
			if err := tryRead(t.Context(), r, f, x, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			check(t, s)
		}
		closeReader(t, r)
	})
}

// A chunk that fails in a window can be had later.
func TestWindowChunkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 200_000, Window: 50_000, Retention: retention})
		defer closeSpool(t, s)
		tries := make(map[int64]int) // guarded by f.mu
		f := &file{workers: 2, key: "f", size: 1_000_000, chunk: 10_000}
		fail := func(_ context.Context, i int64) error {
			if tries[i]++; tries[i] == 1 && i%7 == 3 {
				return errChunk
			}
			return nil
		}
		f.before = func(ctx context.Context, i int64) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			return fail(ctx, i)
		}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		failures := 0
		for off := int64(0); off < f.size; {
			err := tryRead(t.Context(), r, f, spool.Extent{Off: off, End: f.size}, func(run spool.Extent) error {
				off = run.End
				return s.Check()
			})
			if err != nil && !errors.Is(err, errChunk) {
				t.Fatal(err)
			}
			if err != nil {
				failures++
			}
			check(t, s)
		}
		if failures > 14 {
			t.Errorf("%d failures of 14 chunks", failures)
		}
		closeReader(t, r)
	})
}

// A window whose chunks are larger than configured takes what it needs from idle
// files, or is refused; it takes nothing from files in use.
func TestWindowGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 850_000, Window: 50_000, Retention: retention})
		defer closeSpool(t, s)
		pin := acquire(t, s, &file{key: "pin", size: 100_000, chunk: 1000})
		spooled(t, s, &file{key: "a", size: 300_000, chunk: 100_000})
		spooled(t, s, &file{key: "b", size: 300_000, chunk: 100_000})
		f := &file{key: "f", size: 2_000_000, chunk: 200_000}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		wantIDs(t, s, "a", "b", "f~1", "pin")
		read(t, r, f, spool.Extent{Off: 0, End: f.size})
		wantIDs(t, s, "b", "f~1", "pin")
		second := acquire(t, s, f)
		if _, err := second.Wait(t.Context(), 0); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Wait: %v", err)
		}
		closeReader(t, second)
		read(t, r, f, spool.Extent{Off: 0, End: 1})
		closeReader(t, r)
		closeReader(t, pin)
		check(t, s)
	})
}

// Two windows of one file know nothing of each other.
func TestWindowsOfOneFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: 200_000, Window: 50_000, Retention: retention})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 1_000_000, chunk: 10_000}
		one := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		two := acquire(t, s, f, spool.Extent{Off: 500_000, End: f.size})
		wantIDs(t, s, "f~1", "f~2")
		for off := int64(0); off < 500_000; off += 50_000 {
			read(t, one, f, spool.Extent{Off: off, End: off + 50_000})
			read(t, two, f, spool.Extent{Off: off + 500_000, End: off + 550_000})
			check(t, s)
		}
		closeReader(t, one)
		closeReader(t, two)
		synctest.Wait()
		wantIDs(t, s)
	})
}
