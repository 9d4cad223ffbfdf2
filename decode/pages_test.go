package decode_test

import (
	"bytes"
	"slices"
	"spillway/decode/decodetest"
	"spillway/decode/grid/gridtest"
	"testing"
)

// TestPages has a hash tree of several pages, and chunks that span two.
func TestPages(t *testing.T) {
	servers, data := gridtest.New(1), decodetest.Plaintext(5000*9+4)
	c := put(t, servers, data, putOptions{K: 3, N: 5, SegmentSize: 9})
	si := decodetest.StorageIndex(t, c)
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	for range 2 {
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		if f.ChunkSize()%9 != 0 || f.ChunkSize() > 1024*9 {
			t.Errorf("chunks of %d bytes", f.ChunkSize())
		}
		f.Close()
		client.WaitMetadata()
	}
	if r, err := client.Check(t.Context(), decodetest.Verifier(t, c)); err != nil || r.GoodDistinct != 5 {
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
		bad := gridtest.New(2)
		bad[0].Held[si] = map[int][]byte{}
		bad[1].Held[si] = map[int][]byte{}
		for num, b := range servers[0].Held[si] {
			bad[0].Held[si][num] = slices.Clone(b)
		}
		bad[0].Held[si][0][at] ^= 1
		var log decodetest.LogBook
		client := newClient(t, config{Servers: decodetest.Servers(bad), Log: log.Logger()})
		if got, err := decodetest.Get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
		if len(log.Lines("corrupt share", "share=0")) != 1 {
			t.Errorf("%s: the log:\n%s", name, log.B.String())
		}
		if r, err := client.Check(t.Context(), decodetest.Verifier(t, c)); err != nil || r.GoodDistinct != 4 || !r.Healthy {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestHoldsChunk compares bytes with the file without reading a block of it.
func TestHoldsChunk(t *testing.T) {
	servers, data := gridtest.New(1), decodetest.Plaintext(20*50_000+17)
	c := put(t, servers, data, putOptions{SegmentSize: 50_000})
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
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
