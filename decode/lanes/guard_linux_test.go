package lanes_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// guarded returns size bytes, a multiple of the page size, with memory on either side that cannot
// be read. It lasts until the test ends.
func guarded(t *testing.T, size int) []byte {
	page := unix.Getpagesize()
	b, err := unix.Mmap(-1, 0, size+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	inner := b[page:][:size:size]
	if err := unix.Mprotect(inner, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	return inner
}
