package transport_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"spillway/server/transport"
	"spillway/server/transport/transporttest"
)

// TestPieces: over every kind of connection a body is its pieces, of several contents, in their
// order.
func TestPieces(t *testing.T) {
	s := newSite(t)
	data := pattern(300_000)
	a, b := newSpooled(t, data), newMemory(data)
	s.servePieces("/", ok, text("begin"), part(a, 5, 200_000), text(""), part(b, 7, 7), part(b, 0, 300_000), text("middle"), part(a, 0, 1), text("end"))
	want := bytes.Join([][]byte{[]byte("begin"), data[5:200_000], data, []byte("middle"), data[:1], []byte("end")}, nil)
	check := func(what string, client *http.Client, url string) {
		t.Helper()
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(got, want) || res.ContentLength != int64(len(want)) || res.Header.Get("X-Kind") != "test" || res.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%s: %d bytes, %v, %v", what, len(got), err, res.Header)
		}
	}
	check("plain", s.Client(), s.URL)
	if n := s.copied.Swap(0); n != 300_000 {
		t.Errorf("%d bytes were copied, not those of one content", n)
	}
	for _, http2 := range []bool{false, true} {
		hs := httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
		hs.EnableHTTP2 = http2
		hs.StartTLS()
		check(fmt.Sprint("http2: ", http2), hs.Client(), hs.URL)
		if n := s.copied.Swap(0); n != 499_996 {
			t.Errorf("%d bytes were copied, not all", n)
		}
		hs.Close()
	}
}

// TestLongHeader: a header of more than its bound is refused, and nothing of it is sent.
func TestLongHeader(t *testing.T) {
	s := newSite(t)
	for name, n := range map[string]int{"/fits": transport.MaxFields - len("X-Long: \r\ntext/plain"), "/long": transport.MaxFields} {
		s.servePieces(name, transport.Header{Status: 200, ContentType: "text/plain",
			Shared: transport.NewFields(transport.Field{Name: "X-Long", Values: []string{strings.Repeat("x", n)}})}, text("body"))
		res, err := s.Client().Get(s.URL + name)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if fits := name == "/fits"; err != nil || (res.StatusCode == 200) != fits || (res.Header.Get("X-Long") != "") != fits || (string(body) == "body") != fits {
			t.Errorf("%s: %d %q %v", name, res.StatusCode, body, err)
		}
	}
}

// archive is an answer of many small contents, which are made when they are asked for.
type archive struct {
	n          int
	made       atomic.Int64 // pieces
	data       []byte
	open, most int // contents
	done       bool
}

func (a *archive) Next() (transport.Piece, error) {
	at := int(a.made.Add(1))
	switch {
	case at > 2*a.n:
		a.open = 0
		return transport.Piece{}, io.EOF
	case at%2 == 1:
		a.open = 0 // the one before is out
		return text(fmt.Sprintf("%8d", at)), nil
	}
	a.open++
	a.most = max(a.most, a.open)
	return part(newMemory(a.data), int64(at%10), int64(at%10)+500), nil
}

func (a *archive) Done(int64, error) { a.done = true }

// TestManyPieces: an answer of many pieces holds one at a time, also after its hand-over.
func TestManyPieces(t *testing.T) {
	s := newSite(t)
	const n = 20_000
	a := &archive{n: n, data: pattern(1000)}
	var want bytes.Buffer
	for i := 1; i <= 2*n; i += 2 {
		fmt.Fprintf(&want, "%8d%s", i, a.data[(i+1)%10:(i+1)%10+500])
	}
	s.serve("/", func() (transport.Header, transport.Answer) {
		h := ok
		h.Length = int64(want.Len())
		return h, a
	})
	conn := s.dial("/")
	transporttest.Await(t, "the answer is handed over", func() bool { return s.HandedOver() == 1 })
	if made := a.made.Load(); made > 3*n/2 {
		t.Errorf("%d pieces were made before the client took any", made)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes of %d, %v", len(got), want.Len(), err)
	}
	if r := s.result(1); r.err != nil || !r.handedOver || r.sent != int64(want.Len()) || a.most != 1 || !a.done {
		t.Errorf("%+v, %d contents at a time, done %v", r, a.most, a.done)
	}
}

// failing is an answer that cannot go on after some pieces.
type failing struct {
	list
	err error // nil panics
}

func (f *failing) Next() (transport.Piece, error) {
	piece, err := f.list.Next()
	if err == nil {
		return piece, nil
	}
	if f.err == nil {
		panic("a bug")
	}
	return piece, f.err
}

