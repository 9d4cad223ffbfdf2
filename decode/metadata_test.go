package decode_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/decodetest"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
	"spillway/decode/memory"
)

// TestMetadataCache opens a file again without asking any server, and asks them
// once when what is remembered is not there any more.
func TestMetadataCache(t *testing.T) {
	servers, data := gridtest.New(4), decodetest.Plaintext(2_000_000)
	c := put(t, servers, data, putOptions{SegmentSize: 131072})
	si := decodetest.StorageIndex(t, c)
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	read := func(wantAsked int) {
		t.Helper()
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		f.Close()
		client.WaitMetadata()
		for _, s := range servers {
			if s.Asked != wantAsked {
				t.Errorf("%s was asked %d times, not %d", s, s.Asked, wantAsked)
			}
		}
	}
	read(1)
	read(1)
	if s := client.Stats(); s.MetadataHits != 1 || s.MetadataMisses != 1 {
		t.Errorf("%+v", s)
	}
	// All shares move to the next server.
	last := servers[3].Held[si]
	for i := 3; i > 0; i-- {
		servers[i].Held[si] = servers[i-1].Held[si]
	}
	servers[0].Held[si] = last
	read(2)
	read(2)
	// And now they are gone.
	for _, s := range servers {
		delete(s.Held, si)
	}
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var missing *decode.NotEnoughSharesError
	if _, err := decodetest.ReadAll(t.Context(), f); !errors.As(err, &missing) || len(missing.Failed) != 0 {
		t.Errorf("%v", err)
	}
	f.Close()
	client.WaitMetadata()
	if _, err := client.Open(t.Context(), c); !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
}

// TestMemory: what does not fit is refused by name, what fits waits its turn.
func TestMemory(t *testing.T) {
	servers, data := gridtest.New(1), decodetest.Plaintext(1_000_000)
	c := put(t, servers, data, putOptions{SegmentSize: 100_000})
	var tooMuch *memory.Error
	_, err := newClient(t, config{Servers: decodetest.Servers(servers), Memory: 1_500_000}).Open(t.Context(), c)
	if !errors.As(err, &tooMuch) || tooMuch.Needed < 2_000_000 || tooMuch.Limit != 1_500_000 || !strings.Contains(err.Error(), "--decode-memory") {
		t.Errorf("%v", err)
	}
	client := newClient(t, config{Servers: decodetest.Servers(servers), Memory: 2_000_100})
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := decodetest.NewSink(f.Size())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int64(0); i*f.ChunkSize() < f.Size(); i++ {
				if err := f.WriteChunks(t.Context(), i, 1, s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(s.Bytes, data) || client.Stats().MemoryInUse != 0 {
		t.Errorf("wrong bytes, or memory in use: %+v", client.Stats())
	}
	for _, i := range []int64{-1, 1, 1 << 60} {
		if err := f.WriteChunks(t.Context(), i, 1, s); err == nil {
			t.Errorf("there is a chunk %d", i)
		}
	}
}

// TestAbsurdGeometry: a UEB may claim what it likes, under a cap of its own.
func TestAbsurdGeometry(t *testing.T) {
	for _, test := range []struct {
		size, segment int64
		ok            bool
	}{
		{1 << 61, 3, false}, // hash trees beyond any memory
		{1 << 61, 3 << 59, false},
		{1 << 61, 3 << 60, false},
		{1<<62 - 1, 1 << 61 / 3 * 3, false},
		{1 << 40, 1 << 30 / 3 * 3, false},
		{1 << 50, 3 << 20, true}, // large, but it can be opened
	} {
		ueb := chk.UEB{Geometry: chk.Geometry{Size: test.size, SegmentSize: test.segment, K: 3, N: 10}}
		text := ueb.Marshal()
		share := make([]byte, 0x44, 0x44+8+len(text))
		share[3] = 2
		share[0x3c+7] = 0x44
		share = append(share, 0, 0, 0, 0, 0, 0, byte(len(text)>>8), byte(len(text)))
		share = append(share, text...)
		hash := chk.Hash(text)
		c, err := caps.Parse(fmt.Sprintf("URI:CHK:%s:%s:3:10:%d", keyText, grid.Base32(hash[:]), test.size))
		if err != nil {
			t.Fatal(err)
		}
		servers := gridtest.New(1)
		shares := map[int][]byte{0: share, 1: share, 2: share}
		lay(servers[0], decodetest.StorageIndex(t, c), shares, []int{0, 1, 2}, nil)
		f, err := newClient(t, config{Servers: decodetest.Servers(servers)}).Open(t.Context(), c)
		if (err == nil) != test.ok {
			t.Errorf("%+v: %v", test, err)
		}
		if err != nil {
			continue
		}
		var missing *decode.NotEnoughSharesError
		if err := f.WriteChunks(t.Context(), 1<<20, 1, decodetest.NewSink(0)); !errors.As(err, &missing) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
