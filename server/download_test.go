package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/grid"
	"spillway/decode/memory"
	"spillway/server"
	"spillway/spool"
)

// TestErrorBeforeFirstByte: what ends the fill before the first byte is an answer.
func TestErrorBeforeFirstByte(t *testing.T) {
	g := newGateway(t, spool.Config{})
	place := func(n int) grid.SharePlace {
		return grid.SharePlace{Share: n, Server: "file:///srv/secret-path/storage"}
	}
	for i, test := range []struct {
		err    error
		status int
		retry  string
		body   string
	}{
		{&decode.NotEnoughSharesError{Needed: 3, Total: 10, Found: []grid.SharePlace{place(4), place(0), place(4)}, Bad: []grid.SharePlace{place(7)}}, 410, "",
			"3 of 10 shares needed; have 2: storage (shares 0, 4); corrupt: storage (share 7); every server has answered\n"},
		{&decode.NotEnoughSharesError{Needed: 3, Total: 10, Found: []grid.SharePlace{place(4)}, Failed: []grid.ServerError{{Server: "a", Err: io.EOF}}}, 503, "60",
			"3 of 10 shares needed; have 1: storage (share 4); a failed; try again in a minute\n"},
		{decode.ErrInconsistent, 502, "", "this file was uploaded inconsistently and cannot be read\n"},
		{fmt.Errorf("opening: %w", fmt.Errorf("%w: its UEB contradicts its cap: needed_shares is \"4\"\nin 1%% of it %s", decode.ErrInconsistent, strings.Repeat("é", 200))), 502, "",
			"this file was uploaded inconsistently and cannot be read: its UEB contradicts its cap: needed_shares is \"4\"_in 1% of it " + strings.Repeat("_", 69) + "\n"},
		{&memory.Error{What: "segments", Needed: 2, Limit: 1}, 500, "",
			"this file needs more memory than the gateway may use for decoding; its operator can raise --decode-memory\n"},
		{spool.ErrPurged, 503, "1", "the file was purged from the gateway just now; try again\n"},
		{decode.ErrClosed, 503, "30", "the gateway is shutting down; try again soon\n"},
		{errors.New("disk /dev/secret on fire"), 500, "", "the gateway could not read this file; its log says why\n"},
	} {
		// what one answers, it answers again for a second
		readCap := g.capOf(fmt.Sprint("file ", i), 100)
		g.serve(readCap, func(context.Context) (spool.Source, error) { return nil, test.err })
		for _, method := range []string{"GET", "HEAD"} {
			res, body := g.get(method, "/uri/"+readCap, "Range", "bytes=5-9")
			if method == "HEAD" {
				test.body = ""
			}
			if res.StatusCode != test.status || string(body) != test.body || res.Header.Get("Retry-After") != test.retry || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%v: %s %d %q %v", test.err, method, res.StatusCode, body, res.Header)
			}
		}
	}
}

