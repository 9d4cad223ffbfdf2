// Package gridtest holds every kind of storage server to what grid.Server promises.
package gridtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"spillway/decode/grid"
)

// Run tests the servers that start makes, one for each test, which lives as long as
// its test. What they hold does not matter: every test has storage indexes of its own.
func Run(t *testing.T, start func(t *testing.T) grid.Server) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s grid.Server)
	}{
		{"Absent", absent},
		{"ReadAt", readAt},
		{"Orders", orders},
		{"Large", large},
		{"ManyShares", manyShares},
		{"Existing", existing},
		{"Abort", abort},
		{"Invalid", invalid},
		{"Cancelled", cancelled},
		{"Concurrent", concurrent},
		{"Describe", describe},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t)
			test.run(t, s)
			if name := s.String(); name == "" || strings.ContainsAny(name, " \t\r\n") {
				t.Errorf("the server's name is %q", name)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// StorageIndex returns one that no server knows.
func StorageIndex() (si grid.StorageIndex) {
	rand.Read(si[:])
	return si
}

// Lease returns some client's lease of si.
func Lease(si grid.StorageIndex) grid.Lease {
	return grid.NewLease([]byte("a client's lease secret"), si)
}

// Write writes a share in one piece.
func Write(t testing.TB, s grid.Server, si grid.StorageIndex, num int, share []byte) {
	t.Helper()
	u := create(t, s, si, num, len(share))
	writeAt(t, u, share, 0)
	if err := u.Commit(); err != nil {
		t.Fatalf("Commit of share %d: %v", num, err)
	}
}

func create(t testing.TB, s grid.Server, si grid.StorageIndex, num, size int) grid.Upload {
	t.Helper()
	u, err := s.Create(t.Context(), si, num, int64(size), Lease(si))
	if err != nil {
		t.Fatalf("Create of share %d: %v", num, err)
	}
	return u
}

func writeAt(t testing.TB, u grid.Upload, p []byte, off int) {
	t.Helper()
	if n, err := u.WriteAt(p, int64(off)); n != len(p) || err != nil {
		t.Fatalf("WriteAt of %d bytes at %d: %d, %v", len(p), off, n, err)
	}
}

// verify reads the whole share and compares.
func verify(t testing.TB, s grid.Server, si grid.StorageIndex, num int, want []byte) {
	t.Helper()
	sh, err := s.Open(t.Context(), si, num)
	if err != nil {
		t.Fatalf("Open of share %d: %v", num, err)
	}
	defer sh.Close()
	if size := sh.Size(); size != -1 && size != int64(len(want)) {
		t.Errorf("share %d has a size of %d, want %d", num, size, len(want))
	}
	got := make([]byte, len(want)+1)
	if n, err := sh.ReadAt(t.Context(), 0, got); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Errorf("share %d: %d bytes of %d, %v", num, n, len(want), err)
	}
}

func shares(t testing.TB, s grid.Server, si grid.StorageIndex) []int {
	t.Helper()
	nums, err := s.Shares(t.Context(), si)
	if err != nil {
		t.Fatalf("Shares: %v", err)
	}
	return slices.Sorted(slices.Values(nums))
}

// random returns bytes that are the same on every run.
func random(size int) []byte {
	b := make([]byte, size)
	mathrand.NewChaCha8([32]byte{byte(size)}).Read(b)
	return b
}

func absent(t *testing.T, s grid.Server) {
	Write(t, s, StorageIndex(), 0, []byte("another file"))
	si := StorageIndex()
	if nums := shares(t, s, si); len(nums) != 0 {
		t.Errorf("shares %v of a file that nobody has written", nums)
	}
	sh, err := s.Open(t.Context(), si, 0)
	if err == nil {
		_, err = sh.ReadAt(t.Context(), 0, make([]byte, 1))
		sh.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a share that is not there: %v", err)
	}
}

