package spool_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"spillway/spool"
)

// TestLook: who only looks at a file has that decoded and nothing more, unless he comes back for
// another part of it.
func TestLook(t *testing.T) {
	const chunk, chunks = 1000, 100
	for _, test := range []struct {
		name  string
		wants [][]spool.Extent // of one reader after the other
		want  []int64          // chunks, in ascending order; nil: all
	}{
		{"the beginning", [][]spool.Extent{{{Off: 0, End: 1}}}, []int64{0}},
		{"the end", [][]spool.Extent{{{Off: chunk*chunks - 10, End: chunk * chunks}}}, []int64{99}},
		{"both", [][]spool.Extent{{{Off: 0, End: 10}, {Off: chunk*chunks - 10, End: chunk * chunks}}}, []int64{0, 99}},
		{"a sixteenth", [][]spool.Extent{{{Off: 0, End: chunk * chunks / 16}}}, []int64{0, 1, 2, 3, 4, 5, 6}},
		{"more than a sixteenth", [][]spool.Extent{{{Off: 0, End: chunk*chunks/16 + 1}}}, nil},
		{"the same again", [][]spool.Extent{{{Off: 0, End: 1}}, {{Off: 0, End: 1}}}, []int64{0}},
		{"another part", [][]spool.Extent{{{Off: 0, End: 1}}, {{Off: 50_000, End: 50_001}}}, nil},
		{"everything", [][]spool.Extent{{{Off: 0, End: chunk * chunks}}}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
			defer closeSpool(t, s)
			f := &file{key: "f", size: chunk * chunks, chunk: chunk}
			for _, wants := range test.wants {
				r := acquire(t, s, f, wants...)
				for _, x := range wants {
					read(t, r, f, x)
				}
				closeReader(t, r)
				synctest.Wait()
				check(t, s)
			}
			got := f.chunks()
			slices.Sort(got)
			want := test.want
			if want == nil {
				want = upTo(chunks)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: decoded %v", test.name, got)
			}
			if f.opened.Load() != f.closed.Load() {
				t.Errorf("%s: opened %d times, closed %d times", test.name, f.opened.Load(), f.closed.Load())
			}
		})
	}
}
