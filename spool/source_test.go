package spool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/spool"
)

// Limits of a spool in tests that are about others.
const (
	budget    = 10 << 30
	retention = 2 * time.Hour
)

// pattern writes the bytes that the file seed has at off into p. No aligned eight
// of them are zero, as in a hole.
func pattern(p []byte, seed uint64, off int64) {
	var word [8]byte
	for i := 0; i < len(p); {
		at := off + int64(i)
		x := (seed+1)*0x9e3779b97f4a7c15 + uint64(at/8)*0xbf58476d1ce4e5b9
		x ^= x >> 29
		x |= 0x0101010101010101
		if at%8 == 0 && len(p)-i >= 8 {
			binary.LittleEndian.PutUint64(p[i:], x)
			i += 8
			continue
		}
		binary.LittleEndian.PutUint64(word[:], x)
		i += copy(p[i:], word[at%8:])
	}
}

// file makes Sources of one file.
type file struct {
	key         string
	size, chunk int64
	run         int64 // 0 is 1
	workers     int   // 0 is two
	seed        uint64
	// before, if set, is called before a chunk is written; its error is the chunk's.
	before func(ctx context.Context, i int64) error
	// opening, if set, is called before a Source is made; its error is open's.
	opening func(ctx context.Context) error

	opened, closed atomic.Int64
	mu             sync.Mutex
	decoded        []int64 // chunk numbers in the order of their decoding; guarded by mu
}

func (f *file) open(ctx context.Context) (spool.Source, error) {
	if f.opening != nil {
		if err := f.opening(ctx); err != nil {
			return nil, err
		}
	}
	f.opened.Add(1)
	return &source{f: f}, nil
}

// holdOpening keeps the file's openings until release is called; then they end with err.
func (f *file) holdOpening(err error) (release func()) {
	held := make(chan struct{})
	f.opening = func(context.Context) error {
		<-held
		return err
	}
	return func() { close(held) }
}

// refused expects the file's opening to fail with want for count who come together. It returns
// when they wait; wait returns when they all have the error.
func (f *file) refused(t *testing.T, s *spool.Spool, count int, want error) (wait func()) {
	t.Helper()
	var claims sync.WaitGroup
	for range count {
		claims.Go(func() {
			if _, err := s.Acquire(t.Context(), f.key, f.size, f.open); !errors.Is(err, want) {
				t.Errorf("Acquire: %v", err)
			}
		})
	}
	synctest.Wait()
	return claims.Wait
}

// chunks returns the chunks decoded so far, in the order in which they were begun.
func (f *file) chunks() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]int64(nil), f.decoded...)
}

// bytes returns the file's bytes [from, to).
func (f *file) bytes(from, to int64) []byte {
	p := make([]byte, to-from)
	pattern(p, f.seed, from)
	return p
}

type source struct {
	f      *file
	inside atomic.Int64
	closed atomic.Bool
}

func (s *source) Size() int64      { return s.f.size }
func (s *source) ChunkSize() int64 { return s.f.chunk }
func (s *source) Run() int64       { return max(1, s.f.run) }

func (s *source) Workers() int {
	if s.f.workers == 0 {
		return 2
	}
	return s.f.workers
}

func (s *source) WriteChunks(ctx context.Context, i, n int64, w io.WriterAt) error {
	s.inside.Add(1)
	defer s.inside.Add(-1)
	if s.closed.Load() {
		panic("WriteChunks after Close")
	}
	from, to := i*s.f.chunk, min((i+n)*s.f.chunk, s.f.size)
	if i < 0 || n < 1 || n > s.Run() || (i+n-1)*s.f.chunk >= s.f.size {
		panic(fmt.Sprintf("WriteChunks of %d chunks from %d on", n, i))
	}
	for c := i; c < i+n; c++ {
		s.f.mu.Lock()
		s.f.decoded = append(s.f.decoded, c)
		s.f.mu.Unlock()
		if s.f.before != nil {
			if err := s.f.before(ctx, c); err != nil {
				return err
			}
		}
	}
	_, err := w.WriteAt(s.f.bytes(from, to), from)
	return err
}

func (s *source) Close() error {
	if s.inside.Load() != 0 || s.closed.Swap(true) {
		panic("Close during WriteChunks, or twice")
	}
	s.f.closed.Add(1)
	return nil
}

// openSpool opens a spool in a directory of the test's own.
func openSpool(t testing.TB, cfg spool.Config) *spool.Spool {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.AllowTmpfs = true
	s, err := spool.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closeSpool closes s, whose readers are all closed, and looks whether anything is left.
func closeSpool(t testing.TB, s *spool.Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	check(t, s)
	if snap := s.Snapshot(); snap.ReservedBytes != 0 || len(snap.Entries) != 0 {
		t.Errorf("after Close: %d bytes reserved, %d entries", snap.ReservedBytes, len(snap.Entries))
	}
}

func check(t testing.TB, s *spool.Spool) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}

func acquire(t testing.TB, s *spool.Spool, f *file, wants ...spool.Extent) *spool.Reader {
	t.Helper()
	r, err := s.Acquire(t.Context(), f.key, f.size, f.open)
	if err != nil {
		t.Fatalf("acquiring %s: %v", f.key, err)
	}
	if len(wants) > 0 {
		r.Want(wants...)
	}
	return r
}

func closeReader(t testing.TB, r *spool.Reader) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// read reads the extent as a server would, a run at a time, and compares.
func read(t testing.TB, r *spool.Reader, f *file, x spool.Extent) {
	t.Helper()
	if err := tryRead(t.Context(), r, f, x, nil); err != nil {
		t.Fatalf("reading %v of %s: %v", x, f.key, err)
	}
}

// tryRead is read that returns what Wait says. each, if set, is called after each run; its error
// ends the reading.
func tryRead(ctx context.Context, r *spool.Reader, f *file, x spool.Extent, each func(spool.Extent) error) error {
	for off := x.Off; off < x.End; {
		n, err := r.Wait(ctx, off)
		if err != nil {
			return err
		}
		if n < 1 || off+n > f.size {
			return fmt.Errorf("Wait(%d) returned %d", off, n)
		}
		run := spool.Extent{Off: off, End: min(off+n, x.End)}
		if err := compare(r, f, run); err != nil {
			return err
		}
		off = run.End
		if each != nil {
			if err := each(run); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare compares the bytes of x in g with those of f.
func compare(g io.ReaderAt, f *file, x spool.Extent) error {
	got := make([]byte, x.End-x.Off)
	if _, err := g.ReadAt(got, x.Off); err != nil {
		return fmt.Errorf("reading [%d, %d): %w", x.Off, x.End, err)
	}
	want := f.bytes(x.Off, x.End)
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, not %#x", x.Off+int64(i), got[i], want[i])
		}
	}
	panic("internal error: equal bytes are not equal")
}

// isGone tells whether err says that there is no such entry.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// ReadAt reads what f holds, without a spool.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), f.size-off)
	pattern(p[:n], f.seed, off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}
