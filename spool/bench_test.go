package spool_test

import (
	"context"
	"io"
	"runtime"
	"testing"

	"spillway/spool"
)

// BenchmarkHit is one download of a file that is there already, but for the sending.
func BenchmarkHit(b *testing.B) {
	s := openSpool(b, spool.Config{Budget: budget, Retention: retention})
	defer closeSpool(b, s)
	f := &file{key: "f", size: 64 << 20, chunk: 1 << 20}
	whole := spool.Extent{Off: 0, End: f.size}
	r := acquire(b, s, f, whole)
	defer r.Close()
	read(b, r, f, whole)
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.Acquire(b.Context(), f.key, f.size, f.open)
		if err != nil {
			b.Fatal(err)
		}
		r.Want(whole)
		if n, err := r.Wait(b.Context(), 0); n != f.size || err != nil {
			b.Fatal(n, err)
		}
		r.Close()
	}
}

// zeros is a source that costs nothing.
type zeros struct{ size, chunk int64 }

var nothing = make([]byte, 1<<20)

func (z zeros) Size() int64      { return z.size }
func (z zeros) ChunkSize() int64 { return z.chunk }
func (z zeros) Run() int64       { return 1 }
func (z zeros) Workers() int     { return runtime.GOMAXPROCS(0) }
func (z zeros) Close() error     { return nil }
func (z zeros) WriteChunks(_ context.Context, i, _ int64, w io.WriterAt) error {
	_, err := w.WriteAt(nothing[:min(z.chunk, z.size-i*z.chunk)], i*z.chunk)
	return err
}

// BenchmarkFill is the filling of a file, whole or through a window, by a source that costs
// nothing.
func BenchmarkFill(b *testing.B) {
	for _, test := range []struct {
		name   string
		budget int64
	}{
		{"whole", 1 << 30},
		{"window", 32 << 20},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := openSpool(b, spool.Config{Budget: test.budget, Retention: retention})
			defer closeSpool(b, s)
			z := zeros{64 << 20, 1 << 20}
			b.SetBytes(z.size)
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Acquire(b.Context(), "f", z.size, func(context.Context) (spool.Source, error) { return z, nil })
				if err != nil {
					b.Fatal(err)
				}
				r.Want(spool.Extent{Off: 0, End: z.size})
				for off := int64(0); off < z.size; {
					n, err := r.Wait(b.Context(), off)
					if err != nil {
						b.Fatal(err)
					}
					off += n
				}
				r.Close()
				s.PurgeAll(true)
			}
		})
	}
}
