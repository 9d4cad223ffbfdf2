package server

import (
	"bytes"
	"context"
	"errors"
	"io"

	"spillway/decode/caps"
	"spillway/server/transport"
	"spillway/spool"
)

// content is the bytes of one file as one request reads them. One goroutine
// uses it; only the function given to OnCut may run beside it. *spool.Reader is
// one, and documents the methods.
type content interface {
	transport.Content
	Want(extents ...spool.Extent)
	Close() error
}

// contentOf returns the content of cap. If that is not spooled it waits for the grid, which proves
// that the file is there. The context bounds that.
func (s *Server) contentOf(ctx context.Context, readCap caps.Cap, id string) (content, error) {
	if data, ok := readCap.Literal(); ok {
		return literal{bytes.NewReader(data)}, nil
	}
	r, err := s.spool.Acquire(ctx, id, readCap.Size(), func(ctx context.Context) (spool.Source, error) {
		return s.openSource(ctx, readCap)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// literal is a file that its cap holds: it is there at once, and never spooled.
type literal struct{ *bytes.Reader }

func (literal) Want(...spool.Extent)                      {}
func (literal) OnCut(func())                              {}
func (literal) Close() error                              { return nil }
func (literal) Sendfile(int, int64, int64) (int64, error) { return 0, errors.ErrUnsupported }

func (l literal) Wait(_ context.Context, off int64) (int64, error) {
	if off < 0 || off >= l.Size() {
		return 0, io.EOF
	}
	return l.Size() - off, nil
}
