package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"spillway/decode"
	"spillway/server"
	"spillway/server/transport/transporttest"
	"spillway/spool"
)

// large is more than all socket buffers of a connection hold, so that whoever asks for it is handed
// over.
const large = 64 << 20

// ask sends requests for cap on a connection of their own, with these header fields, each ended by
// \n, all at once, and waits until the first answer has begun and been handed over.
func (g *gateway) ask(readCap string, headers ...string) (net.Conn, *bufio.Reader) {
	g.t.Helper()
	var text strings.Builder
	for _, header := range headers {
		text.WriteString("GET /uri/" + readCap + " HTTP/1.1\nHost: x\n" + header + "\n")
	}
	before := g.HandedOver()
	conn, r := g.dial(text.String())
	if _, err := r.Peek(1); err != nil {
		g.t.Fatal(err)
	}
	transporttest.Await(g.t, "the answer is handed over", func() bool { return g.HandedOver() > before })
	return conn, r
}

// body reads an answer, which must be whole, and returns its body.
func body(t *testing.T, r *bufio.Reader) (*http.Response, []byte) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(data), err)
	}
	return res, data
}

// checkIdle compares what the gateway says of itself with what a gateway without requests is.
func (g *gateway) checkIdle() {
	g.t.Helper()
	transporttest.Await(g.t, "no request is left", func() bool {
		snapshot := g.spool.Snapshot()
		for _, e := range snapshot.Entries {
			if e.Readers > 0 {
				return false
			}
		}
		return g.HandedOver() == 0
	})
	const this = "\nspillway_http_requests_in_flight 1\n" // that for the metrics
	if _, page, err := g.try("GET", g.admin.URL+"/metrics"); err != nil || !strings.Contains(string(page), this) {
		g.t.Errorf("%v, or more requests are in flight", err)
	}
}

