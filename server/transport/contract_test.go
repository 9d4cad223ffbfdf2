package transport_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestContract holds net/http to what this package needs of it and its documentation does not
// promise. Each subtest is one assumption, and says which part relies on it. None of our own code
// runs here.
func TestContract(t *testing.T) {
	fields := func(w http.ResponseWriter) {
		w.Header()["Content-Length"] = []string{"5"}
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush()
	}
	t.Run("Flush writes the whole header and nothing else", func(t *testing.T) {
		s := newSpied(t, func(w http.ResponseWriter, _ *http.Request, _ *spy) { fields(w) })
		s.send(request("GET", "/"))
		head := s.spy().await(1)
		lines := strings.Split(head, "\r\n")
		if lines[0] != "HTTP/1.1 206 Partial Content" || !strings.HasSuffix(head, "\r\n\r\n") || strings.Count(head, "\r\n\r\n") != 1 {
			t.Errorf("net/http's header has another form: %q; conn.answer adds its fields before the last line break", head)
		}
		for _, line := range lines[1 : len(lines)-2] {
			if name, _, _ := strings.Cut(line, ": "); name != "Content-Length" && name != "Date" {
				t.Errorf("net/http adds %q to a header of Content-Length alone; conn.answer may send this field twice", line)
			}
		}
	})
	t.Run("Connection: close is written so, and only when it is meant", func(t *testing.T) {
		for _, test := range []struct {
			request string
			closes  bool
		}{
			{request("GET", "/"), false},
			{"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true},
			{"GET / HTTP/1.1\r\nHost: x\r\nconnection: Keep-Alive, CLOSE\r\n\r\n", true},
			{"GET /closing HTTP/1.1\r\nHost: x\r\n\r\n", true},
		} {
			var s *spied
			s = newSpied(t, func(w http.ResponseWriter, r *http.Request, _ *spy) {
				if r.URL.Path == "/closing" {
					s.SetKeepAlivesEnabled(false)
				}
				fields(w)
			})
			s.send(test.request)
			head := s.spy().await(1)
			if got := strings.Contains(head, "\r\nConnection: close\r\n"); got != test.closes || strings.Contains(strings.ToLower(head), "\r\nconnection:") != test.closes {
				t.Errorf("net/http answers %q with %q; conn.answer searches for Connection: close to know whether the client will use the connection again", test.request, head)
			}
		}
	})
	t.Run("ReadFrom is offered the source itself", func(t *testing.T) {
		s := newSpied(t, func(w http.ResponseWriter, _ *http.Request, _ *spy) {
			fields(w)
			n, err := w.(io.ReaderFrom).ReadFrom(booked{5})
			if n != 5 || err != nil {
				t.Errorf("net/http's ReadFrom says %d, %v, not what that of the connection said; conn.answer books a body by it", n, err)
			}
		})
		s.send(request("GET", "/"))
		spy := s.spy()
		s.finished()
		if len(spy.sources) != 1 || spy.sources[0] != (booked{5}) {
			t.Errorf("net/http offered the connection %v, not the source itself; conn.ReadFrom knows a booked body by it", spy.sources)
		}
	})
	t.Run("keep-alive goes on after a booked body", func(t *testing.T) {
		s := newSpied(t, func(w http.ResponseWriter, _ *http.Request, _ *spy) {
			fields(w)
			w.(io.ReaderFrom).ReadFrom(booked{5})
		})
		s.send(request("GET", "/1") + request("GET", "/2"))
		s.finished()
		s.finished()
		if spy := s.spy(); strings.Count(spy.written(), "HTTP/1.1 206") != 2 || spy.isClosed() {
			t.Errorf("after a body that was only reported net/http wrote %q, closed %v; conn.ReadFrom reports what has been sent already", spy.written(), spy.isClosed())
		}
	})
	t.Run("Hijack gives back what the client sent ahead", func(t *testing.T) {
		ahead := request("GET", "/2")
		for _, later := range []bool{false, true} { // net/http reads a byte in the background
			got := make(chan string, 1)
			started := make(chan struct{}, 1)
			s := newSpied(t, func(w http.ResponseWriter, _ *http.Request, spy *spy) {
				fields(w)
				started <- struct{}{}
				if later {
					spy.awaitRead()
				}
				conn, rw, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
				}
				early, _ := rw.Reader.Peek(rw.Reader.Buffered())
				rest := make([]byte, len(ahead)-len(early))
				io.ReadFull(conn, rest)
				got <- string(early) + string(rest)
				conn.Close()
			})
			if later {
				s.send(request("GET", "/1"))
				<-started
				s.send(ahead)
			} else {
				s.send(request("GET", "/1") + ahead)
			}
			if text := <-got; text != ahead {
				t.Errorf("sent later %v: Hijack and the connection give %q, not what the client sent, %q; conn.handOver keeps it for the next request", later, text, ahead)
			}
			s.finished()
			if written := s.spy().written(); strings.Count(written, "HTTP/1.1") != 1 {
				t.Errorf("net/http wrote after Hijack: %q; a sender has the connection then", written)
			}
		}
	})
	t.Run("a connection that comes back through Accept is served as a new one", func(t *testing.T) {
		var s *spied
		s = newSpied(t, func(w http.ResponseWriter, r *http.Request, spy *spy) {
			if spy == nil || spy != r.Context().Value(spyKey{}) {
				t.Error("net/http gave a request without the ConnContext of its connection; ConnContext ties them")
			}
			if r.URL.Path == "/1" {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
				}
				s.listener.conns <- conn
				return
			}
			fields(w)
			w.(io.ReaderFrom).ReadFrom(booked{5})
		})
		s.send(request("GET", "/1"))
		s.finished()
		s.send(request("GET", "/2"))
		s.finished()
		if written := s.spy().written(); strings.Count(written, "HTTP/1.1 206") != 1 {
			t.Errorf("net/http wrote %q on a connection that came back; outside.await gives connections back so", written)
		}
	})
	t.Run("ErrAbortHandler closes and writes nothing", func(t *testing.T) {
		s := newSpied(t, func(w http.ResponseWriter, _ *http.Request, _ *spy) {
			fields(w)
			panic(http.ErrAbortHandler)
		})
		s.send(request("GET", "/"))
		if rest, err := io.ReadAll(s.client); err != nil || !bytes.HasSuffix(rest, []byte("\r\n\r\n")) {
			t.Errorf("after an aborted handler net/http sent %q, %v; an answer that ends early must not look whole", rest, err)
		}
	})
}