// TestBroken: what ends an answer early closes its connection, and is told, before a hand-over and
// after.
func TestBroken(t *testing.T) {
	lost := errors.New("the content is lost")
	for _, test := range []struct {
		what string
		size int64
		err  error
	}{{"small", 1000, lost}, {"large", large, lost}, {"a bug", large, nil}} {
		s := newSite(t)
		content := newSpooled(t, pattern(int(test.size)))
		s.serve("/", func() (transport.Header, transport.Answer) {
			h := ok
			h.Length = test.size + 1
			return h, &failing{list{[]transport.Piece{part(content, 0, test.size)}}, test.err}
		})
		conn := s.dial("/")
		if test.size == large {
			transporttest.Await(t, "the answer is handed over", func() bool { return s.HandedOver() == 1 })
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != io.ErrUnexpectedEOF || int64(len(got)) != test.size {
			t.Errorf("%s: %d bytes, %v", test.what, len(got), err)
		}
		r := s.result(1)
		var bug *transport.PanicError
		if r.sent != test.size || r.handedOver != (test.size == large) || test.err != nil && !errors.Is(r.err, test.err) || errors.As(r.err, &bug) != (test.err == nil) {
			t.Errorf("%s: %+v", test.what, r)
		}
	}
}

// TestCut: the content that is being sent cuts the answer, whichever of its contents it is.
func TestCut(t *testing.T) {
	s := newSite(t)
	first, second := newSpooled(t, pattern(1000)), newSpooled(t, pattern(large))
	s.servePieces("/first", ok, part(second, 0, large), part(first, 0, 1000))
	s.servePieces("/second", ok, part(first, 0, 1000), part(second, 0, large))
	for n, path := range []string{"/first", "/second"} {
		s.dial(path)
		transporttest.Await(t, "the answer is handed over", func() bool { return s.HandedOver() == 1 })
		second.cutNow()
		if r := s.result(n + 1); r.err != transport.ErrCut || r.sent >= large {
			t.Errorf("%s: %+v", path, r)
		}
		transporttest.Await(t, "no answer is left", func() bool { return s.HandedOver() == 0 })
	}
}

// TestSlot: a connection remembers what a handler has told it, until an answer is handed over.
func TestSlot(t *testing.T) {
	s := newSite(t)
	content := newSpooled(t, pattern(large))
	var seen []any
	inner := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slot := transport.Slot(r.Context())
		seen = append(seen, *slot)
		*slot = r.URL.Path
		inner.ServeHTTP(w, r)
	})
	s.servePieces("/small", ok, text("small"))
	s.servePieces("/large", ok, part(content, 0, large))
	r := bufio.NewReader(s.dial("/small", "/large", "/small", "/small"))
	transporttest.Await(t, "the answer is handed over", func() bool { return s.HandedOver() == 1 })
	for range 4 {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(seen); got != "[<nil> /small <nil> /small]" {
		t.Errorf("seen %s", got)
	}
	if transport.Slot(context.Background()) != nil {
		t.Error("a slot without a connection")
	}
}

// TestLength: pieces that are more than the header says are not sent, and such as are less are not
// taken for all, or the client would take one answer for a part of another.
func TestLength(t *testing.T) {
	s := newSite(t)
	data := pattern(large)
	content := newSpooled(t, data)
	pieces := []transport.Piece{text("begin"), part(content, 0, large), text("end")}
	for path, by := range map[string]int64{"/more": -1, "/less": 1} {
		h := ok
		h.Length = 5 + large + 3 + by
		s.serve(path, func() (transport.Header, transport.Answer) { return h, &list{pieces: pieces} })
	}
	s.serve("/backwards", func() (transport.Header, transport.Answer) {
		h := ok
		h.Length = 5
		return h, &list{pieces: []transport.Piece{text("begin"), part(content, 5, 1), text("half")}}
	})
	tls := httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	tls.EnableHTTP2 = true
	tls.StartTLS()
	defer tls.Close()
	for path, want := range map[string]int{"/more": 5 + large, "/less": 5 + large + 3, "/backwards": 5} {
		r := bufio.NewReader(s.dial(path, "/nothing"))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if len(got) != want || (err == nil) != (path == "/backwards") {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%s: then %q", path, rest)
		}
		if res, err := tls.Client().Get(tls.URL + path); err == nil {
			if got, err := io.ReadAll(res.Body); len(got) > want || err == nil && path != "/backwards" {
				t.Errorf("%s over TLS: %d bytes, %v", path, len(got), err)
			}
			res.Body.Close()
		}
	}
}
