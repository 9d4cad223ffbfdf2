package decode

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// buffer is memory for a chunk, outside of Go's heap. There it would be nearly all that
// lives: the collector would let as much garbage lie again before it runs, and
// give none of it back for long.
type buffer []byte

// newBuffer returns a buffer of n bytes. flags may be unix.MAP_POPULATE, for one of which every page will be used:
// getting them one by one takes longer than decoding does.
func newBuffer(n, flags int) buffer {
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|flags)
	if err != nil {
		panic(fmt.Sprintf("out of memory: mapping %d bytes for a chunk: %v", n, err)) // as the heap would
	}
	return m
}

// resized returns a buffer of n bytes: b, if that is large enough and not larger than room, else another one
// in its place. It holds anything. For flags see newBuffer.
func (b buffer) resized(n, room, flags int) buffer {
	if cap(b) >= n && cap(b) <= room {
		return b[:n]
	}
	b.free()
	return newBuffer(n, flags)
}

// free gives the memory back to the system; nothing may use it any more.
func (b buffer) free() {
	if cap(b) == 0 {
		return
	}
	if err := unix.Munmap(b[:cap(b)]); err != nil {
		panic("internal error: unmapping a chunk: " + err.Error())
	}
}
