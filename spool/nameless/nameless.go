// Package nameless makes files without a name, for bytes that are too many for memory and of no
// use to the next process.
//
// Such a file ends with its last descriptor: nothing of it is left, whatever ends the process.
package nameless

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DefaultDir is where files go for which no directory is given: $TMPDIR if that is set, else
// /var/tmp. They are as large as what is downloaded or uploaded, and /tmp may lie in memory.
func DefaultDir() string {
	if dir := os.Getenv("TMPDIR"); dir != "" {
		return dir
	}
	return "/var/tmp"
}

// Create makes an empty file in dir, or in DefaultDir if dir is "", and opens it for reading and
// writing. It may be called concurrently.
//
// On a file system that knows O_TMPFILE the file has no name at any time, and can never be given
// one. Elsewhere it is created and unlinked at once; a process killed between the two leaves an
// empty file there, ".spillway-" and a number.
//
// Only the user may open it (mode 0600), and programs that the process starts do not inherit it.
// The error names the directory, and matches what the system said.
func Create(dir string) (*os.File, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	// O_EXCL with O_TMPFILE: the file can never be linked. The os package adds O_CLOEXEC.
	f, err := os.OpenFile(dir, unix.O_TMPFILE|unix.O_EXCL|os.O_RDWR, 0o600)
	if lacksTmpfile(err) {
		f, err = createUnlinked(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("creating a nameless file in %s: %w", dir, err)
	}
	return f, nil
}

// lacksTmpfile tells whether err is the answer of a file system, or kernel, without O_TMPFILE.
func lacksTmpfile(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}

// createUnlinked is Create for file systems without O_TMPFILE.
func createUnlinked(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".spillway-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
