package transport_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/server/transport"
	"spillway/server/transport/transporttest"
)

// TestShortWrites: whatever part of an answer the socket takes at a time, the client gets the bytes
// that it gets of a socket that takes all, in their order, and the next answer after them.
func TestShortWrites(t *testing.T) {
	s := newSite(t)
	socket := transporttest.NewNarrow(s.Transport)
	data := pattern(200)
	file, copied := socket.Content(newSpooled(t, data)), newMemory(data)
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
			socket.Check(t, s.Server.Listener.Addr().String(), line+" HTTP/1.1\r\nHost: x\r\n\r\n", next)
		})
	}
	transporttest.Await(t, "no answer is left", func() bool { return s.HandedOver() == 0 })
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
		want = append(want, transporttest.Whole(t, s.Server.Listener.Addr().String(), request)...)
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
	transporttest.Await(t, "an answer is handed over", func() bool { return s.HandedOver() > 0 })
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := conn.Read(got[n:min(n+100, len(got))])
		if err != nil {
			t.Fatalf("%v after %d bytes", err, n)
		}
		n += m
	}
	if !bytes.Equal(transporttest.Undated(got), want) {
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
