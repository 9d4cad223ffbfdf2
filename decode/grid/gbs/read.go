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
	"strings"

	"spillway/decode/grid"
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
	total := 0
	for _, b := range bufs {
		b = b[:min(int64(len(b)), length-int64(total))]
		n, err := io.ReadFull(body, b)
		total += n
		if err != nil {
			return total, err
		}
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
	text, ok := strings.CutPrefix(contentRange, "bytes ")
	text, total, ok2 := strings.Cut(text, "/")
	firstText, lastText, ok3 := strings.Cut(text, "-")
	first, err1 := parseCount(firstText)
	last, err2 := parseCount(lastText)
	end := int64(math.MaxInt64)
	var err3 error
	if total != "*" {
		end, err3 = parseCount(total)
	}
	if !ok || !ok2 || !ok3 || err1 != nil || err2 != nil || err3 != nil {
		return 0, errors.New("the server sends a part without a readable Content-Range")
	}
	if first != off || last < first || last-first >= want || last >= end {
		return 0, fmt.Errorf("the server sends bytes %d to %d, asked for %d to %d", first, last, off, off+want-1)
	}
	return last - first + 1, nil
}

// parseCount parses decimal digits, and nothing else.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
