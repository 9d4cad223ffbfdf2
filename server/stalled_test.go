package server_test

import (
	"io"
	"net/http"
	"runtime"
	"testing"

	"spillway/server/transport/transporttest"
	"spillway/spool"
)

// TestStalledClientsAreCheap: a client that takes nothing costs a connection and a small
// stack, whatever it asked for.
func TestStalledClientsAreCheap(t *testing.T) {
	const clients, most = 100, 16 << 10 // bytes each
	g := newGateway(t, spool.Config{})
	readCap := g.keep("large", pattern(32<<20))
	g.get("GET", "/uri/"+readCap) // all of it is spooled now
	before := memoryInUse()
	for range clients {
		conn, r := g.dial("GET /uri/" + readCap + " HTTP/1.1\nHost: x\n\n")
		if _, err := io.ReadFull(r, make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	transporttest.Await(t, "all are handed over", func() bool { return g.HandedOver() == clients })
	per := (memoryInUse() - before) / clients
	t.Logf("%d bytes for each of %d stalled clients, the test's own side included", per, clients)
	if per > most {
		t.Errorf("a stalled client costs %d bytes, more than %d", per, most)
	}
	if res, _ := g.get("GET", "/uri/"+readCap, "Range", "bytes=0-99"); res.StatusCode != http.StatusPartialContent {
		t.Errorf("another client: %d", res.StatusCode)
	}
}

// memoryInUse is what the heap and the stacks take, in bytes.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // twice: pools keep their buffers for one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
