package transport_test

import (
	"bufio"
	"bytes"
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

	"golang.org/x/sys/unix"

	"spillway/server/transport"
)

// TestShortWrites: whatever part of an answer the socket takes at a time, the client gets the bytes
// that it gets of a socket that takes all, in their order, and the next answer after them.
func TestShortWrites(t *testing.T) {
	s := newSite(t)
	var socket narrow
	s.SetSend(socket.send)
	data := pattern(200)
	file, copied := &narrowContent{newSpooled(t, data), &socket}, newMemory(data)
	partial := transport.Header{Status: 206, ContentType: "text/html", ContentRange: "bytes 5-9/200",
		Shared: transport.NewFields(transport.Field{Name: "X-Long", Values: []string{strings.Repeat("x", 1000)}})}
	s.servePieces("/text", ok, text("one"), text(""), text("two"))
	s.servePieces("/file", ok, part(file, 0, 200))
	s.servePieces("/range", partial, part(file, 5, 10))
	s.servePieces("/copied", ok, part(copied, 3, 200))
	s.servePieces("/empty", ok, text(""), part(file, 7, 7))
	s.servePieces("/mixed", ok, text("<"), part(file, 0, 20), text("|"), part(copied, 0, 20), part(file, 100, 101), text(">"))
	next := request("GET", "/text")
	for _, line := range []string{"GET /text", "GET /file", "GET /range", "GET /copied", "GET /empty", "GET /mixed", "GET /nothing", "HEAD /file"} {
		t.Run(line, func(t *testing.T) {
			conn := s.dial()
			request := line + " HTTP/1.1\r\nHost: x\r\n\r\n"
			first, second := s.whole(request), s.whole(next)
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
	await(t, "no answer is left", func() bool { return s.HandedOver() == 0 })
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
func (s *site) whole(request string) []byte {
	s.t.Helper()
	conn := s.dial()
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	var answer bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &answer))
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		s.t.Fatal(err)
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
	transport.Content
	socket *narrow
}

func (c *narrowContent) Sendfile(fd int, off, n int64) (int64, error) {
	room, err := c.socket.room(fd, int(n))
	if err != nil {
		return 0, err
	}
	return c.Content.Sendfile(fd, off, int64(room))
}

// TestTinySocket: so it is with the kernel's own socket that takes little at a time, and a client
// that takes its time.
func TestTinySocket(t *testing.T) {
	s := newSite(t)
	hs := httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	hs.Config.ConnContext = transport.ConnContext
	hs.Listener = s.Transport.Listener(tinyListener{hs.Listener})
	hs.Start()
	defer hs.Close()
	long := transport.Header{Status: 200, ContentType: "text/html",
		Shared: transport.NewFields(transport.Field{Name: "X-Long", Values: []string{strings.Repeat("x", 3000)}})}
	file := newSpooled(t, pattern(3000))
	var requests strings.Builder
	var want []byte
	for i := range 100 {
		path := fmt.Sprint("/", i)
		s.servePieces(path, long, part(file, int64(i), int64(i)+29*int64(i)))
		request := request("GET", path)
		requests.WriteString(request)
		want = append(want, s.whole(request)...)
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
	await(t, "an answer is handed over", func() bool { return s.HandedOver() > 0 })
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
