package transport

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener returns a listener in front of inner, which it closes when it is closed. Its TCP
// connections are ours, and an http.Server on it must have ConnContext; any other connection it
// lets through.
func (t *Transport) Listener(inner net.Listener) net.Listener { return newListener(t, inner) }

// listener makes conns of the connections that come in, and lets those that were handed over back
// in again.
type listener struct {
	net.Listener
	transport *Transport
	arrivals  chan arrival
	closed    chan struct{}
	close     func() error
	accepts   sync.WaitGroup
}

// arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

func newListener(t *Transport, inner net.Listener) *listener {
	l := &listener{Listener: inner, transport: t, arrivals: make(chan arrival), closed: make(chan struct{})}
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
				a.conn = &conn{TCPConn: tcp, raw: raw, transport: l.transport, listener: l}
			}
		}
		if !l.arrive(a) {
			return
		}
	}
}

// unsentLimit is about how many bytes that are not on the wire yet a connection holds in the
// kernel. By itself that lets megabytes gather for each client, from which nobody gains: they are
// in the page cache. See decision notsent-limit.
const unsentLimit = 16 << 10

// limitUnsent sets unsentLimit; a connection that knows no such limit (multipath TCP) goes without.
// TCP_USER_TIMEOUT stays as it is: see decision no-tcp-user-timeout.
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