// readAt reads from every offset, with every way of cutting a few lengths in buffers.
func readAt(t *testing.T, s grid.Server) {
	si, share := StorageIndex(), []byte("the quick brown fox jumps over the lazy dog")
	Write(t, s, si, 5, share)
	verify(t, s, si, 5, share)
	sh, err := s.Open(t.Context(), si, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	for off := 0; off <= len(share)+3; off++ {
		for _, lengths := range [][]int{{}, {0}, {1}, {3, 4}, {0, 5, 0, 1}, {40, 10}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}} {
			var bufs [][]byte
			total := 0
			for _, n := range lengths {
				bufs = append(bufs, make([]byte, n))
				total += n
			}
			n, err := sh.ReadAt(t.Context(), int64(off), bufs...)
			there := share[min(off, len(share)):]
			there = there[:min(len(there), total)]
			if n != len(there) || !bytes.Equal(slices.Concat(bufs...)[:n], there) || (n < total) != (err == io.EOF) || (n == total && err != nil) {
				t.Errorf("at %d, %v: %d bytes %q, %v", off, lengths, n, slices.Concat(bufs...), err)
			}
		}
	}
	many := make([][]byte, 3000) // more than one call of the kernel takes
	for i := range many {
		many[i] = make([]byte, i%2)
	}
	if n, err := sh.ReadAt(t.Context(), 0, many...); n != len(share) || err != io.EOF || !bytes.Equal(slices.Concat(many...)[:n], share) {
		t.Errorf("%d, %v", n, err)
	}
}

// orders writes shares in pieces of several sizes, forwards, backwards and at random.
func orders(t *testing.T, s grid.Server) {
	si, share := StorageIndex(), random(2000)
	num := 0
	for _, piece := range []int{1999, 700, 150} {
		var offs []int
		for off := 0; off < len(share); off += piece {
			offs = append(offs, off)
		}
		backwards := slices.Clone(offs)
		slices.Reverse(backwards)
		shuffled := slices.Clone(offs)
		mathrand.New(mathrand.NewPCG(1, uint64(piece))).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		for _, order := range [][]int{offs, backwards, shuffled} {
			u := create(t, s, si, num, len(share))
			for _, off := range order {
				p := slices.Clone(share[off:min(off+piece, len(share))])
				writeAt(t, u, p, off)
				clear(p) // the caller's again
				writeAt(t, u, nil, off)
			}
			if err := errors.Join(u.Commit(), u.Abort()); err != nil {
				t.Fatalf("pieces of %d in the order %v: %v", piece, order, err)
			}
			verify(t, s, si, num, share)
			num++
		}
	}
}

// large writes a share as an encoder does, in blocks that are larger than any buffer and
// in small ones: the blocks, the trees from their leaves up, the header, the rest.
func large(t *testing.T, s grid.Server) {
	const header, tree = 36, 1 << 14
	for num, block := range []int{20_000, 300_000, 1_500_000} {
		si := StorageIndex()
		blocks := 3_000_000
		share := random(header + blocks + tree + 500)
		u := create(t, s, si, num, len(share))
		write := func(from, to int) { writeAt(t, u, slices.Clone(share[from:to]), from) }
		for off := 0; off < blocks; off += block {
			write(header+off, header+off+block)
		}
		for from, to := tree/2, tree; to > 1; from, to = from/2, from {
			write(header+blocks+from, header+blocks+to)
		}
		write(0, header)
		write(header+blocks+tree, len(share))
		if nums := shares(t, s, si); len(nums) != 0 {
			t.Errorf("shares %v before the commit", nums)
		}
		write(header+blocks, header+blocks+1)
		if nums := shares(t, s, si); len(nums) != 0 {
			t.Errorf("shares %v before the commit, with all bytes written", nums)
		}
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		verify(t, s, si, num, share)
	}
}

func manyShares(t *testing.T, s grid.Server) {
	si := StorageIndex()
	var want []int
	for num := 0; num < 256; num += 51 {
		Write(t, s, si, num, random(num+1))
		want = append(want, num)
	}
	if nums := shares(t, s, si); !slices.Equal(nums, want) {
		t.Errorf("shares %v, want %v", nums, want)
	}
	for _, num := range want {
		verify(t, s, si, num, random(num+1))
	}
}

func existing(t *testing.T, s grid.Server) {
	si := StorageIndex()
	Write(t, s, si, 0, []byte("first"))
	if _, err := s.Create(t.Context(), si, 0, 6, Lease(si)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a share that is there: %v", err)
	}
	verify(t, s, si, 0, []byte("first"))
	// One that is under way is not one that is there.
	u := create(t, s, si, 1, 3)
	if _, err := s.Create(t.Context(), si, 1, 3, Lease(si)); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of a share that is under way: %v", err)
	}
	if nums := shares(t, s, si); !slices.Equal(nums, []int{0}) {
		t.Errorf("shares %v", nums)
	}
	writeAt(t, u, []byte("abc"), 0)
	if err := u.Commit(); err != nil {
		t.Error(err)
	}
	verify(t, s, si, 1, []byte("abc"))
}

