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
	"sync"
	"time"

	"spillway/decode/grid"
	"spillway/decode/zfec"
)

// How an upload goes over the wire:
//
//  1. POST .../immutable/SI allocates the share, under a secret that only this upload knows.
//  2. PATCH .../immutable/SI/NUM writes a range; ranges may come in any order. The answer is 200.
//  3. The PATCH that brings the last missing byte is answered 201: the share is
//     complete and can be seen. So the share's last bytes are kept until Commit.
//  4. PUT .../immutable/SI/NUM/abort discards the share, until it is complete. A server discards it
//     by itself half an hour after the last write.
const (
	keptBytes    = 16 << 10 // of the share's end, at most
	maxPatch     = 1 << 20  // what is sent at once of a longer write
	stallTimeout = 30 * time.Second
)

var (
	errNoAnswer = errors.New("no answer in time")
	errStalled  = fmt.Errorf("the server has taken and said nothing for %v", stallTimeout)
)

// secretHeader is where a request carries the secrets of what it writes.
const secretHeader = "X-Tahoe-Authorization"

func secretValue(kind string, secret []byte) string {
	return kind + " " + base64.StdEncoding.EncodeToString(secret)
}

// Create has the server set aside space for the share and lease it.
func (s *Server) Create(ctx context.Context, si grid.StorageIndex, num int, size int64, lease grid.Lease) (grid.Upload, error) {
	if num < 0 || num >= zfec.MaxShares || size <= 0 {
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

// upload is a share that the server has allocated.
type upload struct {
	server *Server
	ctx    context.Context // of the whole upload
	path   string
	secret string
	size   int64

	mu    sync.Mutex
	given int64  // bytes given to WriteAt
	last  []byte // the end of the share, which is kept until Commit
	err   error  // why the upload cannot go on
	over  bool   // after Commit or Abort
}

// call is Server.call, given up when the server has taken and said nothing for too long.
func (u *upload) call(method, path string, header http.Header, body []byte, status int, answer any) error {
	ctx, cancel := context.WithCancelCause(u.ctx)
	defer cancel(nil)
	defer u.server.watch(cancel)()
	return u.server.call(ctx, method, path, header, body, status, answer)
}

// WriteAt sends the region, save the last bytes of the share.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	now, err := u.take(p, off)
	if err != nil {
		return 0, err
	}
	for sent := 0; sent < now; {
		n := min(now-sent, maxPatch)
		if err := u.patch(p[sent:sent+n], off+int64(sent), http.StatusOK, nil); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

// take returns how many bytes of p are to be sent now; the others are kept.
func (u *upload) take(p []byte, off int64) (now int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	length := int64(len(p))
	switch {
	case u.over:
		return 0, fs.ErrClosed
	case off < 0 || length > u.size-off || length > u.size-u.given:
		return 0, fmt.Errorf("%w: %d bytes at %d of a share of %d, %d of which are given", fs.ErrInvalid, length, off, u.size, u.given)
	case u.err != nil || length == 0:
		return 0, u.err
	}
	u.given += length
	if off+length < u.size {
		return len(p), nil
	}
	now = max(0, len(p)-keptBytes)
	u.last = slices.Clone(p[now:])
	return now, nil
}

// patch sends a range; none if b is empty. If the connection fails, which may have been idle for
// too long, it sends the range once more: servers take the same bytes twice.
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
	if err != nil && u.ctx.Err() == nil && !errors.As(err, &refused) && !errors.Is(err, errStalled) {
		err = u.call(http.MethodPatch, u.path, header, b, status, answer)
	}
	if err == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = fmt.Errorf("writing bytes %d to %d: %w", off, last, err)
	return u.err
}

// Commit sends the last piece, whose answer says that the share is whole.
func (u *upload) Commit() error {
	if err := u.ready(); err != nil {
		return err
	}
	var answer writeAnswer
	if err := u.patch(u.last, u.size-int64(len(u.last)), http.StatusCreated, &answer); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(answer.Required) > 0 {
		u.err = fmt.Errorf("the server still lacks bytes from %d on", answer.Required[0].Begin)
		return u.err
	}
	u.over, u.last = true, nil
	return nil
}

// ready tells whether all but the last piece is written.
func (u *upload) ready() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
		return fs.ErrClosed
	case u.err != nil:
		return u.err
	case u.given != u.size:
		return fmt.Errorf("%w: %d bytes of %d are written", fs.ErrInvalid, u.given, u.size)
	}
	return nil
}

// Abort has the server discard the share. It outlives the upload's context, but not by much.
func (u *upload) Abort() error {
	u.mu.Lock()
	over := u.over
	u.over, u.last = true, nil
	u.mu.Unlock()
	if over {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(u.ctx), abortTimeout, errNoAnswer)
	defer cancel()
	err := u.server.call(ctx, http.MethodPut, u.path+"/abort", http.Header{secretHeader: {u.secret}}, nil, http.StatusOK, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has been discarded, or never was
	}
	return err
}
