// Package decodetest is what the tests of package decode and of those beside it have in common.
package decodetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
	"spillway/decode/upload"
	"spillway/scripts/need"
	"strings"
	"sync"
	"testing"
)

// Servers returns the servers as a Fleet takes them.
func Servers(servers []*gridtest.Faulty) []fleet.Server {
	var list []fleet.Server
	for _, s := range servers {
		list = append(list, fleet.Server{Server: s})
	}
	return list
}

// Keep removes every share of si that the function does not want.
func Keep(servers []*gridtest.Faulty, si grid.StorageIndex, want func(num int) bool) {
	for _, s := range servers {
		for num := range s.Held[si] {
			if !want(num) {
				delete(s.Held[si], num)
			}
		}
	}
}

// Verifier returns the verify cap of a CHK cap.
func Verifier(t testing.TB, c caps.Cap) caps.Verifier {
	t.Helper()
	v, ok := c.Verifier()
	if !ok {
		t.Fatal("not a CHK cap")
	}
	return v
}

// StorageIndex returns the name of a CHK cap's shares.
func StorageIndex(t testing.TB, c caps.Cap) grid.StorageIndex {
	t.Helper()
	return Verifier(t, c).StorageIndex
}

// Plaintext returns size bytes that depend on nothing else.
func Plaintext(size int) []byte {
	b := make([]byte, size)
	x := uint32(size)*2654435761 + 12345
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// Sink takes a file's chunks and remembers which bytes it was given.
type Sink struct {
	mu    sync.Mutex
	Bytes []byte
	calls int
}

// NewSink returns a Sink for a file of size bytes, of which it has been given none.
func NewSink(size int64) *Sink { return &Sink{Bytes: bytes.Repeat([]byte{0xee}, int(size))} }

// WriteAt is io.WriterAt's.
func (s *Sink) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return copy(s.Bytes[off:], p), nil
}

// ReadAll reads the whole file: a chunk, then run after run.
func ReadAll(ctx context.Context, f *decode.File) ([]byte, error) {
	s := NewSink(f.Size())
	chunks := (f.Size()-1)/f.ChunkSize() + 1
	for i, n := int64(0), int64(1); i < chunks; i, n = i+n, min(f.Run(), chunks-i-n) {
		before := s.calls
		err := f.WriteChunks(ctx, i, n, s)
		if err == nil && s.calls != before+1 || err != nil && s.calls != before {
			return nil, fmt.Errorf("%d writes for %d chunks (%v)", s.calls-before, n, err)
		}
		if err != nil {
			return s.Bytes, err
		}
	}
	return s.Bytes, nil
}

// Get opens and reads the whole file.
func Get(ctx context.Context, c *decode.Client, file caps.Cap) ([]byte, error) {
	f, err := c.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadAll(ctx, f)
}

// LogBook collects log lines.
type LogBook struct {
	mu sync.Mutex
	B  strings.Builder
}

// Write is io.Writer's.
func (l *LogBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.B.Write(p)
}

// Logger returns what writes into it.
func (l *LogBook) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Lines returns those that hold all the parts.
func (l *LogBook) Lines(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.B.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			found = append(found, line)
		}
	}
	return found
}

// Clients returns what reads from and writes to the servers; both are closed at the end of the
// test.
func Clients(t testing.TB, servers []fleet.Server) (*decode.Client, *upload.Uploader) {
	t.Helper()
	f, err := fleet.New(fleet.Config{Servers: servers})
	if err != nil {
		t.Fatal(err)
	}
	c, err := decode.New(decode.Config{Fleet: f})
	if err != nil {
		t.Fatal(err)
	}
	u := upload.New(upload.Config{Fleet: f})
	t.Cleanup(func() {
		if err := errors.Join(u.Close(), c.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	return c, u
}

// Shared returns a path below the directory of published material beside the checkout, and skips
// the test where there is none.
func Shared(t testing.TB, name string) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatal("the tests run outside of the checkout")
		}
	}
	path := filepath.Join(root, "..", "shared", name)
	if _, err := os.Stat(path); err != nil {
		need.Missing(t, "needs the published material in %s beside the checkout", filepath.Join("..", "shared", name))
	}
	return path
}

// Permuted returns the names of the servers in the order for si.
func Permuted(t testing.TB, servers []fleet.Server, si grid.StorageIndex) (names []string) {
	t.Helper()
	f, err := fleet.New(fleet.Config{Servers: servers})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	members := f.Join(nil)
	defer f.Leave(members)
	for _, m := range fleet.Permute(members, si) {
		names = append(names, m.String())
	}
	return names
}
