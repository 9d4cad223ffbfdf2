package nameless_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/spool/nameless"
)

var ways = map[string]func(dir string) (*os.File, error){
	"Create":         nameless.Create,
	"CreateUnlinked": nameless.CreateUnlinked,
}

func TestFile(t *testing.T) {
	for name, create := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := create(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
				t.Errorf("the directory holds %v, %v", names, err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 || st.Mode != unix.S_IFREG|0o600 {
				t.Errorf("%d names, mode %o, %v", st.Nlink, st.Mode, err)
			}
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("programs inherit the file: flags %#x, %v", flags, err)
			}
			if _, err := f.WriteAt([]byte("bytes"), 5000); err != nil {
				t.Error(err)
			}
			got := make([]byte, 5)
			if _, err := f.ReadAt(got, 5000); err != nil || string(got) != "bytes" {
				t.Errorf("read %q, %v", got, err)
			}
			link := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
			if at, err := os.Readlink(link); err != nil || !strings.HasPrefix(at, dir+"/") {
				t.Errorf("the file is %s, %v, not in %s", at, err, dir)
			}
			if err := unix.Linkat(unix.AT_FDCWD, link, unix.AT_FDCWD, filepath.Join(dir, "name"), unix.AT_SYMLINK_FOLLOW); err == nil {
				t.Error("the file could be given a name")
			}
		})
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	none, file := filepath.Join(dir, "none"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, create := range ways {
		if f, err := create(none); f != nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), none) {
			t.Errorf("%s in no directory: %v, %v", name, f, err)
		}
		if f, err := create(file); f != nil || !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s in a file: %v, %v", name, f, err)
		}
	}
}

// A file system that has no O_TMPFILE says so in one of three ways; nothing else may lead to a
// file that has a name for a moment.
func TestLacksTmpfile(t *testing.T) {
	for err, want := range map[error]bool{
		nil:             false,
		unix.EOPNOTSUPP: true,
		unix.EISDIR:     true, // kernels that take O_TMPFILE for O_DIRECTORY
		unix.EINVAL:     true,
		unix.ENOENT:     false,
		unix.ENOTDIR:    false,
		unix.EACCES:     false,
		unix.EROFS:      false,
		unix.ENOSPC:     false,
		unix.EMFILE:     false,
	} {
		if err != nil {
			err = &fs.PathError{Op: "open", Path: "/", Err: err}
		}
		if got := nameless.LacksTmpfile(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("TMPDIR", "")
	if got := nameless.DefaultDir(); got != "/var/tmp" {
		t.Errorf("without TMPDIR it is %s", got)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	f, err := nameless.Create("")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))); err != nil || !strings.HasPrefix(at, dir+"/") {
		t.Errorf("with TMPDIR the file is %s, %v, not in %s", at, err, dir)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "none"))
	if _, err := nameless.Create(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("TMPDIR does not exist: %v", err)
	}
}
