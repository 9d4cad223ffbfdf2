package decode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/grid/dir"
)

func TestPutLiteral(t *testing.T) {
	servers := newGrid(1)
	for _, size := range []int{0, 1, 55} {
		data := plaintext(size)
		c := put(t, servers, data, decode.PutOptions{})
		if b, ok := c.Literal(); !ok || !bytes.Equal(b, data) || c.Size() != int64(size) {
			t.Errorf("%d bytes: %v %v", size, b, ok)
		}
	}
	if len(servers[0].shares) != 0 {
		t.Error("a LIT cap has shares")
	}
	if _, ok := put(t, servers, plaintext(56), decode.PutOptions{}).Literal(); ok {
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
			servers, data := newGrid(3), plaintext(test.size)
			c := put(t, servers, data, decode.PutOptions{K: test.k, N: test.n, SegmentSize: test.segment}.WithLayout(layout))
			si := storageIndex(t, c)
			client := newClient(t, decode.Config{Servers: asServers(servers)})
			if r, err := client.Check(t.Context(), c); err != nil || r.GoodDistinct != test.n {
				t.Errorf("%+v: %d good (%v)", test, r.GoodDistinct, err)
			}
			keep(servers, si, func(num int) bool { return num >= test.n-test.k })
			if got, err := get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%+v: %v", test, err)
			}
		}
	}
}

