package server

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is a client's connection to the public listener. net/http uses it as
// it would the TCP connection, with these differences:
//
//  1. While a handler holds it, what net/http writes (a header) waits in head.
//  2. The handler then pushes the header and the body itself, without waiting for the client.
//  3. If all of it has gone, the handler books the body with net/http, which counts it and goes on.
//  4. Else it takes the connection from net/http (Hijack) and gives it to a sender, with all that
//     is left to send and nothing of the request.
//  5. When the body is out, and the client's next request is there, the connection comes out
//     of its listener again.
//
// So net/http never waits for a client that is slow, which would cost it two stacks, four buffers
// and a request.
type conn struct {
	*net.TCPConn
	raw      syscall.RawConn // of TCPConn
	listener *listener

	early []byte // from the client, before what is to be read from TCPConn

	// Of the goroutine that answers: the handler's, or the sender's.
	held bool
	head []byte
	body body // of a handler; a sender has its own

	last    *file // what the last URL named; nil at first
	lastURI string
}

type connKey struct{}

// connOf returns the connection of a request; nil if it did not come by a Listener of ours.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// limit is how long the client may take nothing while something is sent to it.
func (c *conn) limit() time.Duration { return c.listener.server.stallLimit }

// Read gives early bytes first.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.TCPConn.Read(p)
}

// Write sends p, or keeps it while the connection is held. A client that takes nothing
// for the limit ends it with os.ErrDeadlineExceeded.
func (c *conn) Write(p []byte) (n int, err error) {
	if c.held {
		c.head = append(c.head, p...)
		return len(p), nil
	}
	var failed error
	err = c.raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			var m int
			m, failed = c.listener.server.send(int(fd), p[n:])
			n += m
			if failed == syscall.EAGAIN {
				c.SetWriteDeadline(time.Now().Add(c.limit())) // until net/http sets the next
				return false
			}
			if failed != nil {
				return true
			}
		}
		return true
	})
	if err == nil && n < len(p) {
		err = failed
	}
	return n, err
}

// A booking stands for a body that has been sent already.
type booking struct {
	conn *conn
	sent int64 // bytes
}

func (booking) Read([]byte) (int, error) { return 0, errors.New("internal error: a booking was read") }

// ReadFrom reports what was booked; anything else it copies.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	if b, ok := src.(booking); ok && b.conn == c {
		return b.sent, nil
	}
	return c.TCPConn.ReadFrom(src)
}

// push sends as much of the held header and of c.body as the client takes now.
func (c *conn) push() (p progress) {
	err := c.raw.Write(func(fd uintptr) bool {
		p = c.pushTo(fd, &c.body)
		return true
	})
	if err != nil {
		c.body.failed = &writeError{err}
		return broken
	}
	return p
}

// pushTo sends as much of the held header and of b as the socket takes now. No byte of b goes
// before the last one of the header: whoever wrote the link chooses both, and would write
// an answer of his own between them.
func (c *conn) pushTo(fd uintptr, b *body) progress {
	to := socket{int(fd), c.listener.server.send}
	for len(c.head) > 0 {
		n, err := to.send(to.fd, c.head)
		c.head = append(c.head[:0], c.head[n:]...)
		if err != nil {
			return b.stop(err)
		}
	}
	return b.push(to)
}

// watch calls gone when the client closes or breaks the connection, until the returned function
// is called, which waits for the end of it. A client that sends something more
// is not watched further: it is there, and what it sent must stay unread.
// Nothing else may read meanwhile.
func (c *conn) watch(gone func()) (stop func()) {
	c.SetReadDeadline(time.Time{})
	var watching sync.WaitGroup
	watching.Go(func() {
		if there, err := c.awaitInput(); err == nil && !there {
			gone()
		}
	})
	return func() {
		c.SetReadDeadline(past)
		watching.Wait()
		c.SetReadDeadline(time.Time{})
	}
}

// awaitInput waits until there is something to read, and leaves it there. It returns false when the client
// has ended or broken the connection. The error is the read deadline's, or of a closed connection.
func (c *conn) awaitInput() (there bool, err error) {
	err = c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			switch err {
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				return false
			}
			there = n > 0
			return true
		}
	})
	return there, err
}

// past is a deadline that ends every wait.
var past = time.Unix(1, 0)

// listener makes conns of the connections that come in, and lets those that senders give back in again.
type listener struct {
	net.Listener
	server   *Server
	arrivals chan arrival
	closed   chan struct{}
	close    func() error
	accepts  sync.WaitGroup
}

// arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

func newListener(s *Server, inner net.Listener) *listener {
	l := &listener{Listener: inner, server: s, arrivals: make(chan arrival), closed: make(chan struct{})}
	l.close = sync.OnceValue(func() error {
		close(l.closed)
		err := inner.Close()
		l.accepts.Wait()
		return err
	})
	l.accepts.Go(l.accept)
	return l
}

// accept takes connections until the listener is closed.
func (l *listener) accept() {
	for {
		c, err := l.Listener.Accept()
		a := arrival{c, err}
		if tcp, ok := c.(*net.TCPConn); ok {
			if raw, err := tcp.SyscallConn(); err == nil {
				limitUnsent(raw)
				a.conn = &conn{TCPConn: tcp, raw: raw, listener: l}
			}
		}
		if !l.arrive(a) {
			return
		}
	}
}

// unsentLimit is about how many bytes that are not on the wire yet a connection holds in the kernel. By itself
// that lets some megabytes gather for each client, from which nobody gains: they are in the page
// cache. A thousand stalled clients would fill what the kernel has for all of TCP.
const unsentLimit = 16 << 10

// limitUnsent sets unsentLimit; a connection that knows no such limit (multipath TCP) goes without.
func limitUnsent(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
	})
}

// arrive hands a to Accept; false if the listener is closed, which closes a.conn.
func (l *listener) arrive(a arrival) bool {
	select {
	case l.arrivals <- a:
		return true
	case <-l.closed:
		if a.conn != nil {
			a.conn.Close()
		}
		return false
	}
}

// Accept returns the next connection, new or given back.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.arrivals:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops listening. Connections that are given back from now on are closed.
func (l *listener) Close() error { return l.close() }
