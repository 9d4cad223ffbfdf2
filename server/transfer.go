package server

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// stallLimit is how long a client may take nothing at all before its
// connection is given up. A transfer as a whole has no limit.
const stallLimit = 10 * time.Minute

var (
	// errStalled: the client took no byte for stallLimit.
	errStalled = errors.New("server: the client took nothing for too long")
	// errCut: the content told the transfer to stop.
	errCut = errors.New("server: the download was cut")
)

// A writeError is an error of the connection, not of the file.
type writeError struct{ err error }

func (e *writeError) Error() string { return "server: sending: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// copyOut sends an answer's body through its ResponseWriter: the way for connections that are not ours, as of TLS
// and HTTP/2. There, what was not taken in time cannot be sent again, so each piece has the
// whole stall limit to itself.
func (s *Server) copyOut(c echo.Context, b *body) error {
	res := c.Response()
	t := &transfer{w: res.Writer, body: b, deadline: writeDeadline{rc: http.NewResponseController(res.Writer), limit: s.stallLimit}}
	b.content.OnCut(t.deadline.cutNow)
	defer t.deadline.finish()
	t.deadline.extend()
	res.WriteHeader(b.plan.status)
	err := t.send(c.Request().Context())
	res.Size = b.sent
	if err != nil && c.Request().Context().Err() != nil {
		return clientGone(err)
	}
	return err
}

// A transfer copies a body to a ResponseWriter.
type transfer struct {
	w        http.ResponseWriter
	body     *body
	deadline writeDeadline
}

// send sends all of the body.
func (t *transfer) send(ctx context.Context) error {
	for b := t.body; !b.done(); {
		switch {
		case b.text != "":
			text := b.text
			b.text = ""
			if err := t.write([]byte(text)); err != nil {
				return err
			}
		case b.rest.Off == b.rest.End:
			b.next()
		default:
			n, err := t.wait(ctx, b.rest.Off)
			if err != nil {
				return err
			}
			if err := t.copy(min(n, b.rest.End-b.rest.Off)); err != nil {
				return err
			}
		}
	}
	return t.flush()
}

// wait is content.Wait, but lets no byte wait in a buffer meanwhile: the client may
// be waiting for the header, or for a part that is small and whole.
func (t *transfer) wait(ctx context.Context, off int64) (int64, error) {
	n, err := t.body.content.Wait(noWait, off)
	if err == nil || !errors.Is(err, context.Canceled) {
		return n, err
	}
	if err := t.flush(); err != nil {
		return 0, err
	}
	return t.body.content.Wait(ctx, off)
}

// copy sends n bytes of the file, or the first of them.
func (t *transfer) copy(n int64) error {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	b, piece := t.body, buf[:min(n, copySize)]
	if _, err := b.content.ReadAt(piece, b.rest.Off); err != nil {
		return readError(err)
	}
	b.rest.Off += int64(len(piece))
	b.copied.Add(float64(len(piece)))
	return t.write(piece)
}

func (t *transfer) write(p []byte) error {
	t.deadline.extend()
	n, err := t.w.Write(p)
	t.body.sent += int64(n)
	return t.writeError(err)
}

// flush sends what the ResponseWriter still holds.
func (t *transfer) flush() error {
	t.deadline.extend()
	return t.writeError(http.NewResponseController(t.w).Flush())
}

func (t *transfer) writeError(err error) error {
	switch {
	case err == nil || errors.Is(err, http.ErrNotSupported):
		return nil
	case t.deadline.isCut():
		return errCut
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errStalled
	}
	return &writeError{err}
}

// deadliner is a connection, or a ResponseController.
type deadliner interface{ SetWriteDeadline(time.Time) error }

// writeDeadline is the write deadline of one answer's connection. Its methods
// may be called concurrently.
type writeDeadline struct {
	rc    deadliner
	limit time.Duration

	mu        sync.Mutex
	cut, over bool // guarded by mu; cut is set at most once, and not once over is
}

// extend gives the next write its time, unless the answer is cut. A writer
// without deadlines, as tests use, goes without.
func (d *writeDeadline) extend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.cut {
		_ = d.rc.SetWriteDeadline(time.Now().Add(d.limit))
	}
}

// cutNow ends a write that may be stalled, now and for good.
func (d *writeDeadline) cutNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		d.cut = true
		_ = d.rc.SetWriteDeadline(past)
	}
}

func (d *writeDeadline) isCut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// finish keeps a late cut from the connection's next answer. The deadline
// stays: it bounds what net/http itself writes after the handler.
func (d *writeDeadline) finish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
}
