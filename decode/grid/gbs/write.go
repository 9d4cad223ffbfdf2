package gbs

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strconv"

	"spillway/decode/grid"
)

// How an upload goes over the wire:
//
//  1. POST .../immutable/SI allocates the share, under a secret that only this upload knows.
//  2. PATCH .../immutable/SI/NUM writes a range; ranges may come in any order. The answer is 200.
//  3. The PATCH that brings the last missing byte is answered 201: the share is
//     complete and can be seen. So the last piece is kept until Commit.
//  4. PUT .../immutable/SI/NUM/abort discards the share, until it is complete. A server discards it
//     by itself half an hour after the last write.
const (
	pieceBytes = 256 << 10 // what an upload gathers before it sends
	maxPatch   = 1 << 20   // what it sends at once of a longer write
)

var errNoAnswer = errors.New("no answer within a minute")

// secretHeader is where a request carries the secrets of what it writes.
const secretHeader = "X-Tahoe-Authorization"

func secretValue(kind string, secret []byte) string {
	return kind + " " + base64.StdEncoding.EncodeToString(secret)
}

// Create has the server set aside space for the share and lease it.
func (s *Server) Create(ctx context.Context, si grid.StorageIndex, num int, size int64, lease grid.Lease) (grid.Upload, error) {
	if num < 0 || num >= maxShares || size <= 0 {
		return nil, fmt.Errorf("%w: share %d of %d bytes", fs.ErrInvalid, num, size)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.node.Load() == nil {
		// The lease's secrets depend on the certificate, so a connection comes first.
		bounded, cancel := context.WithTimeoutCause(ctx, requestTimeout, errNoAnswer)
		_, err := s.Version(bounded)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	u := &upload{server: s, ctx: ctx, path: sharePath(si, num), secret: secretValue("upload-secret", secret), size: size}
	renew, cancel := lease.Secrets(*s.node.Load())
	header := http.Header{
		"Content-Type": {cborType},
		secretHeader:   {secretValue("lease-renew-secret", renew[:]), secretValue("lease-cancel-secret", cancel[:]), u.secret},
	}
	var answer allocateAnswer
	err := u.call(http.MethodPost, immutable(si, ""), header, marshal(allocateRequest{shareSet{num}, size}), http.StatusOK, &answer)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return nil, err
	case err != nil:
		// The server may have done it nevertheless, and would hold the space for half an hour.
		u.Abort()
		return nil, err
	case slices.Contains(answer.Allocated, num):
		return u, nil
	case slices.Contains(answer.AlreadyHave, num):
		return nil, fmt.Errorf("%w on the server", fs.ErrExist)
	}
	return nil, errors.New("the server does not take the share: it has no space, or another upload of it is under way")
}

// upload is a share that the server has allocated. One goroutine uses it at a time.
type upload struct {
	server *Server
	ctx    context.Context // of the whole upload
	path   string
	secret string
	size   int64
	given  int64 // bytes given to WriteAt

	run  []byte // bytes that are not sent yet; of the last piece of the share at least one
	off  int64  // where the run begins
	err  error  // why the upload cannot go on
	over bool   // after Commit or Abort
}

// call is Server.call within the time that a request of an upload may take.
func (u *upload) call(method, path string, header http.Header, body []byte, status int, answer any) error {
	ctx, cancel := context.WithTimeoutCause(u.ctx, requestTimeout, errNoAnswer)
	defer cancel()
	return u.server.call(ctx, method, path, header, body, status, answer)
}

// WriteAt gathers writes that adjoin, on either side, and sends the others.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	length := int64(len(p))
	switch {
	case u.over:
		return 0, fs.ErrClosed
	case off < 0 || length > u.size-off || length > u.size-u.given:
		return 0, fmt.Errorf("%w: %d bytes at %d of a share of %d, %d of which are given", fs.ErrInvalid, length, off, u.size, u.given)
	case u.err != nil || length == 0:
		return 0, u.err
	}
	if u.gather(p, off) {
		u.given += length
		return len(p), nil
	}
	// What is left of p cannot be sent yet, so nothing here completes the share.
	if err := u.patch(u.run, u.off, http.StatusOK, nil); err != nil {
		return 0, err
	}
	u.run = u.run[:0]
	u.given += length
	direct := 0
	if len(p) >= pieceBytes {
		direct = len(p)
		if u.given == u.size {
			direct -= pieceBytes / 2
		}
	}
	for sent := 0; sent < direct; {
		n := min(direct-sent, maxPatch)
		if err := u.patch(p[sent:sent+n], off+int64(sent), http.StatusOK, nil); err != nil {
			return sent, err
		}
		sent += n
	}
	u.gather(p[direct:], off+int64(direct))
	return len(p), nil
}

// gather adds p to the run, or begins one with it, unless it does not adjoin or fit.
func (u *upload) gather(p []byte, off int64) bool {
	switch {
	case len(u.run)+len(p) > pieceBytes:
		return false
	case len(u.run) == 0:
		u.run, u.off = append(u.run, p...), off
	case off == u.off+int64(len(u.run)):
		u.run = append(u.run, p...)
	case off+int64(len(p)) == u.off:
		u.run, u.off = slices.Insert(u.run, 0, p...), off
	default:
		return false
	}
	return true
}

// patch sends a range; none if b is empty. If the connection fails, which may have been idle for too
// long, it sends the range once more: servers take the same bytes twice.
func (u *upload) patch(b []byte, off int64, status int, answer any) error {
	if len(b) == 0 {
		return nil
	}
	last := off + int64(len(b)) - 1
	header := http.Header{
		"Content-Type":  {"application/octet-stream"},
		"Content-Range": {"bytes " + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(last, 10) + "/*"},
		secretHeader:    {u.secret},
	}
	err := u.call(http.MethodPatch, u.path, header, b, status, answer)
	var refused refusal
	if err != nil && u.ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, errNoAnswer) {
		err = u.call(http.MethodPatch, u.path, header, b, status, answer)
	}
	if err != nil {
		u.err = fmt.Errorf("writing bytes %d to %d: %w", off, last, err)
	}
	return u.err
}

// Commit sends the last piece, whose answer says that the share is whole.
func (u *upload) Commit() error {
	switch {
	case u.over:
		return fs.ErrClosed
	case u.err != nil:
		return u.err
	case u.given != u.size:
		return fmt.Errorf("%w: %d bytes of %d are written", fs.ErrInvalid, u.given, u.size)
	}
	var answer writeAnswer
	if err := u.patch(u.run, u.off, http.StatusCreated, &answer); err != nil {
		return err
	}
	if len(answer.Required) > 0 {
		u.err = fmt.Errorf("the server still lacks bytes from %d on", answer.Required[0].Begin)
		return u.err
	}
	u.over, u.run = true, nil
	return nil
}

// Abort has the server discard the share. It outlives the upload's context, but not by much.
func (u *upload) Abort() error {
	if u.over {
		return nil
	}
	u.over, u.run = true, nil
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(u.ctx), abortTimeout, errNoAnswer)
	defer cancel()
	err := u.server.call(ctx, http.MethodPut, u.path+"/abort", http.Header{secretHeader: {u.secret}}, nil, http.StatusOK, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has been discarded, or never was
	}
	return err
}
