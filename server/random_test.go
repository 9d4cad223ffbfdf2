package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"sync"
	"testing"

	"spillway/spool"
)

// TestRandomClients lets clients ask for random ranges of files that do not
// all fit into the spool, while everything is purged now and then. Whatever
// happens, an answer that ends as it said it would has exactly the bytes asked
// for, and nothing stays behind.
func TestRandomClients(t *testing.T) {
	rng := random(t)
	// Four files, of which the budget takes one and some private windows.
	g := newGateway(t, spool.Config{Budget: 24 << 20, Window: 256 << 10})
	type file struct {
		url  string
		data []byte
	}
	var files []file
	for i := range 4 {
		data := pattern(10<<20 + i)
		files = append(files, file{g.public.URL + "/uri/" + g.put(data), data})
	}
	const clients, requests = 6, 25
	var running sync.WaitGroup
	var mu sync.Mutex
	counts := map[string]int{}
	for range clients {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		running.Go(func() {
			transport := &http.Transport{DisableKeepAlives: rng.IntN(2) == 0, DisableCompression: true}
			defer transport.CloseIdleConnections()
			for range requests {
				f := files[rng.IntN(len(files))]
				if rng.IntN(15) == 0 {
					g.spool.PurgeAll(rng.IntN(2) == 0)
				}
				outcome := randomRequest(t, rng, transport, f.url, f.data)
				mu.Lock()
				counts[outcome]++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	t.Log(counts)
	if counts["whole"] == 0 {
		t.Error("no answer was whole")
	}
	g.public.Close() // waits for the handlers whose clients have left
	if err := g.spool.Close(); err != nil {
		t.Error(err)
	}
	if s := g.spool.Snapshot(); len(s.Entries) != 0 || s.ReservedBytes != 0 || s.SpooledBytes != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// randomRequest sends one request, checks its answer and says how it ended.
func randomRequest(t *testing.T, rng *rand.Rand, transport *http.Transport, url string, data []byte) string {
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Error(err)
		return "error"
	}
	var want [][]byte
	field := "bytes="
	for i := range rng.IntN(4) {
		off := rng.IntN(len(data))
		end := min(len(data), off+1+rng.IntN(1<<uint(rng.IntN(22))))
		want = append(want, data[off:end])
		if i > 0 {
			field += ","
		}
		field += fmt.Sprintf("%d-%d", off, end-1)
	}
	status := http.StatusPartialContent
	if len(want) > 0 {
		req.Header.Set("Range", field)
	} else {
		want, status = [][]byte{data}, http.StatusOK
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "cut before the header" // the header of a short answer waits for its bytes
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusServiceUnavailable {
		return "refused"
	}
	if res.StatusCode != status {
		t.Errorf("%s: status %d", field, res.StatusCode)
	}
	if rng.IntN(5) == 0 {
		io.CopyN(io.Discard, res.Body, rng.Int64N(1<<20))
		return "left"
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		if !errors.Is(err, io.ErrUnexpectedEOF) && int64(len(body)) >= res.ContentLength {
			t.Errorf("%s: %d bytes of %d, %v", field, len(body), res.ContentLength, err)
		}
		return "cut"
	}
	if len(want) == 1 {
		if !bytes.Equal(body, want[0]) {
			t.Errorf("%s: wrong bytes", field)
		}
		return "whole"
	}
	_, params, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for i := range want {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Errorf("%s: part %d: %v", field, i, err)
			break
		}
		if got, err := io.ReadAll(part); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("%s: part %d: %d bytes, %v", field, i, len(got), err)
		}
	}
	return "whole"
}

// TestWindow: what comes through a private window is whole, by one range and by several that go
// back.
func TestWindow(t *testing.T) {
	g := newGateway(t, spool.Config{Budget: 4 << 20, Window: 1 << 20})
	data := pattern(12 << 20)
	readCap := g.put(data)
	if res, body := g.get("GET", "/uri/"+readCap); res.StatusCode != 200 || !bytes.Equal(body, data) {
		t.Errorf("%d, %d bytes", res.StatusCode, len(body))
	}
	res, body := g.get("GET", "/uri/"+readCap, "Range", "bytes=8000000-9999999,1000-2999999")
	if res.StatusCode != 206 || !bytes.Contains(body, data[8000000:10000000]) || !bytes.Contains(body, data[1000:3000000]) {
		t.Errorf("%d, %d bytes", res.StatusCode, len(body))
	}
	if s := g.spool.Snapshot(); s.Windows != 2 {
		t.Errorf("%d private windows", s.Windows)
	}
}
