package upload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"spillway/decode/caps"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gridtest"
	"spillway/decode/grid/kinds"
	"spillway/decode/upload"
)

func TestPutLiteral(t *testing.T) {
	servers := gridtest.New(1)
	for _, size := range []int{0, 1, 55} {
		data := decodetest.Plaintext(size)
		c := put(t, servers, data, upload.Options{})
		if b, ok := c.Literal(); !ok || !bytes.Equal(b, data) || c.Size() != int64(size) {
			t.Errorf("%d bytes: %v %v", size, b, ok)
		}
	}
	if len(servers[0].Held) != 0 {
		t.Error("a LIT cap has shares")
	}
	if _, ok := put(t, servers, decodetest.Plaintext(56), upload.Options{}).Literal(); ok {
		t.Error("56 bytes are a LIT cap")
	}
}

func TestPutGeometries(t *testing.T) {
	for _, test := range []struct {
		k, n, size int
		segment    int64
	}{
		{1, 1, 56, 1}, {1, 1, 100, 100}, {1, 3, 1000, 7}, {2, 2, 57, 16}, {3, 10, 3000, 1000}, {3, 10, 3001, 1000}, {3, 10, 2999, 1000},
		{5, 5, 10_001, 100}, {25, 100, 5000, 26}, {255, 256, 600, 255}, {256, 256, 70_000, 300}, {1, 256, 60, 10}, {7, 8, 100_000, 8},
	} {
		for _, layout := range []int{0, 2} {
			servers, data := gridtest.New(3), decodetest.Plaintext(test.size)
			c := put(t, servers, data, upload.Options{K: test.k, N: test.n, SegmentSize: test.segment}.WithLayout(layout))
			si := decodetest.StorageIndex(t, c)
			client := newClient(t, config{Servers: decodetest.Servers(servers)})
			if r, err := client.Check(t.Context(), decodetest.Verifier(t, c)); err != nil || r.GoodDistinct != test.n {
				t.Errorf("%+v: %d good (%v)", test, r.GoodDistinct, err)
			}
			decodetest.Keep(servers, si, func(num int) bool { return num >= test.n-test.k })
			if got, err := decodetest.Get(t.Context(), client.Client, c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%+v: %v", test, err)
			}
		}
	}
}

func TestPutConvergent(t *testing.T) {
	servers, data := gridtest.New(2), decodetest.Plaintext(5000)
	a := put(t, servers, data, upload.Options{Convergence: []byte("one")})
	again := put(t, servers, data, upload.Options{Convergence: []byte("one")})
	b := put(t, servers, data, upload.Options{Convergence: []byte("two")})
	segments := put(t, servers, data, upload.Options{Convergence: []byte("one"), SegmentSize: 1000})
	if a != again || a == b || a == segments || b == segments {
		t.Error("convergence is not by secret, file and parameters")
	}
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	random := map[caps.Cap]bool{}
	for range 2 {
		c, err := client.Put(t.Context(), bytes.NewReader(data), upload.Options{})
		if err != nil {
			t.Fatal(err)
		}
		random[c] = true
	}
	if len(random) != 2 {
		t.Error("a random key is not random")
	}
}

// shrinking is a file that loses its end between the two readings.
type shrinking struct {
	*bytes.Reader
	rewinds int
}

func (s *shrinking) Seek(off int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		if s.rewinds++; s.rewinds == 2 {
			s.Reader = bytes.NewReader(make([]byte, 10))
		}
	}
	return s.Reader.Seek(off, whence)
}

func TestPutShrinkingFile(t *testing.T) {
	servers := gridtest.New(1)
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	_, err := client.Put(t.Context(), &shrinking{Reader: bytes.NewReader(make([]byte, 5000))}, upload.Options{Convergence: []byte("x")})
	if !errors.Is(err, io.ErrUnexpectedEOF) || servers[0].Aborts != 10 {
		t.Errorf("%v, %d aborts", err, servers[0].Aborts)
	}
}

func TestPutProgressAndCancel(t *testing.T) {
	servers := gridtest.New(1)
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	var steps []int64
	opts := upload.Options{K: 1, N: 2, SegmentSize: 1000, Progress: func(n int64) { steps = append(steps, n) }}
	if _, err := client.Put(t.Context(), bytes.NewReader(decodetest.Plaintext(2500)), opts); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int64{2500}) {
		t.Errorf("%v", steps)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(int64) { cancel() }
	if _, err := client.Put(ctx, bytes.NewReader(decodetest.Plaintext(2500)), opts); !errors.Is(err, context.Canceled) || servers[0].Aborts != 2 {
		t.Errorf("%v, %d aborts", err, servers[0].Aborts)
	}
	for _, opts := range []upload.Options{{K: 0, N: 1}, {K: 3, N: 2}, {K: 3, N: 257}, {K: -1, N: 3}, {SegmentSize: -5}} {
		if _, err := client.Put(t.Context(), bytes.NewReader(decodetest.Plaintext(100)), opts); err == nil {
			t.Errorf("%+v is accepted", opts)
		}
	}
}

// TestPutDirectories writes into storage directories and reads them back.
func TestPutDirectories(t *testing.T) {
	base := t.TempDir()
	var servers []fleet.Server
	for _, name := range []string{"a b", "c%", "d"} {
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, fleet.Server{Server: dir.New(path)})
		again, err := kinds.Parse(dir.New(path).String())
		if err != nil || again.String() != dir.New(path).String() {
			t.Errorf("%v, %v", again, err)
		}
	}
	client := newClient(t, config{Servers: servers})
	data := decodetest.Plaintext(300_000)
	c, err := client.Put(t.Context(), bytes.NewReader(data), upload.Options{SegmentSize: 1 << 17})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodetest.Get(t.Context(), client.Client, c); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v", err)
	}
	si := decodetest.StorageIndex(t, c).String()
	for _, num := range []string{"9", "1"} {
		found, err := filepath.Glob(filepath.Join(base, "*", "shares", si[:2], si, num))
		if err != nil || len(found) != 1 {
			t.Fatalf("share %s: %v, %v", num, found, err)
		}
		if err := os.Remove(found[0]); err != nil {
			t.Error(err)
		}
	}
	r, err := client.Check(t.Context(), decodetest.Verifier(t, c))
	if err != nil || r.GoodDistinct != 8 {
		t.Errorf("%+v, %v", r, err)
	}
}
