package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
	"spillway/decode/zfec"
	"spillway/spool/nameless"
)

// How a share is uploaded. S3 takes an object in parts of 5 MiB at least, each whole; an encoder
// writes a share in pieces, its header last. So the container is put together in a nameless
// file in nameless.DefaultDir. In memory a few parts for each of 256 shares would take gigabytes:
//
//  1. The WriteAt that brings the last missing byte of a part sends the part, and gives the file's
//     space back. So the network works while the encoder does, a few parts of each share are on the
//     disk at a time, and an encoder that is faster than the network waits for it.
//  2. Commit has the server assemble the parts. A share of one part is sent by Commit, as a whole.
//  3. Either way the object becomes visible at once and whole, and only if there is none of its
//     name (If-None-Match: *), where the server knows that condition; where not, it replaces what
//     are the same bytes.
//  4. Abort has the server drop the parts. Those of a process that was killed remain, unseen, until
//     the bucket's owner (a life-cycle rule for incomplete uploads) removes them.
const (
	minPart  = 8 << 20
	maxParts = 10_000

	stallTimeout    = 30 * time.Second // without a byte sent, or an answer
	assembleTimeout = 5 * time.Minute  // S3 may take minutes to assemble parts
)

var errStalled = errors.New("the server takes and says nothing")

// Create begins a share. The lease cannot be used: its secrets depend on a node, which a bucket is
// not; the container gets one that nobody can renew. Two uploads of one share by the same
// Server are refused; others do not see each other, and the first one to be committed stays.
func (s *Server) Create(ctx context.Context, si grid.StorageIndex, num int, size int64, _ grid.Lease) (grid.Upload, error) {
	if num < 0 || num >= zfec.MaxShares || size <= 0 {
		return nil, fmt.Errorf("%w: share %d of %d bytes", fs.ErrInvalid, num, size)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	u := newUpload(ctx, s, s.key(si, num), size)
	if !s.remember(u.key) {
		return nil, errors.New("another upload of this share is under way")
	}
	if err := u.open(); err != nil {
		s.forget(u.key)
		return nil, err
	}
	return u, nil
}

// remember notes that an upload is under way, unless one is already.
func (s *Server) remember(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.underWay[key] {
		return false
	}
	s.underWay[key] = true
	return true
}

// forget notes that an upload is over.
func (s *Server) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.underWay, key)
}

// upload is a container that is being put together. Commit and Abort are called when no
// WriteAt is under way, and so need no lock.
type upload struct {
	server   *Server
	ctx      context.Context // of the whole upload
	key      string
	size     int64 // of the share
	partSize int64 // bytes; of the last part it is the most

	file *os.File // the container; parts that are sent are holes. Commit and Abort close it

	beginning sync.Mutex // held while the upload is begun on the server
	// id: what the server calls the upload; empty until a part is complete. Guarded by beginning.
	id string

	mu      sync.Mutex // guards what follows
	given   int64      // bytes of the share given to WriteAt
	lacking []int64    // bytes that each part still lacks
	sent    []string   // what the server calls each part that it has (its ETag)
	err     error      // why the upload cannot go on
	over    bool       // after Commit or Abort
}

func newUpload(ctx context.Context, s *Server, key string, size int64) *upload {
	u := &upload{server: s, ctx: ctx, key: key, size: size, partSize: minPart}
	for u.whole() > u.partSize*maxParts {
		u.partSize *= 2
	}
	parts := (u.whole() + u.partSize - 1) / u.partSize
	u.lacking, u.sent = make([]int64, parts), make([]string, parts)
	for i := range u.lacking {
		_, u.lacking[i] = u.part(i)
	}
	return u
}

// whole is the length of the container.
func (u *upload) whole() int64 { return container.HeaderSize + u.size + container.LeaseSize }

// part returns where part i of the container begins and its length.
func (u *upload) part(i int) (off, length int64) {
	off = int64(i) * u.partSize
	return off, min(u.partSize, u.whole()-off)
}

// open sees that the share is not there yet, and writes what surrounds it.
func (u *upload) open() (err error) {
	switch _, err := u.server.shareSize(u.ctx, u.key); {
	case err == nil, errors.Is(err, grid.ErrCorrupt):
		return fmt.Errorf("%w in the bucket", fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if u.file, err = nameless.Create(""); err != nil {
		return err
	}
	_, err = u.put(container.Header(u.size, 1), 0)
	if err == nil {
		_, err = u.put(container.Lease(time.Now()), container.HeaderSize+u.size)
	}
	if err != nil {
		return errors.Join(err, u.file.Close())
	}
	return nil
}

// put writes bytes of the container, and returns the parts that they complete.
func (u *upload) put(b []byte, off int64) (complete []int, err error) {
	if _, err := u.file.WriteAt(b, off); err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for end := off + int64(len(b)); off < end; {
		i := int(off / u.partSize)
		n := min(end, int64(i+1)*u.partSize) - off
		off += n
		if u.lacking[i] -= n; u.lacking[i] == 0 {
			complete = append(complete, i)
		}
	}
	return complete, nil
}

// WriteAt writes a region of the share, and sends the parts that it completes.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	if err := u.admit(int64(len(p)), off); err != nil || len(p) == 0 {
		return 0, err
	}
	complete, err := u.put(p, container.HeaderSize+off)
	for _, i := range complete {
		if len(u.lacking) > 1 && err == nil {
			err = u.send(i)
		}
	}
	if err != nil {
		return 0, u.fail(err)
	}
	return len(p), nil
}