// TestHandOverKeepAlive: a connection that was handed over serves further requests, those sent
// before the first answer was out as well, and each is logged as what it was.
func TestHandOverKeepAlive(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(large)
	readCap := g.keep("large", data)
	for _, pipelined := range []bool{false, true} {
		requests := []string{"", "Range: bytes=5-9\n", "", "Range: bytes=7-7\nConnection: close\n"}
		send := 1
		if pipelined {
			send = len(requests)
		}
		conn, r := g.ask(readCap, requests[:send]...)
		for i, header := range requests {
			if i >= send {
				io.WriteString(conn, strings.ReplaceAll("GET /uri/"+readCap+" HTTP/1.1\nHost: x\n"+header+"\n", "\n", "\r\n"))
			}
			want := data
			if i%2 == 1 {
				want = data[[]int{5, 7}[i/2]:[]int{10, 8}[i/2]]
			}
			if res, got := body(t, r); !bytes.Equal(got, want) || res.Close != (i == 3) {
				t.Errorf("pipelined %v, answer %d: %d bytes, closed %v", pipelined, i, len(got), res.Close)
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("after the last answer: %v", err)
		}
	}
	for n := range 8 {
		rec := g.log.await(n)
		want := []float64{large, 5, large, 1}[n%4]
		if rec["bytes"] != want || rec["outcome"] != "complete" || rec["method"] != "GET" || rec["route"] != "/uri/*" || rec["id"] != idOf(t, readCap) {
			t.Errorf("request %d: %v", n, rec)
		}
	}
	g.checkIdle()
	if copied := g.copied(); copied != 0 {
		t.Errorf("%d bytes were copied", copied)
	}
}

// TestHandOverHTTP10: a client of HTTP/1.0 is told the end of its answer by the connection's.
func TestHandOverHTTP10(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(large)
	readCap := g.keep("large", data)
	_, r := g.dial("GET /uri/" + readCap + " HTTP/1.0\n\n")
	transporttest.Await(t, "the answer is handed over", func() bool { return g.HandedOver() == 1 })
	if _, got := body(t, r); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

// TestHandOverMultipart: parts that come before, with and after the hand-over are whole, and so are
// the texts between them.
func TestHandOverMultipart(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(large)
	readCap := g.keep("large", data)
	want := [][2]int{{10, 20}, {100, large / 2}, {large - 1000, large}, {0, 1}, {large / 2, large/2 + 9_000_000}}
	var ranges []string
	for _, w := range want {
		ranges = append(ranges, fmt.Sprintf("%d-%d", w[0], w[1]-1))
	}
	_, r := g.ask(readCap, "Range: bytes="+strings.Join(ranges, ",")+"\n")
	res, got := body(t, r)
	_, params, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	parts := multipart.NewReader(bytes.NewReader(got), params["boundary"])
	for _, w := range want {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); err != nil || !bytes.Equal(got, data[w[0]:w[1]]) {
			t.Errorf("part %v: %d bytes, %v", w, len(got), err)
		}
	}
	if _, err := parts.NextRawPart(); err != io.EOF {
		t.Error("more parts:", err)
	}
	if rec := g.log.await(0); rec["bytes"] != float64(len(got)) || rec["range"] != true {
		t.Errorf("logged %v", rec)
	}
	if copied := g.copied(); copied != 0 {
		t.Errorf("%d bytes were copied", copied)
	}
}

// TestNothingCopied: every byte of a spooled file goes by sendfile, also while it is being spooled.
func TestNothingCopied(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(3 << 20)
	for i, ranges := range []string{"", "bytes=5-2000004", "bytes=0-999,5000-5999,2000000-", "bytes=-1"} {
		readCap := g.keep(fmt.Sprint("cold ", i), data)
		for range 2 { // it is cold, and then it is not
			header := []string{"Range", ranges}
			if ranges == "" {
				header = nil
			}
			if res, got := g.get("GET", "/uri/"+readCap, header...); res.StatusCode/100 != 2 || int64(len(got)) != res.ContentLength {
				t.Errorf("%q: %d, %d bytes", ranges, res.StatusCode, len(got))
			}
		}
	}
	if copied := g.copied(); copied != 0 {
		t.Errorf("%d bytes were copied", copied)
	}
	g.get("GET", "/uri/URI:LIT:nruxizlsmfwcc") // what its cap holds is in no file
	if copied := g.copied(); copied == 0 {
		t.Error("the counter does not count")
	}
}

// TestHandOverWaits: a client that waits for bytes of the file is handed over too, gets them when
// they are there, and is noticed when it leaves.
func TestHandOverWaits(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(1 << 20)
	readCap := g.capOf("held", int64(len(data)))
	hold := make(chan struct{})
	g.serve(readCap, func(context.Context) (spool.Source, error) {
		return &source{data: data, chunk: 1 << 16, before: func(ctx context.Context, i int64) error {
			if i < 4 {
				return nil
			}
			select {
			case <-hold:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}, nil
	})
	leaver, _ := g.ask(readCap, "")
	_, r := g.ask(readCap, "", "Range: bytes=1-2\n")
	leaver.Close()
	if rec := g.log.await(0); rec["outcome"] != "client gone" || rec["status"] != 200.0 {
		t.Errorf("logged %v", rec)
	}
	close(hold)
	if _, got := body(t, r); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	if _, got := body(t, r); !bytes.Equal(got, data[1:3]) {
		t.Errorf("then %q", got)
	}
	g.checkIdle()
}

// TestHandOverBroken: what cannot be decoded ends a body that was handed over, never as if it were
// whole.
func TestHandOverBroken(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(large)
	readCap := g.capOf("broken", large)
	g.serve(readCap, func(context.Context) (spool.Source, error) {
		return &source{data: data, chunk: 1 << 20, before: func(_ context.Context, i int64) error {
			if i == 50 {
				return &decode.NotEnoughSharesError{Needed: 3, Total: 10}
			}
			return nil
		}}, nil
	})
	_, r := g.ask(readCap, "")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(res.Body); err == nil || len(got) > 50<<20 || !bytes.Equal(got, data[:len(got)]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if rec := g.log.await(0); rec["outcome"] != "cut" || rec["level"] != "WARN" || rec["error"] == nil {
		t.Errorf("logged %v", rec)
	}
	g.checkIdle()
}

// TestHandOverGone: a client that breaks its connection is noticed at once, however it does that.
func TestHandOverGone(t *testing.T) {
	g := newGateway(t, spool.Config{})
	readCap := g.keep("large", pattern(large))
	for n, reset := range []bool{false, true} {
		conn, _ := g.ask(readCap, "")
		if reset {
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
		if rec := g.log.await(n); rec["outcome"] != "client gone" || rec["bytes"].(float64) >= large {
			t.Errorf("reset %v: logged %v", reset, rec)
		}
	}
	g.checkIdle()
}

// TestHandOverShutdown: Shutdown closes what has no request, lets a body go on while its context
// lasts, then cuts it.
func TestHandOverShutdown(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(large)
	readCap := g.keep("large", data)
	_, idle := g.ask(readCap, "")
	_, slow := g.ask(readCap, "")
	_, never := g.ask(readCap, "")
	if _, got := body(t, idle); !bytes.Equal(got, data) {
		t.Error("the first answer is not whole")
	}
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error)
	go func() { down <- g.Shutdown(ctx, g.public.Config) }()
	if _, err := idle.ReadByte(); err != io.EOF {
		t.Error("a connection without a request:", err)
	}
	if _, got := body(t, slow); !bytes.Equal(got, data) {
		t.Error("the second answer is not whole")
	}
	g.log.await(1)
	cancel()
	if err := <-down; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if rec := g.log.await(2); rec["outcome"] != "cut" {
		t.Errorf("logged %v", rec)
	}
	if n, err := io.Copy(io.Discard, never); n >= large {
		t.Errorf("the third got %d bytes, %v", n, err)
	}
	if n := g.HandedOver(); n != 0 {
		t.Errorf("%d senders are left", n)
	}
}

// TestHandOverWindow: what is copied out of a private window to a client that stalls is the file.
func TestHandOverWindow(t *testing.T) {
	g := newGateway(t, spool.Config{Budget: 4 << 20, Window: 1 << 20})
	data := pattern(large)
	readCap := g.keep("large", data)
	_, r := g.ask(readCap, "", "")
	for range 2 {
		if _, got := body(t, r); !bytes.Equal(got, data) {
			t.Errorf("%d bytes", len(got))
		}
	}
	if copied := g.copied(); copied != 2*large {
		t.Errorf("%d bytes were copied, not %d", copied, 2*large)
	}
	g.checkIdle()
}

// TestHandOverBug: a panic in a sender ends its answer, and is told, and that is all.
func TestHandOverBug(t *testing.T) {
	g := newGateway(t, spool.Config{})
	readCap := g.keep("large", pattern(large))
	g.SetContent(func(c server.Content) server.Content { return &faulty{Content: c} })
	_, r := g.ask(readCap, "")
	if n, err := io.Copy(io.Discard, r); n >= large {
		t.Errorf("%d bytes, %v", n, err)
	}
	if rec := g.log.await(0); rec["outcome"] != "panic" || !strings.Contains(rec["error"].(string), "a bug") || rec["level"] != "WARN" {
		t.Errorf("logged %v", rec)
	}
	g.checkIdle()
}

// faulty panics at the first byte of the second half.
type faulty struct{ server.Content }

func (c *faulty) Sendfile(socket int, off, n int64) (int64, error) {
	if off > large/2 {
		panic("a bug")
	}
	return c.Content.Sendfile(socket, off, n)
}

// TestOtherConnections: over TLS, with either version of HTTP, bodies are copied, and are the same.
func TestOtherConnections(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(5 << 20)
	readCap := g.keep("file", data)
	for _, http2 := range []bool{false, true} {
		hs := httptest.NewUnstartedServer(nil)
		hs.Config = g.HTTPServer(g.Public())
		hs.EnableHTTP2 = http2
		hs.StartTLS()
		for _, want := range [][2]int{{0, len(data)}, {7, 100_000}} {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", hs.URL+"/uri/"+readCap, nil)
			if want[0] > 0 {
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", want[0], want[1]-1))
			}
			before := g.copied()
			res, err := hs.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !bytes.Equal(got, data[want[0]:want[1]]) || (res.ProtoMajor == 2) != http2 {
				t.Errorf("%s: %d bytes, %v", res.Proto, len(got), err)
			}
			if copied := g.copied() - before; copied != int64(len(got)) {
				t.Errorf("%d bytes were copied, not %d", copied, len(got))
			}
		}
		hs.Close()
	}
}

// TestListener: connections that come back, and those that come from outside, are accepted until
// it is closed; an error of the inner listener reaches Accept.
func TestListener(t *testing.T) {
	g := newGateway(t, spool.Config{})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := g.Listener(&failingListener{Listener: inner})
	if _, err := l.Accept(); err != syscall.EMFILE {
		t.Errorf("Accept: %v", err)
	}
	client, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for range 2 {
		l.Close()
		if _, err := l.Accept(); err != net.ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	}
}

// failingListener fails once.
type failingListener struct {
	net.Listener
	once sync.Once
}

func (l *failingListener) Accept() (c net.Conn, err error) {
	l.once.Do(func() { err = syscall.EMFILE })
	if err != nil {
		return nil, err
	}
	return l.Listener.Accept()
}
