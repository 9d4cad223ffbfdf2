package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"spillway/spool"
)

const (
	// stallLimit is how long a client may take nothing at all before its
	// connection is given up. A transfer as a whole has no limit.
	stallLimit = 10 * time.Minute
	// pieceSize is how many bytes go out under one write deadline.
	pieceSize = 1 << 20
)

// errStalled: the client took no byte for stallLimit.
var errStalled = errors.New("server: the client took nothing for too long")

// errCut: the content told the transfer to stop.
var errCut = errors.New("server: the download was cut")

// A writeError is an error of the connection, not of the file.
type writeError struct{ err error }

func (e *writeError) Error() string { return "server: sending: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// A transfer sends the bytes of one answer's body. Beyond the handler's own
// stack it costs nothing while its client stalls: no goroutine, no buffer.
type transfer struct {
	w        http.ResponseWriter // net/http's own, whose ReadFrom is sendfile
	content  content
	deadline *writeDeadline
	sent     int64 // bytes of the body
}

// sendExtent sends the bytes of e as they become available.
func (t *transfer) sendExtent(ctx context.Context, e spool.Extent) error {
	src, err := t.content.File()
	if err != nil {
		return err
	}
	for off := e.Off; off < e.End; {
		n, err := t.wait(ctx, off)
		if err != nil {
			return err
		}
		moved, err := t.sendPiece(src, off, min(n, e.End-off, pieceSize))
		off += moved
		t.sent += moved
		switch {
		case err == nil:
		case t.deadline.isCut():
			return errCut
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case moved == 0:
			return errStalled
		}
	}
	return nil
}

// wait is content.Wait, but lets no byte wait in a buffer meanwhile: the client may
// be waiting for the header, or for a part that is small and whole.
func (t *transfer) wait(ctx context.Context, off int64) (int64, error) {
	n, err := t.content.Wait(noWait, off)
	if err == nil || !errors.Is(err, context.Canceled) {
		return n, err
	}
	if err := t.flush(); err != nil {
		return 0, err
	}
	return t.content.Wait(ctx, off)
}

// noWait is over: with it, Wait returns only what is there already.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// sendPiece sends n bytes from off. It returns fewer only with an error.
func (t *transfer) sendPiece(src io.ReadSeeker, off, n int64) (int64, error) {
	// After a broken-off sendfile the offset is where the kernel stopped reading,
	// which need not be what it sent.
	if _, err := src.Seek(off, io.SeekStart); err != nil {
		return 0, fmt.Errorf("server: reading the spool: %w", err)
	}
	t.deadline.extend()
	moved, err := copyTo(t.w, &io.LimitedReader{R: src, N: n})
	switch {
	case err != nil:
		return moved, &writeError{err}
	case moved < n:
		return moved, fmt.Errorf("server: reading the spool: %w", io.ErrUnexpectedEOF)
	}
	return moved, nil
}

// copyTo hands the reader to the ResponseWriter whole: net/http recognizes a
// file in it and lets the kernel send that. What is no file, as in a private
// window, is copied.
func copyTo(w http.ResponseWriter, r *io.LimitedReader) (int64, error) {
	if rf, ok := w.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(w, r)
}

// sendText sends what stands between the parts of a multipart body.
func (t *transfer) sendText(text string) error {
	t.deadline.extend()
	n, err := io.WriteString(t.w, text)
	t.sent += int64(n)
	return t.textError(err)
}

// flush sends what the ResponseWriter still holds.
func (t *transfer) flush() error {
	t.deadline.extend()
	return t.textError(http.NewResponseController(t.w).Flush())
}

func (t *transfer) textError(err error) error {
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

// writeDeadline is the write deadline of one answer's connection. Its methods
// may be called concurrently.
type writeDeadline struct {
	rc    *http.ResponseController
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
		_ = d.rc.SetWriteDeadline(time.Unix(1, 0))
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
