package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
	"spillway/decode/zfec"
)

// Create begins a share in shares/incoming. The storage directory must exist; its
// shares directory need not. The lease cannot be used: its secrets depend on the
// node, which the directory does not name.
func (s *Server) Create(ctx context.Context, si grid.StorageIndex, num int, size int64, _ grid.Lease) (grid.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if num < 0 || num >= zfec.MaxShares || size < 0 {
		return nil, fmt.Errorf("%w: share %d of %d bytes", fs.ErrInvalid, num, size)
	}
	if _, err := os.Stat(s.path); err != nil {
		return nil, fmt.Errorf("no storage directory: %w", err)
	}
	name := strconv.Itoa(num)
	u := &upload{
		size:     size,
		incoming: filepath.Join(slot(s.incoming(), si), name),
		final:    filepath.Join(slot(s.shares(), si), name),
	}
	if _, err := os.Lstat(u.final); err == nil {
		return nil, &fs.PathError{Op: "create", Path: u.final, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var err error
	if u.file, err = createIn(u.incoming); err != nil {
		if errors.Is(err, fs.ErrExist) {
			// Not fs.ErrExist to the caller: the share is not there, whole.
			return nil, fmt.Errorf("another upload of this share is under way or was cut short: %s exists", u.incoming)
		}
		return nil, err
	}
	if err := u.begin(); err != nil {
		return nil, errors.Join(err, u.Abort())
	}
	return u, nil
}

// createIn creates the file path, which must not exist, and the directories
// above it, which an upload that ends beside us may be removing.
func createIn(path string) (*os.File, error) {
	for attempt := 0; ; attempt++ {
		err := os.MkdirAll(filepath.Dir(path), 0o777)
		if err == nil {
			var f *os.File
			if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
				return f, nil
			}
		}
		if !errors.Is(err, fs.ErrNotExist) || attempt == 100 {
			return nil, err
		}
	}
}

// upload is a share in shares/incoming. One goroutine uses it at a time.
type upload struct {
	file            *os.File // nil after Commit or Abort
	size            int64
	incoming, final string
}

// begin writes the container's header without leases, as Tahoe-LAFS does, and
// sizes the file, so that a full disk shows now if it can.
func (u *upload) begin() error {
	if _, err := u.file.WriteAt(container.Header(u.size, 0), 0); err != nil {
		return err
	}
	whole := container.HeaderSize + u.size + container.LeaseSize
	err := unix.Fallocate(int(u.file.Fd()), 0, 0, whole)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = u.file.Truncate(whole)
	}
	if err != nil {
		return &fs.PathError{Op: "allocate", Path: u.incoming, Err: err}
	}
	return nil
}

// WriteAt writes a region of the share.
func (u *upload) WriteAt(p []byte, off int64) (int, error) {
	if u.file == nil {
		return 0, fs.ErrClosed
	}
	if off < 0 || off+int64(len(p)) > u.size {
		return 0, fmt.Errorf("%w: bytes %d to %d of a share of %d", fs.ErrInvalid, off, off+int64(len(p)), u.size)
	}
	return u.file.WriteAt(p, container.HeaderSize+off)
}

// Commit adds the first lease, syncs the container and moves it to its place,
// unless a share has appeared there: then it is left, and that is no error, for
// shares of one storage index and number are the same.
func (u *upload) Commit() error {
	if u.file == nil {
		return fs.ErrClosed
	}
	if err := u.commit(); err != nil {
		return errors.Join(err, u.Abort())
	}
	err := u.file.Close()
	u.file = nil
	u.removeEmptyDirs()
	return err
}

func (u *upload) commit() error {
	if _, err := u.file.WriteAt(container.Lease(time.Now()), container.HeaderSize+u.size); err != nil {
		return err
	}
	if _, err := u.file.WriteAt(container.Header(u.size, 1), 0); err != nil {
		return err
	}
	if err := u.file.Sync(); err != nil {
		return err
	}
	dir := filepath.Dir(u.final)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces what is there.
	if err := os.Link(u.incoming, u.final); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Remove(u.incoming); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Abort removes the share from shares/incoming.
func (u *upload) Abort() error {
	if u.file == nil {
		return nil
	}
	err := errors.Join(u.file.Close(), os.Remove(u.incoming))
	u.file = nil
	u.removeEmptyDirs()
	return err
}

// removeEmptyDirs tidies shares/incoming; a directory with other uploads stays.
func (u *upload) removeEmptyDirs() {
	slot := filepath.Dir(u.incoming)
	if os.Remove(slot) == nil {
		os.Remove(filepath.Dir(slot))
	}
}
