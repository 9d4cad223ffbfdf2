package chk

import (
	"io"

	"spillway/spool/nameless"
)

// inMemory is up to how many bytes of hashes wait in memory instead of on a disk: those of
// a file of a gigabyte, 3-of-10, in segments of a megabyte.
const inMemory = 1 << 20

// scratch is where hashes wait for the end of a file.
type scratch interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// newScratch returns a scratch of size bytes: in memory if they are few, else a file without a
// name in nameless.DefaultDir.
func newScratch(size, few int64) (scratch, error) {
	if size <= few {
		return make(memory, size), nil
	}
	f, err := nameless.Create("")
	if err != nil {
		return nil, err // and not f, a nil pointer in an interface
	}
	return f, nil
}

type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Close() error                             { return nil }
