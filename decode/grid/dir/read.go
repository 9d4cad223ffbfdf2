package dir

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
)

// Open opens share num of si. An error matches grid.ErrCorrupt when the
// container is no immutable one, or holds more leases than bytes.
func (s *Server) Open(ctx context.Context, si grid.StorageIndex, num int) (grid.Share, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(slot(s.shares(), si), strconv.Itoa(num)))
	if err != nil {
		return nil, err
	}
	sh, err := newShare(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return sh, nil
}

// share is an open container. The kernel keeps all its state.
type share struct {
	file *os.File
	conn syscall.RawConn
	size int64
}

func newShare(f *os.File) (*share, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", grid.ErrCorrupt)
	}
	head := make([]byte, container.HeaderSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	size, err := container.ShareSize(head[:n], info.Size())
	if err != nil {
		return nil, err
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &share{file: f, conn: conn, size: size}, nil
}

// Size returns the length of the share without container and leases.
func (sh *share) Size() int64 { return sh.size }

// Close closes the container.
func (sh *share) Close() error { return sh.file.Close() }

// maxVectors is how many buffers the kernel fills in one call (IOV_MAX).
const maxVectors = 1024

// ReadAt reads with one preadv where the kernel allows it.
func (sh *share) ReadAt(ctx context.Context, off int64, bufs ...[]byte) (int, error) {
	total := 0
	for len(bufs) > 0 {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		// Leases follow the share: never read beyond its end.
		vectors, want, cut := fit(bufs[:min(len(bufs), maxVectors)], max(0, sh.size-off))
		n, err := sh.readVectors(vectors, off)
		total += n
		off += int64(n)
		if err != nil {
			return total, err
		}
		if n < want {
			// The kernel may give less than was asked at the file's end only.
			return total, io.ErrUnexpectedEOF
		}
		if cut {
			return total, io.EOF
		}
		bufs = bufs[len(vectors):]
	}
	return total, nil
}

// fit shortens bufs to limit bytes in all and returns how many bytes they
// then hold, and whether they had to be shortened.
func fit(bufs [][]byte, limit int64) (fitting [][]byte, total int, cut bool) {
	for i, b := range bufs {
		if int64(total)+int64(len(b)) > limit {
			fitting = append(fitting, bufs[:i]...)
			rest := b[:limit-int64(total)]
			return append(fitting, rest), int(limit), true
		}
		total += len(b)
	}
	return bufs, total, false
}

func (sh *share) readVectors(bufs [][]byte, off int64) (int, error) {
	if len(bufs) == 1 {
		n, err := sh.file.ReadAt(bufs[0], container.HeaderSize+off)
		if err == io.EOF {
			err = nil
		}
		return n, err
	}
	v := vectorReads.Get().(*vectorRead)
	defer vectorReads.Put(v)
	for _, b := range bufs {
		if len(b) > 0 {
			v.vectors = append(v.vectors, unix.Iovec{Base: &b[0]})
			v.vectors[len(v.vectors)-1].SetLen(len(b))
		}
	}
	v.off = container.HeaderSize + off
	err := sh.conn.Control(v.run)
	clear(v.vectors)
	v.vectors = v.vectors[:0]
	if err == nil && v.errno != 0 {
		err = os.NewSyscallError("preadv", v.errno)
	}
	return v.n, err
}

// vectorRead is one call of preadv. unix.Preadv would allocate for every one.
type vectorRead struct {
	vectors []unix.Iovec
	off     int64
	n       int
	errno   syscall.Errno
	run     func(fd uintptr) // v.read, bound once
}

var vectorReads = sync.Pool{New: func() any {
	v := &vectorRead{}
	v.run = v.read
	return v
}}

func (v *vectorRead) read(fd uintptr) {
	v.n, v.errno = 0, 0
	if len(v.vectors) == 0 {
		return
	}
	for {
		// The offset is in two registers on 32-bit machines; on others the second is ignored.
		n, _, errno := unix.Syscall6(unix.SYS_PREADV, fd, uintptr(unsafe.Pointer(&v.vectors[0])), uintptr(len(v.vectors)),
			uintptr(v.off), uintptr(v.off>>32), 0)
		if errno == unix.EINTR {
			continue
		}
		if errno == 0 {
			v.n = int(n)
		}
		v.errno = errno
		return
	}
}
