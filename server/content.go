package server

import (
	"bytes"
	"context"
	"io"

	"spillway/decode"
	"spillway/spool"
)

// content is the bytes of one file as one request reads them. One goroutine
// uses it; only the function given to OnCut may run beside it. *spool.Reader is
// one, and documents the methods.
type content interface {
	Want(extents ...spool.Extent)
	Wait(ctx context.Context, off int64) (int64, error)
	OnCut(f func())
	// File returns what the bytes that Wait last reported can be read from. If that
	// is an *os.File, the kernel may send it without copying.
	File() (io.ReadSeeker, error)
	Close() error
}

// acquire returns the content of cap. It does not wait for the grid.
func (s *Server) acquire(cap decode.Cap) (content, error) {
	if data, ok := cap.Literal(); ok {
		return literal{bytes.NewReader(data)}, nil
	}
	r, err := s.spool.Acquire(cap.ID(), cap.Size(), func(ctx context.Context) (spool.Source, error) {
		return s.openSource(ctx, cap)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// literal is a file that its cap holds: it is there at once, and never spooled.
type literal struct{ data *bytes.Reader }

func (literal) Want(...spool.Extent)           {}
func (literal) OnCut(func())                   {}
func (literal) Close() error                   { return nil }
func (l literal) File() (io.ReadSeeker, error) { return l.data, nil }

func (l literal) Wait(_ context.Context, off int64) (int64, error) {
	if off < 0 || off >= l.data.Size() {
		return 0, io.EOF
	}
	return l.data.Size() - off, nil
}
