package gbs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"strconv"

	"spillway/decode/grid"
	"spillway/decode/grid/ranged"
)

// Open asks nothing of the server yet: whether it has the share shows in the
// first ReadAt.
func (s *Server) Open(ctx context.Context, si grid.StorageIndex, num int) (grid.Share, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return &share{server: s, path: sharePath(si, num)}, nil
}

// share is the name of a share on a server.
type share struct {
	server *Server
	path   string
}

// Size is unknown: servers do not tell.
func (sh *share) Size() int64 { return -1 }

// Close does nothing, for a share holds nothing.
func (sh *share) Close() error { return nil }

// ReadAt sends one request for a closed range and reads the body straight into
// bufs. The server cuts the range at the share's end and says so in its
// Content-Range; any other body than announced is an error.
func (sh *share) ReadAt(ctx context.Context, off int64, bufs ...[]byte) (int, error) {
	want := int64(0)
	for _, b := range bufs {
		want += int64(len(b))
	}
	if off < 0 || off > math.MaxInt64-want {
		return 0, fmt.Errorf("%w: %d bytes at %d", fs.ErrInvalid, want, off)
	}
	if want == 0 {
		return 0, context.Cause(ctx)
	}
	header := http.Header{"Range": {"bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+want-1, 10)}}
	resp, err := sh.server.do(ctx, http.MethodGet, sh.path, header, nil)
	if err != nil {
		return 0, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusNoContent:
		discard(resp)
		return 0, io.EOF
	default:
		defer discard(resp)
		return 0, refusal(resp.StatusCode)
	}
	// An answer that breaks off or goes on too long ends its connection here.
	defer resp.Body.Close()
	length, err := rangeLength(resp.Header.Get("Content-Range"), off, want)
	if err != nil {
		return 0, err
	}
	if resp.ContentLength >= 0 && resp.ContentLength != length {
		return 0, fmt.Errorf("the server announces %d bytes and a body of %d", length, resp.ContentLength)
	}
	n, err := readBody(resp.Body, length, bufs)
	switch {
	case errors.Is(err, errTooLong):
		return n, err
	case err != nil:
		return n, transportError(ctx, err)
	case length < want:
		return n, io.EOF
	}
	return n, nil
}

var errTooLong = errors.New("the server sends more than it announces")

// readBody fills bufs with length bytes, which fit, and sees that the body ends there.
func readBody(body io.Reader, length int64, bufs [][]byte) (int, error) {
	total, err := ranged.Fill(body, length, bufs)
	if err != nil {
		return total, err
	}
	switch n, err := io.ReadFull(body, make([]byte, 1)); {
	case n > 0:
		return total, errTooLong
	case err != io.EOF:
		return total, err
	}
	return total, nil
}

// rangeLength returns how many bytes a Content-Range announces. They must begin at off
// and be at most want; the server gives fewer at the share's end only.
func rangeLength(contentRange string, off, want int64) (int64, error) {
	first, last, total, err := ranged.ParseContentRange(contentRange)
	if err != nil {
		return 0, err
	}
	if first != off || last < first || last-first >= want || total >= 0 && last >= total {
		return 0, fmt.Errorf("the server sends bytes %d to %d, asked for %d to %d", first, last, off, off+want-1)
	}
	return last - first + 1, nil
}
