package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
)

// copyOut sends an answer through its ResponseWriter: the way for connections that are not ours.
// There, what was not taken in time cannot be sent again, so each write has the whole stall limit
// to itself.
func (t *Transport) copyOut(w http.ResponseWriter, r *http.Request, h *Header, a Answer) (int64, error) {
	base := baseOf(w)
	c := &copying{w: base, deadline: writeDeadline{to: http.NewResponseController(base), limit: t.StallLimit}}
	c.delivery = delivery{answer: a, after: h.Length, cut: c.deadline.cutNow, copied: t.Copied}
	defer c.deadline.finish()
	c.deadline.extend()
	h.Set(w.Header())
	w.WriteHeader(h.Status)
	err := c.run(r.Context())
	if err != nil && r.Context().Err() != nil {
		err = &SendError{err} // the client has left
	}
	return c.delivery.sent, err
}

// A copying copies an answer's pieces to a ResponseWriter.
type copying struct {
	w        http.ResponseWriter
	delivery delivery
	deadline writeDeadline
}

// run sends all pieces.
func (c *copying) run(ctx context.Context) error {
	for {
		piece := &c.delivery.piece
		switch {
		case piece.Text != "":
			text := piece.Text[:min(len(piece.Text), copySize)]
			piece.Text = piece.Text[len(text):]
			if err := c.write([]byte(text)); err != nil {
				return err
			}
		case piece.Off < piece.End:
			n, err := c.wait(ctx, piece.Off)
			if err != nil {
				return err
			}
			if err := c.copy(min(n, piece.End-piece.Off)); err != nil {
				return err
			}
		default:
			switch err := c.delivery.turn(); {
			case err == io.EOF:
				return c.flush()
			case err != nil:
				return err
			}
		}
	}
}

// wait is Content.Wait, but lets no byte wait in a buffer meanwhile: the client may
// be waiting for the header, or for a part that is small and whole.
func (c *copying) wait(ctx context.Context, off int64) (int64, error) {
	content := c.delivery.piece.Content
	n, err := content.Wait(NoWait, off)
	if err == nil || !errors.Is(err, context.Canceled) {
		return n, err
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return content.Wait(ctx, off)
}

// copy sends n bytes of the content, or the first of them.
func (c *copying) copy(n int64) error {
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	piece, bytes := &c.delivery.piece, buf[:min(n, copySize)]
	if _, err := piece.Content.ReadAt(bytes, piece.Off); err != nil {
		return readError(err)
	}
	piece.Off += int64(len(bytes))
	c.delivery.copied(int64(len(bytes)))
	return c.write(bytes)
}

func (c *copying) write(p []byte) error {
	c.deadline.extend()
	n, err := c.w.Write(p)
	c.delivery.sent += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return c.sendError(err)
}

// flush sends what the ResponseWriter still holds.
func (c *copying) flush() error {
	c.deadline.extend()
	return c.sendError(http.NewResponseController(c.w).Flush())
}

func (c *copying) sendError(err error) error {
	switch {
	case err == nil || errors.Is(err, http.ErrNotSupported):
		return nil
	case c.deadline.isCut():
		return ErrCut
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrStalled
	}
	return &SendError{err}
}
