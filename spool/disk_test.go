package spool_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"spillway/scripts/need"
	"spillway/spool"
)

// mounted returns a directory on a small file system of its own. Without the right to
// mount the test is skipped, or fails if nothing may be skipped.
func mounted(t *testing.T, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", append(args, dir)...)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		need.Missing(t, "needs to mount a small file system: %s %v: %v: %s", name, args, err, out)
	}
}

// ext4 mounts a file system of 16 MiB.
func ext4(t *testing.T, inodes int) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 16<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-N", strconv.Itoa(inodes), image)
	return mounted(t, "-o", "loop", image)
}

func TestTmpfs(t *testing.T) {
	dir := mounted(t, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
	if s, err := spool.Open(spool.Config{Budget: budget, Dir: dir, Retention: retention}); !errors.Is(err, spool.ErrInMemory) {
		t.Errorf("Open: %v, %v", s, err)
	}
	onFullDisk(t, dir, 1_200_000, 60_000)
}

func TestExt4(t *testing.T) {
	onFullDisk(t, ext4(t, 64), 9_000_000, 300_000)
}

// onFullDisk takes a disk that is smaller than the budget, and holds one file of size bytes but
// not two, through all that a spool does about that.
func onFullDisk(t *testing.T, dir string, size, chunk int64) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Dir: dir, Budget: 1 << 30, Window: 3 * chunk, Retention: retention})
		defer closeSpool(t, s)
		spooled(t, s, &file{key: "a", size: size, chunk: chunk})
		b := &file{key: "b", size: size, chunk: chunk}
		pin := acquire(t, s, b)
		wantIDs(t, s, "b")
		read(t, pin, b, spool.Extent{Off: 0, End: size})
		if pin.Private() {
			t.Error("an idle file did not give way")
		}

		c := &file{key: "c", size: size, chunk: chunk}
		r := acquire(t, s, c, spool.Extent{Off: 0, End: size})
		if !r.Private() {
			t.Error("the disk holds both files")
		}
		read(t, r, c, spool.Extent{Off: 0, End: size})
		check(t, s)
		closeReader(t, r)
		synctest.Wait()

		// Somebody else takes the rest of the disk.
		other, err := os.Create(filepath.Join(dir, "other"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		for step := int64(1 << 20); step >= 512; {
			if _, err := other.Write(make([]byte, step)); errors.Is(err, unix.ENOSPC) {
				step /= 2
			} else if err != nil {
				t.Fatal(err)
			}
		}
		r = acquire(t, s, c, spool.Extent{Off: 0, End: size})
		if _, err := r.Wait(t.Context(), 0); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("Wait on a full disk: %v", err)
		}
		check(t, s)
		// Room comes back, and with it the download.
		if err := other.Truncate(0); err != nil {
			t.Fatal(err)
		}
		read(t, r, c, spool.Extent{Off: 0, End: size})
		closeReader(t, r)
		// Who has space set aside has had it all the time.
		read(t, pin, b, spool.Extent{Off: 0, End: size})
		closeReader(t, pin)
	})
}

// A disk that cannot take another file at all, idle entries or not, is full.
func TestNoInodes(t *testing.T) {
	dir := ext4(t, 16)
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Dir: dir, Budget: 1 << 30, Window: 100_000, Retention: retention})
		defer closeSpool(t, s)
		spooled(t, s, &file{key: "a", size: 1000, chunk: 1000})
		for i := 0; ; i++ {
			f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		b := &file{key: "b", size: 1000, chunk: 1000}
		r := acquire(t, s, b)
		read(t, r, b, spool.Extent{Off: 0, End: 1000})
		wantIDs(t, s, "b")
		if _, err := s.Acquire(t.Context(), "c", 1000, b.open); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Acquire: %v", err)
		}
		check(t, s)
		closeReader(t, r)
	})
}
