package decode_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode/decodetest"
	"spillway/decode/grid/gridtest"
)

// TestMetadataHedged: reads of hash trees that are late get competitors from the same budget as
// reads of blocks: a few dozen at once, and then one for ten.
func TestMetadataHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segments, perPage = 400_000, 2048
		servers := gridtest.New(4)
		c := put(t, servers, decodetest.Plaintext(segments), putOptions{K: 1, N: 4, SegmentSize: 1})
		var reads atomic.Int64
		var slow atomic.Bool
		for _, s := range servers {
			s.OnShares = func(context.Context) error { time.Sleep(time.Millisecond); return nil }
			s.OnRead = func(ctx context.Context, _ int, _ int64) error {
				wait := time.Millisecond
				if n := reads.Add(1); slow.Load() && n%2 == 0 {
					wait = time.Second // less than what patience there is
				}
				select {
				case <-time.After(wait):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers)})
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		slow.Store(true)
		before := reads.Load()
		chunk := make([]byte, f.ChunkSize())
		for i := int64(0); (i+1)*f.ChunkSize() <= f.Size(); i += perPage / f.ChunkSize() {
			if _, err := f.HoldsChunk(t.Context(), i, chunk); err != nil {
				t.Fatal(err)
			}
		}
		made, hedged := reads.Load()-before, client.Stats().HedgedReads
		t.Logf("%d reads, %d of them because others were late", made, hedged)
		if hedged > 32+made/10 {
			t.Errorf("%d of %d reads were made because others were late", hedged, made)
		}
	})
}