// admit sees that so many bytes can be taken there.
func (u *upload) admit(length, off int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.over:
		return fs.ErrClosed
	case off < 0 || length > u.size-off || length > u.size-u.given:
		return fmt.Errorf("%w: %d bytes at %d of a share of %d, %d of which are given", fs.ErrInvalid, length, off, u.size, u.given)
	case u.err == nil:
		u.given += length
	}
	return u.err
}

// fail notes that the upload cannot go on, and returns why.
func (u *upload) fail(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = err
	}
	return u.err
}

// send sends a part that lacks nothing.
func (u *upload) send(i int) error {
	id, err := u.begin()
	if err != nil {
		return fmt.Errorf("beginning the upload: %w", err)
	}
	off, length := u.part(i)
	body := &body{SectionReader: io.NewSectionReader(u.file, off, length)}
	var part minio.ObjectPart
	err = u.request(stallTimeout, body, func(ctx context.Context) (err error) {
		part, err = u.server.writer.PutObjectPart(ctx, u.server.location.bucket, u.key, id, i+1, body, length, minio.PutObjectPartOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("sending bytes %d to %d: %w", off, off+length-1, err)
	}
	// Where the file system cannot make holes, the file keeps its space.
	unix.Fallocate(int(u.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent[i] = part.ETag
	return nil
}

// begin begins the upload on the server unless that is done, and returns its name for it.
func (u *upload) begin() (string, error) {
	u.beginning.Lock()
	defer u.beginning.Unlock()
	if u.id != "" {
		return u.id, nil
	}
	return u.id, u.request(stallTimeout, nil, func(ctx context.Context) (err error) {
		u.id, err = u.server.writer.NewMultipartUpload(ctx, u.server.location.bucket, u.key, minio.PutObjectOptions{})
		return err
	})
}

// body is what a request sends. It puts off the end of a request that makes progress.
type body struct {
	*io.SectionReader
	patience *time.Timer
}

func (b *body) Read(p []byte) (int, error) {
	b.patience.Reset(stallTimeout)
	return b.SectionReader.Read(p)
}

// request makes a request, which ends when nothing has moved for so long.
func (u *upload) request(patience time.Duration, sends *body, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(u.ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(errStalled) })
	defer timer.Stop()
	if sends != nil {
		sends.patience = timer
	}
	if err := do(ctx); err != nil {
		return u.server.failure(ctx, err)
	}
	return nil
}

// Commit has the object appear. If one has appeared there since, it is left, and that is no
// error, for shares of one storage index and number are the same.
func (u *upload) Commit() error {
	switch {
	case u.over:
		return fs.ErrClosed
	case u.err != nil:
		return u.err
	case u.given != u.size:
		return fmt.Errorf("%w: %d bytes of %d are written", fs.ErrInvalid, u.given, u.size)
	}
	err := u.commit(true)
	var r refusal
	if errors.As(err, &r) && r.status == http.StatusNotImplemented {
		err = u.commit(false)
	}
	if errors.As(err, &r) && (r.occupied() || u.id != "" && r.code == minio.NoSuchUpload) {
		// Another upload was there first; or ours was, and the answer to it got lost.
		if _, absent := u.server.shareSize(u.ctx, u.key); absent == nil {
			u.Abort() // of what nobody sees
			return nil
		}
	}
	if err != nil {
		return u.fail(err)
	}
	u.end()
	return nil
}

func (u *upload) commit(conditional bool) error {
	var opts minio.PutObjectOptions
	if conditional {
		opts.SetMatchETagExcept("*")
	}
	bucket := u.server.location.bucket
	if len(u.lacking) == 1 {
		body := &body{SectionReader: io.NewSectionReader(u.file, 0, u.whole())}
		return u.request(stallTimeout, body, func(ctx context.Context) error {
			_, err := u.server.writer.PutObject(ctx, bucket, u.key, body, u.whole(), "", "", opts)
			return err
		})
	}
	parts := make([]minio.CompletePart, len(u.sent))
	for i := range parts {
		if u.sent[i] == "" { // a last part that is nothing but lease, which no WriteAt completed
			if err := u.send(i); err != nil {
				return err
			}
		}
		parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: u.sent[i]}
	}
	return u.request(assembleTimeout, nil, func(ctx context.Context) error {
		_, err := u.server.writer.CompleteMultipartUpload(ctx, bucket, u.key, u.id, parts, opts)
		return err
	})
}

// Abort has the server drop what it got, and drops the rest. It outlives the upload's context, but
// not by much.
func (u *upload) Abort() error {
	if u.over {
		return nil
	}
	u.end()
	if u.id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(u.ctx), abortTimeout, errStalled)
	defer cancel()
	err := u.server.writer.AbortMultipartUpload(ctx, u.server.location.bucket, u.key, u.id)
	if err == nil || minio.ToErrorResponse(err).Code == minio.NoSuchUpload {
		return nil
	}
	return u.server.failure(ctx, err)
}

// end drops the nameless file.
func (u *upload) end() {
	u.mu.Lock()
	u.over = true
	u.mu.Unlock()
	u.server.forget(u.key)
	u.file.Close()
}
