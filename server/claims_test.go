package server_test

import (
	"testing"

	"spillway/spool"
)

// TestClaims: caps of which nobody has a share cost other people's files nothing, whatever size
// they claim, and a look at a file has no more of it decoded than is looked at.
func TestClaims(t *testing.T) {
	g := newGateway(t, spool.Config{Budget: 8 << 20})
	var kept []string
	for i := range 8 {
		readCap := g.put(pattern(900_000 + i))
		g.get("GET", "/uri/"+readCap)
		kept = append(kept, readCap)
	}
	for _, method := range []string{"GET", "HEAD"} {
		for _, size := range []int64{100, 8 << 20, 1 << 61} {
			res, _, err := g.try(method, g.public.URL+"/uri/"+g.capOf("claim", size))
			if err != nil || res.StatusCode != 410 {
				t.Errorf("%s of %d bytes that nobody has: %v %v", method, size, res, err)
			}
		}
	}
	snapshot := g.spool.Snapshot()
	if snapshot.Evicted != 0 || len(snapshot.Entries) != len(kept) {
		t.Errorf("%d files are spooled, %d were given up", len(snapshot.Entries), snapshot.Evicted)
	}
	g.spool.PurgeAll(false)
	readCap := g.put(pattern(7 << 20))
	for _, header := range [][]string{nil, {"Range", "bytes=0-0"}} {
		before := g.spool.Snapshot().BytesWritten
		method := "GET"
		if header == nil {
			method = "HEAD"
		}
		if res, _, err := g.try(method, g.public.URL+"/uri/"+readCap, header...); err != nil || res.StatusCode > 206 {
			t.Errorf("%v %v", res, err)
		}
		if n := g.spool.Snapshot().BytesWritten - before; n > 2<<20 {
			t.Errorf("%s: %d bytes are decoded", method, n)
		}
	}
}
