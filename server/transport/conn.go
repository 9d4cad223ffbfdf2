package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A conn is a client's connection. net/http uses it as it would the TCP connection.
type conn struct {
	*net.TCPConn
	raw       syscall.RawConn // of TCPConn
	transport *Transport
	listener  *listener

	// All below belongs to the goroutine that has the connection: see the package's documentation.

	early    []byte // from the client, before what is to be read from TCPConn
	held     bool   // what is written waits in head
	head     []byte // of an answer's header, what is not sent
	delivery delivery
	slot     any // see Slot
}

type connKey struct{}

// connOf returns the connection of a request; nil if it is not one of ours.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

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
			m, failed = c.transport.Write(int(fd), p[n:])
			n += m
			if failed == syscall.EAGAIN {
				// It holds until net/http sets the next.
				c.SetWriteDeadline(time.Now().Add(c.transport.StallLimit))
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

func (booking) Read([]byte) (int, error) {
	return 0, errors.New("internal error: a booking was read")
}

// ReadFrom reports what was booked; anything else it copies.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	if b, ok := src.(booking); ok && b.conn == c {
		return b.sent, nil
	}
	return c.TCPConn.ReadFrom(src)
}

// answer sends an answer: at once as far as the client takes it, and with a sender what is left.
//
// net/http writes the status, the date, and the two fields that are its own business, length and
// connection. The fields of h, as text, are added to that. As entries of a map, copied, sorted and
// written, they would cost more than sending a small body does.
func (c *conn) answer(w http.ResponseWriter, r *http.Request, h *Header, a Answer) (int64, error) {
	base := baseOf(w)
	clear(w.Header())
	h.setLength(w.Header())
	c.head = c.head[:0] // whatever an earlier answer has left there is not of this one
	c.held = true
	w.WriteHeader(h.Status)
	base.(http.Flusher).Flush()
	c.held = false
	head, ok := bytes.CutSuffix(c.head, []byte("\r\n"))
	if !ok {
		return 0, &SendError{errors.New("net/http wrote no header")}
	}
	c.head = append(h.appendTo(head), "\r\n"...)
	// The header says whether the client expects to use the connection again.
	rejoin := r.ProtoAtLeast(1, 1) && !bytes.Contains(c.head, []byte("\r\nConnection: close\r\n"))

	c.delivery = delivery{answer: a, after: h.Length, copied: c.transport.Copied}
	p := c.push()
	sent, failed := c.delivery.sent, c.delivery.failed
	switch p {
	case allSent:
		c.delivery = delivery{}
		_, err := base.(io.ReaderFrom).ReadFrom(booking{c, sent})
		return sent, err
	case broken:
		c.delivery = delivery{}
		return sent, failed
	}
	return sent, c.handOver(base, rejoin)
}

// baseOf returns the ResponseWriter of net/http.
func baseOf(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// push sends as much of the header and of the delivery as the client takes now.
func (c *conn) push() (p progress) {
	err := c.raw.Write(func(fd uintptr) bool {
		p = c.pushTo(fd)
		return true
	})
	if err != nil {
		c.delivery.failed = &SendError{err}
		return broken
	}
	return p
}

// pushTo sends as much of the header and of the delivery as the socket takes now. No byte of the
// body goes before the last one of the header: whoever wrote a link may have chosen both, and
// would write an answer of his own between them.
func (c *conn) pushTo(fd uintptr) progress {
	to := socket{int(fd), c.transport.Write}
	for len(c.head) > 0 {
		n, err := to.write(to.fd, c.head)
		c.head = append(c.head[:0], c.head[n:]...)
		if err != nil {
			return c.delivery.stop(err)
		}
	}
	return c.delivery.push(to)
}

// handOver takes the connection from net/http and starts a sender for what is left of its answer.
// See decision hand-over.
func (c *conn) handOver(w http.ResponseWriter, rejoin bool) error {
	c.slot = nil
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		c.delivery = delivery{}
		return &SendError{err}
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		c.early = append(bytes.Clone(early), c.early...)
	}
	if len(c.head) == 0 {
		c.head = nil
	}
	s := &sender{conn: c, rejoin: rejoin, deadline: writeDeadline{to: c, limit: c.transport.StallLimit}}
	c.delivery.cut = s.deadline.cutNow
	c.delivery.watchCut()
	c.transport.outside.start(s)
	return ErrHandedOver
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

// awaitInput waits until there is something to read, and leaves it there. It returns false when the
// client has ended or broken the connection. The error is the read deadline's, or of a closed
// connection.
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
