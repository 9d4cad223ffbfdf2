package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"spillway/spool"
)

// A body is what of an answer has not been sent yet: the end of a header, texts
// between the parts of a multipart answer, and bytes of the file. Its goroutine moves
// from the handler to the connection's sender; it holds nothing of the request.
type body struct {
	content content
	plan    plan
	rep     representation
	copied  prometheus.Counter

	text   string       // goes before the rest of part: of the multipart format
	part   int          // of plan.parts; len(plan.parts) when only text is left
	rest   spool.Extent // of that part
	until  int64        // below, the bytes from rest.Off are known to be there for good
	sent   int64        // bytes, without the header
	failed error
}

// newBody returns the body of an answer of which nothing is sent. p has parts.
func newBody(content content, p plan, rep representation, copied prometheus.Counter) body {
	b := body{content: content, plan: p, rep: rep, copied: copied, rest: p.parts[0]}
	if p.multipart() {
		b.text = p.partHeader(0, rep)
	}
	return b
}

// next turns to the part after the current one, which is out.
func (b *body) next() {
	b.part++
	switch {
	case b.part < len(b.plan.parts):
		b.rest = b.plan.parts[b.part]
		b.until = 0
		b.text = b.plan.partHeader(b.part, b.rep) // more than one part is multipart
	case b.plan.multipart():
		b.text = b.plan.trailer(b.rep)
	}
}

func (b *body) done() bool { return b.part == len(b.plan.parts) && b.text == "" }

// progress is why a body's sending stopped.
type progress int

const (
	allSent    progress = iota
	socketFull          // the client must take something first
	missing             // the next byte of the file is not there yet
	broken              // see body.failed
)

// noWait is over: with it, Wait returns only what is there already.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// push sends to a socket that does not block what it takes and what is there. Nothing is
// buffered: what was sent is counted, the rest stays where it is.
func (b *body) push(to socket) progress {
	for {
		switch {
		case b.text != "":
			n, err := to.send(to.fd, []byte(b.text))
			b.text = b.text[n:]
			b.sent += int64(n)
			if err != nil {
				return b.stop(err)
			}
		case b.part == len(b.plan.parts):
			return allSent
		case b.rest.Off == b.rest.End:
			b.next()
		default:
			if p := b.pushFile(to); p != allSent {
				return p
			}
		}
	}
}

// pushFile sends some of the file's bytes. allSent means that it did.
func (b *body) pushFile(to socket) progress {
	n := b.until - b.rest.Off
	if n <= 0 {
		var err error
		n, err = b.content.Wait(noWait, b.rest.Off)
		switch {
		case errors.Is(err, context.Canceled):
			return missing
		case err != nil:
			b.failed = err
			return broken
		}
		// The spool plans by where it last saw the reader, so ask again before long.
		n = min(n, b.rest.End-b.rest.Off, knownAhead)
	}
	sent, err := b.content.Sendfile(to.fd, b.rest.Off, n)
	if err == nil {
		b.until = b.rest.Off + n // what the kernel may send stays until the reader is closed
	} else if errors.Is(err, errors.ErrUnsupported) {
		sent, err = b.copyTo(to, n)
	}
	b.rest.Off += sent
	b.sent += sent
	if err != nil {
		return b.stop(err)
	}
	return allSent
}

// knownAhead is how many bytes are sent without asking the spool whether they are there.
const knownAhead = 4 << 20

// stop says what an error of sending means.
func (b *body) stop(err error) progress {
	switch {
	case err == syscall.EAGAIN:
		return socketFull
	case err == syscall.EIO:
		err = readError(err) // of the disk: a socket has other errors
	case errors.As(err, new(syscall.Errno)):
		err = &writeError{err}
	}
	b.failed = err
	return broken
}

// copyTo is what Sendfile is, by way of a buffer. What the socket does not take is
// forgotten and read again later, so that no buffer waits with the client.
func (b *body) copyTo(to socket, n int64) (int64, error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	piece := buf[:min(n, copySize)]
	if _, err := b.content.ReadAt(piece, b.rest.Off); err != nil {
		return 0, readError(err)
	}
	sent, err := to.send(to.fd, piece)
	b.copied.Add(float64(sent))
	return int64(sent), err
}

// readError is an error of reading the spool where bytes had been announced.
func readError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("server: reading the spool: %w", err)
}

// copySize is the size of the buffers for what the kernel cannot send by itself.
const copySize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// A socket is a descriptor that does not block.
type socket struct {
	fd   int
	send sendFunc
}

// A sendFunc is send, or takes its place in tests.
type sendFunc func(fd int, p []byte) (int, error)

// send sends what of p the socket takes at once. MSG_MORE, which would save a packet before
// a file's bytes, cost 25 microseconds of the kernel's time a request where it was measured, on loopback.
func send(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
