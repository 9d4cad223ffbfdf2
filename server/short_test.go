package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"spillway/decode"
	"spillway/server"
	"spillway/spool"
)

// TestShortWrites: whatever part of an answer the socket takes at a time, the client gets the bytes
// that it gets of a socket that takes all, in their order, and the next answer after them.
func TestShortWrites(t *testing.T) {
	g := newGateway(t, spool.Config{})
	var socket narrow
	g.SetSend(socket.send)
	g.SetContent(func(c server.Content) server.Content { return &narrowContent{c, &socket} })
	file, lost := g.keep("file", pattern(120)), g.capOf("lost", 10)
	g.serve(lost, func(context.Context) (spool.Source, error) {
		return nil, &decode.NotEnoughSharesError{Needed: 3, Total: 10}
	})
	const literal = "URI:LIT:nruxizlsmfwcc"
	name := strings.Repeat("%F0%9F%90%8C", 20) + ".txt"
	next := strings.ReplaceAll("GET /uri/"+literal+" HTTP/1.1\nHost: x\n\n", "\n", "\r\n")
	for _, test := range []struct{ what, line, fields string }{
		{"200", "GET /uri/" + file, ""},
		{"200 named", "GET /uri/" + file + "?save=true&filename=" + name, ""},
		{"206", "GET /file/" + file + "/a.png", "Range: bytes=7-90\n"},
		{"multipart", "GET /uri/" + g.keep("larger", pattern(2000)), "Range: bytes=0-9,500-599,100-100\n"},
		{"literal", "GET /uri/" + literal + "?filename=a.html", ""},
		{"literal 206", "GET /uri/" + literal, "Range: bytes=2-4\n"},
		{"HEAD", "HEAD /uri/" + file, ""},
		{"304", "GET /uri/" + file, "If-None-Match: *\n"},
		{"302", "GET /uri?uri=" + file, ""},
		{"400", "GET /uri/hello", ""},
		{"404", "GET /nothing", ""},
		{"410", "GET /uri/" + lost, ""},
		{"412", "GET /uri/" + file, "If-Match: \"x\"\n"},
		{"416", "GET /uri/" + file, "Range: bytes=120-\n"},
	} {
		t.Run(test.what, func(t *testing.T) {
			conn, _ := g.dial("")
			conn.SetDeadline(time.Now().Add(time.Minute)) // an answer may lack bytes
			request := strings.ReplaceAll(test.line+" HTTP/1.1\nHost: x\n"+test.fields+"\n", "\n", "\r\n")
			first, second := g.whole(request), g.whole(next)
			want := slices.Concat(first, second)
			for _, h := range []hindrance{cutShort, fullOnce, trickle} {
				for n := 1; n < len(want); n++ {
					socket.hinder(h, n)
					got := exchange(t, conn, request+next, len(want))
					if h == trickle && bytes.Equal(got, want) { // and once more, one after the other
						socket.hinder(h, n)
						got = append(exchange(t, conn, request, len(first)), exchange(t, conn, next, len(second))...)
					}
					if !bytes.Equal(got, want) {
						t.Fatalf("%v at byte %d:\n%q, want\n%q", h, n, got, want)
					}
					if h == trickle {
						n += n / 4
					}
				}
			}
			socket.hinder(free, 0)
			conn.(*net.TCPConn).CloseWrite()
			if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
				t.Errorf("after the last answer: %q, %v", rest, err)
			}
		})
	}
}

// exchange sends requests at once, and returns the n bytes that come back, without their dates.
func exchange(t *testing.T, conn net.Conn, requests string, n int) []byte {
	t.Helper()
	answers := make([]byte, n)
	if _, err := io.WriteString(conn, requests); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadFull(conn, answers); err != nil {
		t.Fatalf("%v after %q", err, answers[:got])
	}
	return undated(answers)
}

// whole returns the answer to one request as a socket that takes all brings it, without its date.
func (g *gateway) whole(request string) []byte {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.public.Listener.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		g.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	var answer bytes.Buffer
	res, err := http.ReadResponse(bufio.NewReader(io.TeeReader(conn, &answer)), &http.Request{Method: method})
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		g.t.Fatal(err)
	}
	return undated(answer.Bytes())
}