// TestPages has a hash tree of several pages, and chunks that span two.
func TestPages(t *testing.T) {
	servers, data := newGrid(1), plaintext(5000*9+4)
	c := put(t, servers, data, decode.PutOptions{K: 3, N: 5, SegmentSize: 9})
	si := storageIndex(t, c)
	client := newClient(t, decode.Config{Servers: asServers(servers)})
	for range 2 {
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		if f.ChunkSize()%9 != 0 || f.ChunkSize() > 1024*9 {
			t.Errorf("chunks of %d bytes", f.ChunkSize())
		}
		f.Close()
		client.WaitMetadata()
	}
	if r, err := client.Check(t.Context(), c); err != nil || r.GoodDistinct != 5 {
		t.Errorf("%+v, %v", r, err)
	}
	// A bad block far behind; a bad page of a tree; a bad root of a page.
	head := 0x24
	blocks := 5001 * 3
	tree := (2*8192 - 1) * 32
	for name, at := range map[string]int{
		"block":                 head + 4000*3,
		"page of crypttext":     head + blocks + tree + (8191+3000)*32,
		"page root of the tree": head + blocks + tree + 4*32,
	} {
		bad := newGrid(2)
		bad[0].shares[si] = map[int][]byte{}
		bad[1].shares[si] = map[int][]byte{}
		for num, b := range servers[0].shares[si] {
			bad[0].shares[si][num] = slices.Clone(b)
		}
		bad[0].shares[si][0][at] ^= 1
		var log logBook
		client := newClient(t, decode.Config{Servers: asServers(bad), Log: log.logger()})
		if got, err := get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
		if len(log.lines("corrupt share", "share=0")) != 1 {
			t.Errorf("%s: the log:\n%s", name, log.b.String())
		}
		if r, err := client.Check(t.Context(), c); err != nil || r.GoodDistinct != 4 || !r.Healthy {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestPutConvergent(t *testing.T) {
	servers, data := newGrid(2), plaintext(5000)
	a := put(t, servers, data, decode.PutOptions{Convergence: []byte("one")})
	again := put(t, servers, data, decode.PutOptions{Convergence: []byte("one")})
	b := put(t, servers, data, decode.PutOptions{Convergence: []byte("two")})
	segments := put(t, servers, data, decode.PutOptions{Convergence: []byte("one"), SegmentSize: 1000})
	if a != again || a == b || a == segments || b == segments {
		t.Error("convergence is not by secret, file and parameters")
	}
	client := newClient(t, decode.Config{Servers: asServers(servers)})
	random := map[caps.Cap]bool{}
	for range 2 {
		c, err := client.Put(t.Context(), bytes.NewReader(data), decode.PutOptions{})
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
	servers := newGrid(1)
	client := newClient(t, decode.Config{Servers: asServers(servers)})
	_, err := client.Put(t.Context(), &shrinking{Reader: bytes.NewReader(make([]byte, 5000))}, decode.PutOptions{Convergence: []byte("x")})
	if !errors.Is(err, io.ErrUnexpectedEOF) || servers[0].aborts != 10 {
		t.Errorf("%v, %d aborts", err, servers[0].aborts)
	}
}

func TestPutProgressAndCancel(t *testing.T) {
	servers := newGrid(1)
	client := newClient(t, decode.Config{Servers: asServers(servers)})
	var steps []int64
	opts := decode.PutOptions{K: 1, N: 2, SegmentSize: 1000, Progress: func(n int64) { steps = append(steps, n) }}
	if _, err := client.Put(t.Context(), bytes.NewReader(plaintext(2500)), opts); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int64{2500}) {
		t.Errorf("%v", steps)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Progress = func(int64) { cancel() }
	if _, err := client.Put(ctx, bytes.NewReader(plaintext(2500)), opts); !errors.Is(err, context.Canceled) || servers[0].aborts != 2 {
		t.Errorf("%v, %d aborts", err, servers[0].aborts)
	}
	for _, opts := range []decode.PutOptions{{K: 0, N: 1}, {K: 3, N: 2}, {K: 3, N: 257}, {K: -1, N: 3}, {SegmentSize: -5}} {
		if _, err := client.Put(t.Context(), bytes.NewReader(plaintext(100)), opts); err == nil {
			t.Errorf("%+v is accepted", opts)
		}
	}
}

// TestPutDirectories writes into storage directories and reads them back.
func TestPutDirectories(t *testing.T) {
	base := t.TempDir()
	var servers []decode.Server
	for _, name := range []string{"a b", "c%", "d"} {
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, decode.Server{Server: dir.New(path)})
		again, err := decode.ParseServer(dir.New(path).String())
		if err != nil || again.String() != dir.New(path).String() {
			t.Errorf("%v, %v", again, err)
		}
	}
	client := newClient(t, decode.Config{Servers: servers})
	data := plaintext(300_000)
	c, err := client.Put(t.Context(), bytes.NewReader(data), decode.PutOptions{SegmentSize: 1 << 17})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v", err)
	}
	si := storageIndex(t, c).String()
	for _, num := range []string{"9", "1"} {
		found, err := filepath.Glob(filepath.Join(base, "*", "shares", si[:2], si, num))
		if err != nil || len(found) != 1 {
			t.Fatalf("share %s: %v, %v", num, found, err)
		}
		if err := os.Remove(found[0]); err != nil {
			t.Error(err)
		}
	}
	r, err := client.Check(t.Context(), c)
	if err != nil || r.GoodDistinct != 8 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestParseServer(t *testing.T) {
	for text, ok := range map[string]bool{
		"file:///srv/tahoe": true, "file://localhost/srv": true, "file:/srv": true, "file:///a%20b": true,
		"file://host/srv": false, "file:srv": false, "file:///srv?x": false, "file:///srv#x": false, "file://user@/srv": false,
		"/srv": false, "": false, "http://host/": false, "file://%zz": false,
		"s3://bucket": true, "s3://bucket/prefix?endpoint=http://host:1": true, "s3://key:secret@bucket": false, "s3://bucket?key=secret": false,
		"pb://secret@host:1/swiss#v=1": false, "pb://secret@host:1/swiss": false,
		"pb://1WUX44xKjKdpGLohmFcBNuIRN-8rlv1Iij_7rQ-ABCk@a:1,tcp:b:2/secret#v=1": true,
	} {
		s, err := decode.ParseServer(text)
		if (err == nil) != ok {
			t.Errorf("%s: %v, %v", text, s, err)
		}
		if unsupported := errors.Is(err, errors.ErrUnsupported); unsupported != (text == "pb://secret@host:1/swiss") {
			t.Errorf("%s: %v", text, err)
		}
		if said := fmt.Sprint(s, err); strings.Contains(said, "secret") {
			t.Errorf("the URL's secret is told: %s", said)
		}
	}
}

// TestHoldsChunk compares bytes with the file without reading a block of it.
func TestHoldsChunk(t *testing.T) {
	servers, data := newGrid(1), plaintext(20*50_000+17)
	c := put(t, servers, data, decode.PutOptions{SegmentSize: 50_000})
	client := newClient(t, decode.Config{Servers: asServers(servers)})
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := int64(0); i*f.ChunkSize() < f.Size(); i++ {
		p := slices.Clone(data[i*f.ChunkSize() : min((i+1)*f.ChunkSize(), f.Size())])
		before := slices.Clone(p)
		if ok, err := f.HoldsChunk(t.Context(), i, p); !ok || err != nil || !bytes.Equal(p, before) {
			t.Errorf("chunk %d: %v, %v", i, ok, err)
		}
		if ok, err := f.HoldsChunk(t.Context(), i, p[1:]); ok || err != nil {
			t.Errorf("chunk %d, one byte short: %v, %v", i, ok, err)
		}
		p[len(p)-1] ^= 1
		if ok, err := f.HoldsChunk(t.Context(), i, p); ok || err != nil {
			t.Errorf("chunk %d, changed: %v, %v", i, ok, err)
		}
	}
	if _, err := f.HoldsChunk(t.Context(), 99, nil); err == nil {
		t.Error("there is a chunk 99")
	}
}
