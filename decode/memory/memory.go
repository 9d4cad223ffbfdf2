// Package memory is where the bytes of chunks and pieces come from: outside of Go's heap.
//
// In the heap they would be nearly all that lives. The collector would let as much garbage lie
// again before it runs, and give none of it back for long (see decision buffers-outside-the-heap).
// How much of it there may be is not decided here; see package allowance.
package memory

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Buffer is memory for a chunk or a piece. It belongs to whoever made it, is used by one goroutine
// at a time, and is given back by Free alone.
type Buffer []byte

// New returns a Buffer of n bytes. Of one that will be written whole, populate gets every page at
// once: getting them one by one takes longer than decoding does. It panics when the system has no
// memory, as the heap would.
func New(n int, populate bool) Buffer {
	flags := unix.MAP_ANON | unix.MAP_PRIVATE
	if populate {
		flags |= unix.MAP_POPULATE
	}
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		panic(fmt.Sprintf("out of memory: mapping %d bytes for a chunk: %v", n, err))
	}
	return m
}

// Resized returns a Buffer of n bytes: b, if that is large enough and not larger than room, else
// another one in its place. It holds anything. For populate see New.
func (b Buffer) Resized(n, room int, populate bool) Buffer {
	if cap(b) >= n && cap(b) <= room {
		return b[:n]
	}
	b.Free()
	return New(n, populate)
}

// Free gives the memory back to the system; nothing may use it any more.
func (b Buffer) Free() {
	if cap(b) == 0 {
		return
	}
	if err := unix.Munmap(b[:cap(b)]); err != nil {
		panic("internal error: unmapping a chunk: " + err.Error())
	}
}

// Error: a file cannot be decoded or encoded within the memory that the configuration allows. It
// matches syscall.ENOMEM.
type Error struct {
	What          string // what of the file needs the memory
	Needed, Limit int64  // bytes
}

func (e *Error) Error() string {
	return fmt.Sprintf("the file's %s need %d bytes of memory and %d are allowed; --decode-memory sets the limit", e.What, e.Needed, e.Limit)
}

func (e *Error) Unwrap() error { return syscall.ENOMEM }