var date = regexp.MustCompile(`(\r\nDate: )[^\r]*`)

// undated replaces the dates of answers by as many bytes.
func undated(answers []byte) []byte {
	return date.ReplaceAllFunc(answers, func(field []byte) []byte {
		return append([]byte("\r\nDate: "), bytes.Repeat([]byte("x"), len(field)-len("\r\nDate: "))...)
	})
}

// A hindrance is what a narrow socket does at a byte n.
type hindrance int

const (
	free     hindrance = iota
	cutShort           // takes a part of a write, up to byte n, and says no error
	fullOnce           // so, and then says once that it is full
	trickle            // takes n bytes at most of each write, and is full before each
)

func (h hindrance) String() string {
	return [...]string{"free", "cut short", "full once", "trickle"}[h]
}

// narrow is how sockets take bytes.
type narrow struct {
	mu        sync.Mutex
	hindrance hindrance
	n         int
	left      int // bytes until the hindrance
	full      bool
}

func (s *narrow) hinder(h hindrance, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hindrance, s.n, s.left, s.full = h, n, n, h == trickle
}

// room says how many of n bytes a write may have.
func (s *narrow) room(fd, n int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		s.full = false
		// Whoever waits for room is woken, as if the client had taken something.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16<<10); err != nil {
			panic(fmt.Sprint("internal error: ", err))
		}
		return 0, syscall.EAGAIN
	}
	switch {
	case s.hindrance == trickle:
		s.full = true
		return min(n, s.n), nil
	case s.hindrance != free && n >= s.left:
		n = s.left
		s.full = s.hindrance == fullOnce
		s.hindrance = free
		return n, nil
	}
	s.left -= n
	return n, nil
}

func (s *narrow) send(send func(int, []byte) (int, error)) func(int, []byte) (int, error) {
	return func(fd int, p []byte) (int, error) {
		n, err := s.room(fd, len(p))
		if err != nil {
			return 0, err
		}
		return send(fd, p[:n])
	}
}

// narrowContent goes by sendfile to a narrow socket.
type narrowContent struct {
	server.Content
	socket *narrow
}

func (c *narrowContent) Sendfile(fd int, off, n int64) (int64, error) {
	if _, err := c.Content.Sendfile(fd, off, 0); err != nil {
		return 0, err // it is copied
	}
	room, err := c.socket.room(fd, int(n))
	if err != nil {
		return 0, err
	}
	return c.Content.Sendfile(fd, off, int64(room))
}

// TestTinySocket: so it is with the kernel's own socket that takes little at a time, and a client
// that takes its time.
func TestTinySocket(t *testing.T) {
	g := newGateway(t, spool.Config{})
	hs := httptest.NewUnstartedServer(nil)
	hs.Config = g.HTTPServer(g.Public())
	hs.Listener = g.Listener(tinyListener{hs.Listener})
	hs.Start()
	defer hs.Close()
	file, name := g.keep("file", pattern(3000)), strings.Repeat("%F0%9F%90%8C", 60)
	var requests strings.Builder
	var want []byte
	for i := range 100 {
		request := strings.ReplaceAll(fmt.Sprintf("GET /uri/%s?filename=%s HTTP/1.1\nHost: x\nRange: bytes=%d-%d\n\n", file, name, i, 29*i), "\n", "\r\n")
		requests.WriteString(request)
		want = append(want, g.whole(request)...)
	}
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 200) })
	}}
	conn, err := small.DialContext(t.Context(), "tcp", hs.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { io.WriteString(conn, requests.String()) })
	await(t, "an answer is handed over", func() bool { return g.HandedOver() > 0 })
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := conn.Read(got[n:min(n+100, len(got))])
		if err != nil {
			t.Fatalf("%v after %d bytes", err, n)
		}
		n += m
	}
	if !bytes.Equal(undated(got), want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// tinyListener's connections hold as little as the kernel allows.
type tinyListener struct{ net.Listener }

func (l tinyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(1)
	}
	return conn, err
}
