package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"spillway/server/transport"
	"spillway/server/transport/transporttest"
)

// site is a server on a Transport.
type site struct {
	*transport.Transport
	*httptest.Server
	t       *testing.T
	copied  atomic.Int64
	mu      sync.Mutex // guards all below
	answers map[string]func() (transport.Header, transport.Answer)
	results []result
}

// result is how an answer ended.
type result struct {
	path       string
	handedOver bool
	sent       int64
	err        error
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, answers: map[string]func() (transport.Header, transport.Answer){}}
	s.Transport = transport.New(time.Minute, func(n int64) { s.copied.Add(n) })
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.handle))
	s.Config.ConnContext = transport.ConnContext
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Server.Listener = s.Transport.Listener(s.Server.Listener)
	s.Start()
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// serve makes answer that of a path.
func (s *site) serve(path string, answer func() (transport.Header, transport.Answer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = answer
}

// servePieces makes an answer with these pieces that of a path.
func (s *site) servePieces(path string, h transport.Header, pieces ...transport.Piece) {
	h.Length = 0
	for _, p := range pieces {
		h.Length += int64(len(p.Text)) + p.End - p.Off
	}
	s.serve(path, func() (transport.Header, transport.Answer) { return h, &list{pieces: pieces} })
}

func (s *site) handle(w http.ResponseWriter, r *http.Request) {
	s.Bound(w, r)
	s.mu.Lock()
	answer := s.answers[r.URL.Path]
	s.mu.Unlock()
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	h, a := answer()
	if r.Method == http.MethodHead {
		h.Set(w.Header())
		w.WriteHeader(h.Status)
		return
	}
	sent, err := s.Send(w, r, h, &noted{a, s, r.URL.Path})
	switch {
	case err == transport.ErrHandedOver:
		return
	case err == transport.ErrLongHeader:
		http.Error(w, "too long", http.StatusInternalServerError)
	}
	s.note(result{r.URL.Path, false, sent, err})
	if err != nil && err != transport.ErrLongHeader {
		panic(http.ErrAbortHandler)
	}
}

func (s *site) note(r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, r)
}

// result waits until n answers have ended, and returns how the last one did.
func (s *site) result(n int) result {
	s.t.Helper()
	var last result
	transporttest.Await(s.t, "an answer has ended", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.results) < n {
			return false
		}
		last = s.results[n-1]
		return true
	})
	return last
}

// noted is an answer whose end is noted.
type noted struct {
	transport.Answer
	site *site
	path string
}

func (n *noted) Done(sent int64, err error) {
	n.Answer.Done(sent, err)
	n.site.note(result{n.path, true, sent, err})
}

// list is an answer of given pieces.
type list struct{ pieces []transport.Piece }

func (l *list) Next() (transport.Piece, error) {
	if len(l.pieces) == 0 {
		return transport.Piece{}, io.EOF
	}
	piece := l.pieces[0]
	l.pieces = l.pieces[1:]
	return piece, nil
}

func (l *list) Done(int64, error) {}

// memory is a content that must be copied.
type memory struct{ *bytes.Reader }

func newMemory(data []byte) memory { return memory{bytes.NewReader(data)} }

func (memory) OnCut(func())                              {}
func (memory) Sendfile(int, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }
func (m memory) Wait(_ context.Context, off int64) (int64, error) {
	return m.Size() - off, nil
}

// spooled is a content in a file.
type spooled struct {
	memory
	file *os.File
	mu   sync.Mutex
	cut  func() // guarded by mu
}

func newSpooled(t *testing.T, data []byte) *spooled {
	t.Helper()
	name := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &spooled{memory: newMemory(data), file: file}
}

func (s *spooled) Sendfile(socket int, off, n int64) (int64, error) {
	sent, err := syscall.Sendfile(socket, int(s.file.Fd()), &off, int(n))
	return max(int64(sent), 0), err
}

func (s *spooled) OnCut(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = f
}

func (s *spooled) cutNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
}

func part(c transport.Content, off, end int64) transport.Piece {
	return transport.Piece{Content: c, Off: off, End: end}
}

func text(s string) transport.Piece { return transport.Piece{Text: s} }

var ok = transport.Header{Status: 200, ContentType: "text/plain",
	Shared: transport.NewFields(transport.Field{Name: "X-Kind", Values: []string{"test"}})}

// pattern is n bytes of which no two stretches look alike, always the same.
func pattern(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// dial sends requests for paths on a connection of their own, at once.
func (s *site) dial(paths ...string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.Server.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second)) // an answer may lack bytes
	var requests strings.Builder
	for _, path := range paths {
		requests.WriteString(request("GET", path))
	}
	if _, err := io.WriteString(conn, requests.String()); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func request(method, path string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"
}

// large is more than all socket buffers of a connection hold.
const large = 32 << 20