func abort(t *testing.T, s grid.Server) {
	si := StorageIndex()
	for _, written := range []int{0, 50, 100} {
		u := create(t, s, si, 3, 100)
		writeAt(t, u, make([]byte, written), 0)
		if err := errors.Join(u.Abort(), u.Abort()); err != nil {
			t.Errorf("with %d bytes written: %v", written, err)
		}
		if err := u.Commit(); err == nil {
			t.Error("an aborted upload is committed")
		}
		if _, err := u.WriteAt(make([]byte, 1), 0); err == nil {
			t.Error("an aborted upload is written")
		}
	}
	if nums := shares(t, s, si); len(nums) != 0 {
		t.Errorf("shares %v", nums)
	}
	// An upload is aborted even when its context is over.
	ctx, cancel := context.WithCancel(t.Context())
	u, err := s.Create(ctx, si, 3, 100, Lease(si))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := u.Abort(); err != nil {
		t.Error(err)
	}
	Write(t, s, si, 3, random(50))
	verify(t, s, si, 3, random(50))
}

func invalid(t *testing.T, s grid.Server) {
	si := StorageIndex()
	for _, bad := range []struct {
		num  int
		size int64
	}{{-1, 1}, {256, 1}, {0, -1}} {
		if _, err := s.Create(t.Context(), si, bad.num, bad.size, Lease(si)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("share %d of %d bytes: %v", bad.num, bad.size, err)
		}
	}
	u := create(t, s, si, 0, 100)
	defer u.Abort()
	for _, bad := range []struct{ off, length int }{{-1, 1}, {0, 101}, {100, 1}} {
		if _, err := u.WriteAt(make([]byte, bad.length), int64(bad.off)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func cancelled(t *testing.T, s grid.Server) {
	si := StorageIndex()
	Write(t, s, si, 0, []byte("a share"))
	sh, err := s.Open(t.Context(), si, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Shares": func() error { _, err := s.Shares(ctx, si); return err },
		"Open":   func() error { _, err := s.Open(ctx, si, 0); return err },
		"ReadAt": func() error { _, err := sh.ReadAt(ctx, 0, make([]byte, 1)); return err },
		"Create": func() error { _, err := s.Create(ctx, si, 1, 1, Lease(si)); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// concurrent reads one Share, and writes several, each from many goroutines.
func concurrent(t *testing.T, s grid.Server) {
	si, share := StorageIndex(), random(100_000)
	Write(t, s, si, 0, share)
	sh, err := s.Open(t.Context(), si, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			for off := i * 1000; off < len(share); off += 10_000 {
				a, b := make([]byte, 3000), make([]byte, 5000)
				n, err := sh.ReadAt(t.Context(), int64(off), a, b)
				want := share[off:min(off+8000, len(share))]
				if got := slices.Concat(a, b)[:n]; !bytes.Equal(got, want) || (err != nil) != (len(want) < 8000) {
					t.Errorf("at %d: %d bytes, %v", off, n, err)
				}
			}
		})
		wg.Go(func() {
			u, err := s.Create(t.Context(), si, 1+i, int64(len(share)), Lease(si))
			if err != nil {
				t.Error(err)
				return
			}
			var pieces errgroup.Group
			for off := 0; off < len(share); off += 40_000 {
				pieces.Go(func() error {
					_, err := u.WriteAt(share[off:min(off+40_000, len(share))], int64(off))
					return err
				})
			}
			if err := errors.Join(pieces.Wait(), u.Commit()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 24 {
		verify(t, s, si, 1+i, share)
	}
}

// describe asks a server what it is, if its kind can tell.
func describe(t *testing.T, s grid.Server) {
	d, ok := s.(grid.Describer)
	if !ok {
		return
	}
	Write(t, s, StorageIndex(), 0, random(100))
	said, err := d.Describe(t.Context())
	if err != nil || said.Free < -1 || strings.ContainsAny(said.Software, "\r\n\t") {
		t.Errorf("%+v, %v", said, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Describe(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