// TestSpoolFull: without space there is a 503, and no file.
func TestSpoolFull(t *testing.T) {
	g := newGateway(t, spool.Config{Budget: 1000, Window: 1 << 20})
	readCap := g.put(pattern(2000))
	res, _ := g.get("GET", "/uri/"+readCap)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

// TestEarlyHeader: when the first byte takes longer than two seconds, the
// status comes after exactly these, and the bytes when they are there.
func TestEarlyHeader(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		synctest.Test(t, func(t *testing.T) {
			data := pattern(1000)
			hold := make(chan struct{})
			s, sp, readCap := bareServer(t, data, func(ctx context.Context, _ int64) error {
				select {
				case <-hold:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			defer sp.Close()
			rec := &earlyRecorder{ResponseRecorder: httptest.NewRecorder(), start: time.Now()}
			done := make(chan struct{})
			go func() {
				defer close(done)
				req := httptest.NewRequest(method, "/uri/"+readCap, nil)
				req.Header.Set("Range", "bytes=10-19")
				s.Public().ServeHTTP(rec, req)
			}()
			time.Sleep(time.Minute) // of the bubble's own time
			synctest.Wait()
			if rec.after != server.FirstByteWait || rec.Code != http.StatusPartialContent || rec.Body.Len() > 0 {
				t.Errorf("%s: after %v: %d, %d bytes", method, rec.after, rec.Code, rec.Body.Len())
			}
			if method == "GET" && !rec.Flushed {
				t.Error("the header was not flushed")
			}
			close(hold)
			<-done
			if want := data[10:20]; method == "GET" && !bytes.Equal(rec.Body.Bytes(), want) {
				t.Errorf("body %q, want %q", rec.Body, want)
			}
		})
	}
}

// earlyRecorder notes when the header was written.
type earlyRecorder struct {
	*httptest.ResponseRecorder
	start time.Time
	after time.Duration
}

func (r *earlyRecorder) WriteHeader(status int) {
	r.after = time.Since(r.start)
	r.ResponseRecorder.WriteHeader(status)
}

// bareServer is a server without listeners, whose one file is data.
func bareServer(t *testing.T, data []byte, before func(context.Context, int64) error) (*server.Server, *spool.Spool, string) {
	t.Helper()
	g := &gateway{t: t, log: newLogLines()}
	sp := newSpool(t, spool.Config{}, g.log)
	s := server.New(server.Config{Spool: sp})
	s.SetOpenSource(func(context.Context, caps.Cap) (spool.Source, error) {
		return &source{data: data, chunk: 1 << 16, before: before}, nil
	})
	return s, sp, g.capOf("bare", int64(len(data)))
}

// TestErrorAfterHeader: a body that cannot be completed never looks complete.
func TestErrorAfterHeader(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(1 << 20)
	readCap := g.capOf("broken", int64(len(data)))
	g.serve(readCap, func(context.Context) (spool.Source, error) {
		return &source{data: data, chunk: 1 << 16, before: func(_ context.Context, i int64) error {
			if i == 10 {
				return &decode.NotEnoughSharesError{Needed: 3, Total: 10}
			}
			return nil
		}}, nil
	})
	for _, header := range [][]string{nil, {"Range", "bytes=0-99,700000-700099"}} {
		res, body, err := g.try("GET", g.public.URL+"/uri/"+readCap, header...)
		if err == nil || res.StatusCode/100 != 2 || len(body) > 10<<16 {
			t.Errorf("%v: %d bytes of a broken file, error %v", header, len(body), err)
		}
		if header == nil && !bytes.Equal(body, data[:len(body)]) {
			t.Error("wrong bytes")
		}
	}
	for n := range 2 {
		if rec := g.log.await(n); rec["outcome"] != "cut" || rec["error"] == nil {
			t.Errorf("logged %v", rec)
		}
	}
}

// TestMultipart reads a multipart answer as a client does, over chunks that
// are decoded when they are asked for.
func TestMultipart(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(5 << 20)
	readCap := g.put(data)
	res, body := g.get("GET", "/named/"+readCap+"/a.bin", "Range", "bytes=4000000-4999999,-100,0-1999999")
	_, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.StatusCode != 206 || err != nil || res.ContentLength != int64(len(body)) {
		t.Fatalf("%d %v, %d bytes", res.StatusCode, res.Header, len(body))
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for _, want := range [][2]int{{4000000, 5000000}, {5<<20 - 100, 5 << 20}, {0, 2000000}} {
		part, err := r.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(part)
		if err != nil || !bytes.Equal(got, data[want[0]:want[1]]) {
			t.Errorf("part %v: %d bytes, %v", want, len(got), err)
		}
	}
	if _, err := r.NextRawPart(); err != io.EOF {
		t.Error("more parts:", err)
	}
	if rec := g.log.await(0); rec["bytes"] != float64(len(body)) || rec["range"] != true || rec["outcome"] != "complete" || rec["route"] != "/named/*" {
		t.Errorf("logged %v", rec)
	}
}

// TestStalledClient: a client that takes nothing is given up.
func TestStalledClient(t *testing.T) {
	g := newGateway(t, spool.Config{})
	g.SetStallLimit(50 * time.Millisecond)
	readCap := g.keep("large", pattern(64<<20))
	_, r := g.dial("GET /uri/" + readCap + " HTTP/1.1\nHost: x\n\n")
	if _, err := io.ReadFull(r, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	if rec := g.log.await(0); rec["outcome"] != "stalled" || rec["status"] != 200.0 {
		t.Errorf("logged %v", rec)
	}
	if n, err := io.Copy(io.Discard, r); err == nil && n > 63<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestPurgeCuts: a purge ends a stalled send, and spares a reader whose bytes
// are all there.
func TestPurgeCuts(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(64 << 20)
	readCap := g.capOf("large", int64(len(data)))
	hold := make(chan struct{})
	defer close(hold)
	g.serve(readCap, func(context.Context) (spool.Source, error) {
		return &source{data: data, chunk: 1 << 20, before: func(ctx context.Context, i int64) error {
			if i < 60 {
				return nil
			}
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return ctx.Err()
		}}, nil
	})
	// One client stalls in the middle of what is there, the other wants no more than that.
	_, whole := g.dial("GET /uri/" + readCap + " HTTP/1.1\nHost: x\n\n")
	if _, err := io.ReadFull(whole, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	_, part := g.dial("GET /uri/" + readCap + " HTTP/1.1\nHost: x\nConnection: close\nRange: bytes=0-50331647\n\n")
	res, err := http.ReadResponse(part, nil)
	if err != nil || res.StatusCode != 206 {
		t.Fatal(res, err)
	}
	// Now the first 48 MiB are there, or decoded next.
	g.get("GET", "/uri/"+readCap, "Range", "bytes=50331647-50331647")
	g.get("GET", "/uri/"+readCap, "Range", "bytes=0-50331647")

	answer, body, err := g.try("DELETE", g.admin.URL+"/admin/spool", "Authorization", "Bearer "+adminToken)
	if err != nil || answer.StatusCode != 200 || !strings.Contains(string(body), `"entries":1,`) {
		t.Fatalf("purge: %v %s", err, body)
	}
	if n, err := io.Copy(io.Discard, whole); n >= 60<<20 {
		t.Errorf("a purged reader got %d bytes, %v", n, err)
	}
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, data[:48<<20]) {
		t.Errorf("the other reader got %d bytes, %v", len(got), err)
	}
	outcomes := map[any]int{}
	for n := range 4 {
		outcomes[g.log.await(n)["outcome"]]++
	}
	if outcomes["cut"] != 1 || outcomes["complete"] != 3 {
		t.Errorf("outcomes %v", outcomes)
	}
}

// TestClientGone: a request whose client leaves while it waits ends, and is no answer.
func TestClientGone(t *testing.T) {
	g := newGateway(t, spool.Config{})
	readCap := g.capOf("never", 100)
	opened := make(chan struct{})
	g.serve(readCap, func(ctx context.Context) (spool.Source, error) {
		close(opened)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	conn, _ := g.dial("GET /uri/" + readCap + " HTTP/1.1\nHost: x\n\n")
	<-opened
	conn.Close()
	if rec := g.log.await(0); rec["outcome"] != "client gone" || rec["status"] != 499.0 && rec["status"] != 200.0 {
		t.Errorf("logged %v", rec)
	}
}

// TestKeepAlive: one connection, many answers, each whole.
func TestKeepAlive(t *testing.T) {
	g := newGateway(t, spool.Config{})
	readCap := g.put(pattern(1 << 20))
	conn, r := g.dial("")
	for range 20 {
		for _, header := range []string{"", "Range: bytes=1-100\n", "Range: bytes=1-2,5-6\n", "Range: bytes=9999999-\n", "If-None-Match: *\n"} {
			for _, method := range []string{"GET", "HEAD"} {
				io.WriteString(conn, strings.ReplaceAll(method+" /uri/"+readCap+" HTTP/1.1\nHost: x\n"+header+"\n", "\n", "\r\n"))
				res, err := http.ReadResponse(r, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Close {
					t.Fatal(err, res.Close)
				}
			}
		}
	}
	if n := g.spool.Snapshot().ChunksWritten; n != g.chunks(readCap) {
		t.Errorf("%d chunks were decoded of %d", n, g.chunks(readCap))
	}
}
