package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"sync/atomic"

	"github.com/minio/minio-go/v7"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
	"spillway/decode/grid/ranged"
)

// Open asks nothing of the server yet: the first ReadAt shows whether it has the
// share, and in which container.
func (s *Server) Open(ctx context.Context, si grid.StorageIndex, num int) (grid.Share, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	sh := &share{server: s, key: s.key(si, num)}
	sh.size.Store(-1)
	return sh, nil
}

// share is the name of an object, and, once its container's header has been read, its size.
type share struct {
	server *Server
	key    string
	size   atomic.Int64 // of the share, without container and leases; -1: not known yet
}

// Size is known after the first ReadAt; until then it is -1.
func (sh *share) Size() int64 { return sh.size.Load() }

// Close does nothing, for a share holds nothing.
func (sh *share) Close() error { return nil }

// maxLead is how many bytes the first ReadAt reads and drops in order to have the container's
// header in the same request; the header of a share that begins further on costs a request of its
// own.
const maxLead = 4 << 10

// ReadAt sends one request for a closed range and reads the body straight into bufs. The first
// ReadAt verifies the container's header too: the range then begins at the container's beginning,
// so that one answer brings the header, the object's size and what was asked for. Only if it asks
// for something far from the share's beginning, the header is read before it.
func (sh *share) ReadAt(ctx context.Context, off int64, bufs ...[]byte) (int, error) {
	want := int64(0)
	for _, b := range bufs {
		want += int64(len(b))
	}
	if off < 0 || off > math.MaxInt64-container.HeaderSize-want {
		return 0, fmt.Errorf("%w: %d bytes at %d", fs.ErrInvalid, want, off)
	}
	if want == 0 || ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	size := sh.size.Load()
	if size < 0 && off <= maxLead {
		return sh.readFirst(ctx, off, want, bufs)
	}
	if size < 0 {
		var err error
		if size, err = sh.server.shareSize(ctx, sh.key); err != nil {
			return 0, err
		}
		sh.size.Store(size)
	}
	length := min(want, size-off)
	if length <= 0 {
		return 0, io.EOF
	}
	p, err := sh.server.get(ctx, sh.key, container.HeaderSize+off, length)
	if err != nil {
		return 0, err
	}
	defer p.end()
	if p.length != length {
		return 0, fmt.Errorf("the object has shrunk from %d to %d bytes or less", size, p.total)
	}
	n, err := p.fill(ctx, length, bufs)
	if err == nil && length < want {
		err = io.EOF
	}
	return n, err
}

// readFirst is ReadAt from near the beginning of a share of unknown size.
func (sh *share) readFirst(ctx context.Context, off, want int64, bufs [][]byte) (int, error) {
	p, err := sh.server.get(ctx, sh.key, 0, container.HeaderSize+off+want)
	if err != nil {
		return 0, tooShort(err)
	}
	defer p.end()
	size, err := p.shareSize(ctx)
	if err != nil {
		return 0, err
	}
	sh.size.Store(size)
	// Leases follow the share.
	length := min(want, size-off, p.length-container.HeaderSize-off)
	if length <= 0 {
		return 0, io.EOF
	}
	if _, err := io.CopyN(io.Discard, p.body, off); err != nil {
		return 0, p.failure(ctx, err)
	}
	n, err := p.fill(ctx, length, bufs)
	switch {
	case err != nil || length == want:
		return n, err
	case length < size-off:
		return n, errors.New("the server sends less than was asked for")
	}
	return n, io.EOF
}

// shareSize reads the header of a container, and returns the size of the share in it.
func (s *Server) shareSize(ctx context.Context, key string) (int64, error) {
	p, err := s.get(ctx, key, 0, container.HeaderSize)
	if err != nil {
		return 0, tooShort(err)
	}
	defer p.end()
	return p.shareSize(ctx)
}

// tooShort makes of the refusal of a range that begins with the object the reason for it:
// the object is empty.
func tooShort(err error) error {
	var r refusal
	if errors.As(err, &r) && r.status == http.StatusRequestedRangeNotSatisfiable {
		_, err = container.ShareSize(nil, 0)
	}
	return err
}

// part is the answer to a request for a range.
type part struct {
	server *Server
	body   io.ReadCloser
	length int64 // of the range, cut at the object's end
	total  int64 // of the object
}

// get asks for length bytes of an object, or what it has of them, from first on.
func (s *Server) get(ctx context.Context, key string, first, length int64) (part, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetRange(first, first+length-1); err != nil {
		panic("internal error: " + err.Error())
	}
	body, _, header, err := s.reader.GetObject(ctx, s.location.bucket, key, opts)
	if err != nil {
		return part{}, s.failure(ctx, err)
	}
	p := part{server: s, body: body}
	if p.length, p.total, err = extent(header, first, length); err != nil {
		body.Close()
		return part{}, err
	}
	return p, nil
}

// extent returns how many of the bytes that were asked for an answer brings, and the size of
// the object. Only at the object's end they may be fewer.
func extent(header http.Header, first, length int64) (n, total int64, err error) {
	text := header.Get("Content-Range")
	if text == "" {
		// The whole object, which is as good if that is where it begins.
		total, ok := ranged.ParseCount(header.Get("Content-Length"))
		if !ok || first != 0 {
			return 0, 0, errors.New("the server sends no part where one was asked for")
		}
		return min(total, length), total, nil
	}
	from, to, total, err := ranged.ParseContentRange(text)
	if err == nil && total < 0 {
		err = ranged.ErrContentRange
	}
	if err != nil {
		return 0, 0, err
	}
	if from != first || to < from || to != min(first+length, total)-1 {
		return 0, 0, fmt.Errorf("the server sends bytes %d to %d of %d, asked for %d to %d", from, to, total, first, first+length-1)
	}
	return to - from + 1, total, nil
}

// shareSize reads the header of the container that the part begins with.
func (p *part) shareSize(ctx context.Context) (int64, error) {
	head := make([]byte, min(p.length, container.HeaderSize))
	if _, err := io.ReadFull(p.body, head); err != nil {
		return 0, p.failure(ctx, err)
	}
	return container.ShareSize(head, p.total)
}

// fill reads length bytes, which fit, into bufs.
func (p *part) fill(ctx context.Context, length int64, bufs [][]byte) (int, error) {
	n, err := ranged.Fill(p.body, length, bufs)
	if err != nil {
		return n, p.failure(ctx, err)
	}
	return n, nil
}

func (p *part) failure(ctx context.Context, err error) error { return p.server.failure(ctx, err) }

// end ends the answer. Its connection can be used again if little of the body is left.
func (p *part) end() {
	io.CopyN(io.Discard, p.body, maxDiscard)
	p.body.Close()
}
