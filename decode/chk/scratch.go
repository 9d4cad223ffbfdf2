package chk

import (
	"io"
	"os"
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

// newScratch returns a scratch of size bytes: in memory if they are few, else a file that has
// no name any more, where the system keeps what is too large for memory.
func newScratch(size, few int64) (scratch, error) {
	if size <= few {
		return make(memory, size), nil
	}
	f, err := os.CreateTemp(scratchDir(), ".spillway-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// scratchDir is TMPDIR, else a directory on a disk: /tmp often lies in memory.
func scratchDir() string {
	if os.Getenv("TMPDIR") == "" {
		const onDisk = "/var/tmp"
		if info, err := os.Stat(onDisk); err == nil && info.IsDir() {
			return onDisk
		}
	}
	return os.TempDir()
}

type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Close() error                             { return nil }