// booked stands for a body of so many bytes, which nobody reads.
type booked struct{ n int64 }

func (booked) Read([]byte) (int, error) { panic("net/http read a booked body") }

// spied is net/http's server, with one client.
type spied struct {
	*http.Server
	t        *testing.T
	listener *givenListener
	client   net.Conn
	first    chan *spy
	known    *spy
	ends     chan struct{} // of handlers
}

type spyKey struct{}

func newSpied(t *testing.T, h func(http.ResponseWriter, *http.Request, *spy)) *spied {
	t.Helper()
	s := &spied{t: t, first: make(chan *spy, 1), ends: make(chan struct{}, 10)}
	s.listener = &givenListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	s.Server = &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, spyKey{}, c)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { s.ends <- struct{}{} }()
			spy, _ := r.Context().Value(spyKey{}).(*spy)
			h(w, r, spy)
		}),
	}
	var running sync.WaitGroup
	running.Go(func() { s.Serve(s.listener) })
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	if s.client, err = net.Dial("tcp", inner.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s.client.SetDeadline(time.Now().Add(time.Minute))
	conn, err := inner.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.known = &spy{TCPConn: conn.(*net.TCPConn)}
	s.known.changed.L = &s.known.mu
	s.listener.conns <- s.known
	t.Cleanup(func() {
		s.client.Close()
		conn.Close()
		s.Close()
		running.Wait()
	})
	return s
}

func (s *spied) spy() *spy { return s.known }

func (s *spied) send(requests string) {
	s.t.Helper()
	if _, err := io.WriteString(s.client, requests); err != nil {
		s.t.Fatal(err)
	}
}

// finished waits for the end of a handler.
func (s *spied) finished() { <-s.ends }

// givenListener accepts what it is given.
type givenListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *givenListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *givenListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *givenListener) Addr() net.Addr { return &net.TCPAddr{} }

// spy is a connection that tells what net/http does with it.
type spy struct {
	*net.TCPConn
	sources []io.Reader // of the handler's goroutine

	mu      sync.Mutex // guards all below
	changed sync.Cond
	writes  bytes.Buffer
	reads   int // that have returned something
	closed  bool
}

func (s *spy) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.writes.Write(p)
	s.changed.Broadcast()
	s.mu.Unlock()
	return s.TCPConn.Write(p)
}

func (s *spy) Read(p []byte) (int, error) {
	n, err := s.TCPConn.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 {
		s.reads++
	}
	s.changed.Broadcast()
	return n, err
}

func (s *spy) ReadFrom(src io.Reader) (int64, error) {
	s.sources = append(s.sources, src)
	if b, ok := src.(booked); ok {
		return b.n, nil
	}
	return io.Copy(struct{ io.Writer }{s}, src)
}

func (s *spy) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return s.TCPConn.Close()
}

func (s *spy) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *spy) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes.String()
}

// await waits until something is written, and returns what is.
func (s *spy) await(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.writes.Len() < n {
		s.changed.Wait()
	}
	return s.writes.String()
}

// awaitRead waits until something was read after the first request.
func (s *spy) awaitRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.reads < 2 {
		s.changed.Wait()
	}
}
