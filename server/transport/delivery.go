package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// A delivery is what of an answer has not been sent yet, without its header. It holds nothing of
// the request.
type delivery struct {
	answer Answer
	piece  Piece       // what is left of the current one
	after  int64       // bytes that the header promises, after those of piece
	known  int64       // below, the bytes from piece.Off are known to be there for good
	sent   int64       // bytes
	cut    func()      // for contents; nil while no sender has the delivery
	copied func(int64) // Transport.Copied
	failed error
}

// turn turns to the next piece, when the current one is out. Without one, its error is Next's. What
// the header does not promise is not sent: the client would take it for the next answer. Nor may
// less be taken for all, for then the client would take the next answer for the rest.
func (d *delivery) turn() error {
	piece, err := d.answer.Next()
	d.piece, d.known = Piece{}, 0
	n := int64(len(piece.Text)) + piece.End - piece.Off
	switch {
	case err == io.EOF && d.after > 0, err == nil && (n < 0 || n > d.after):
		return errLength
	case err != nil:
		return err
	}
	d.piece = piece
	d.after -= n
	d.watchCut()
	return nil
}

// errLength is a bug of whoever made the answer.
var errLength = errors.New("transport: internal error: the pieces are not as long as the header says")

// watchCut lets the current content cut the answer.
func (d *delivery) watchCut() {
	if d.cut != nil && d.piece.Content != nil {
		d.piece.Content.OnCut(d.cut)
	}
}

// progress is why sending stopped.
type progress int

const (
	allSent    progress = iota
	socketFull          // the client must take something first
	missing             // the next byte of the content is not there yet
	broken              // see delivery.failed
)

// push sends to a socket what it takes and what is there. Nothing is buffered: what was sent is
// counted, the rest stays where it is.
func (d *delivery) push(to socket) progress {
	for {
		var p progress
		switch {
		case d.piece.Text != "":
			p = d.pushText(to)
		case d.piece.Off < d.piece.End:
			p = d.pushContent(to)
		default:
			switch err := d.turn(); {
			case err == io.EOF:
				return allSent
			case err != nil:
				d.failed = err
				return broken
			}
		}
		if p != allSent {
			return p
		}
	}
}

// pushText sends some of the text. allSent means that it did.
func (d *delivery) pushText(to socket) progress {
	text := d.piece.Text
	n, err := to.write(to.fd, []byte(text[:min(len(text), copySize)]))
	d.piece.Text = text[n:]
	d.sent += int64(n)
	if err != nil {
		return d.stop(err)
	}
	return allSent
}

// pushContent sends some of the content's bytes. allSent means that it did.
func (d *delivery) pushContent(to socket) progress {
	piece := &d.piece
	n := d.known - piece.Off
	if n <= 0 {
		var err error
		n, err = piece.Content.Wait(NoWait, piece.Off)
		switch {
		case errors.Is(err, context.Canceled):
			return missing
		case err != nil:
			d.failed = err
			return broken
		}
		n = min(n, piece.End-piece.Off, knownAhead)
	}
	sent, err := piece.Content.Sendfile(to.fd, piece.Off, n)
	if err == nil {
		d.known = piece.Off + n // what the kernel may send stays until the content is closed
	} else if errors.Is(err, errors.ErrUnsupported) {
		sent, err = d.copyTo(to, n)
	}
	piece.Off += sent
	d.sent += sent
	if err != nil {
		return d.stop(err)
	}
	return allSent
}

// knownAhead is how many bytes are sent without asking the content whether they are there. A
// content that is being filled plans by where it last saw its reader, so it is asked again before
// long. See decision sendfile-at-explicit-offsets.
const knownAhead = 4 << 20

// stop says what an error of sending means.
func (d *delivery) stop(err error) progress {
	switch {
	case err == syscall.EAGAIN:
		return socketFull
	case err == syscall.EIO:
		err = readError(err) // of the disk: a socket has other errors
	case errors.As(err, new(syscall.Errno)):
		err = &SendError{err}
	}
	d.failed = err
	return broken
}

// copyTo is what Sendfile is, by way of a buffer. What the socket does not take is
// forgotten and read again later, so that no buffer waits with the client.
func (d *delivery) copyTo(to socket, n int64) (int64, error) {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	bytes := buf[:min(n, copySize)]
	if _, err := d.piece.Content.ReadAt(bytes, d.piece.Off); err != nil {
		return 0, readError(err)
	}
	sent, err := to.write(to.fd, bytes)
	d.copied(int64(sent))
	return int64(sent), err
}

// readError is an error of reading a content where bytes had been announced.
func readError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("transport: reading the content: %w", err)
}

// copySize is the size of the buffers for what the kernel cannot send by itself. See decision
// copied-windows.
const copySize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// A socket is a descriptor that does not block.
type socket struct {
	fd    int
	write func(fd int, p []byte) (int, error) // Transport.Write
}

// write sends what of p the socket takes at once. It does without MSG_MORE: see decision
// sendfile-at-explicit-offsets.
func write(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
