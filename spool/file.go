package spool

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"spillway/spool/nameless"
)

// pageSize is the granularity, in bytes, in which holes give blocks back.
const pageSize = 4096

func pageDown(off int64) int64 { return off &^ (pageSize - 1) }
func pageUp(off int64) int64   { return pageDown(off + pageSize - 1) }

// createAllocated makes a nameless file in dir and allocates size bytes of it, so that no later
// write can fail for want of space. Where the file system cannot allocate, the file is as it is.
// See decisions unlinked-spool-files and whole-size-is-allocated-first.
func createAllocated(dir string, size int64) (*os.File, error) {
	f, err := nameless.Create(dir)
	if err != nil {
		return nil, err
	}
	if size > 0 {
		if err := allocate(f, size); err != nil {
			f.Close()
			return nil, fmt.Errorf("allocating %d bytes in %s: %w", size, dir, err)
		}
	}
	return f, nil
}

func allocate(f *os.File, size int64) error {
	err := retryInterrupted(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// punch gives the blocks of the whole pages within [from, to) back.
func punch(f *os.File, from, to int64) error {
	if from >= to {
		return nil
	}
	return retryInterrupted(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	})
}

// isFull tells whether err says that the disk, or this user's share of it, has no room.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// inMemory tells whether files in dir live in memory instead of on a disk.
func inMemory(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := retryInterrupted(func() error { return unix.Statfs(dir, &st) }); err != nil {
		return false, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}

// probe does once, on a small file, what the spool will rely on, so that a directory that cannot
// serve is refused at the start. It tells whether holes can be punched.
func probe(dir string) (canPunch bool, err error) {
	f, err := createAllocated(dir, pageSize)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return punch(f, 0, pageSize) == nil, nil
}
