package dir_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gridtest"
)

var si = grid.StorageIndex{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// write puts a share of the given bytes in pieces, back to front.
func write(s *dir.Server, num int, share []byte) error {
	u, err := s.Create(context.Background(), si, num, int64(len(share)), grid.Lease{})
	if err != nil {
		return err
	}
	for off := len(share); off > 0; {
		from := max(0, off-7)
		if _, err := u.WriteAt(share[from:off], int64(from)); err != nil {
			return errors.Join(err, u.Abort())
		}
		off = from
	}
	return u.Commit()
}

// slot is where the shares of si stand.
func slot(base string) string {
	return filepath.Join(base, "shares", si.String()[:2], si.String())
}

// tree lists all files and directories below base.
func tree(t *testing.T, base string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(base, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(base, path); name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestConformance(t *testing.T) {
	gridtest.Run(t, func(t *testing.T) grid.Server { return dir.New(t.TempDir()) })
}

// TestContainer looks at what is written.
func TestContainer(t *testing.T) {
	base := t.TempDir()
	s := dir.New(base)
	share := []byte("the quick brown fox jumps over the lazy dog")
	before := time.Now()
	if err := write(s, 5, share); err != nil {
		t.Fatal(err)
	}
	container, err := os.ReadFile(filepath.Join(slot(base), "5"))
	if err != nil {
		t.Fatal(err)
	}
	lease := container[12+len(share):]
	if len(lease) != 72 || !bytes.Equal(container[12:12+len(share)], share) {
		t.Fatalf("the container is %x", container)
	}
	want := []byte{0, 0, 0, 2, 0, 0, 0, byte(len(share)), 0, 0, 0, 1}
	if !bytes.Equal(container[:12], want) || binary.BigEndian.Uint32(lease) != 1 {
		t.Errorf("header %x, lease %x", container[:12], lease)
	}
	expires := time.Unix(int64(binary.BigEndian.Uint32(lease[68:])), 0)
	if d := expires.Sub(before); d < 31*24*time.Hour-time.Minute || d > 31*24*time.Hour+time.Hour {
		t.Errorf("the lease expires after %v", d)
	}
	if bytes.Equal(lease[4:36], make([]byte, 32)) || bytes.Equal(lease[4:36], lease[36:68]) {
		t.Error("the lease's secrets are no secrets")
	}
	if names := tree(t, filepath.Join(base, "shares", "incoming")); len(names) != 0 {
		t.Errorf("left in incoming: %v", names)
	}
	nums, err := s.Shares(t.Context(), si)
	if err != nil || !slices.Equal(nums, []int{5}) {
		t.Errorf("%v, %v", nums, err)
	}
	sh, err := s.Open(t.Context(), si, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	if sh.Size() != int64(len(share)) {
		t.Errorf("size %d", sh.Size())
	}
}

// TestBesideAnotherServer has others write into the same directory.
func TestBesideAnotherServer(t *testing.T) {
	base := t.TempDir()
	s := dir.New(base)
	u, err := s.Create(t.Context(), si, 1, 3, grid.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), si, 1, 3, grid.Lease{}); err == nil || !strings.Contains(err.Error(), "incoming") {
		t.Errorf("an upload beside another one: %v", err)
	}
	// A share that appears meanwhile is left as it is.
	there := filepath.Join(slot(base), "1")
	if err := os.MkdirAll(filepath.Dir(there), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(there, []byte("a container"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(there); string(b) != "a container" {
		t.Errorf("%q", b)
	}
	if names := tree(t, filepath.Join(base, "shares", "incoming")); len(names) != 0 {
		t.Errorf("left in incoming: %v", names)
	}
}

func TestAbort(t *testing.T) {
	base := t.TempDir()
	s := dir.New(base)
	u, err := s.Create(t.Context(), si, 3, 100, grid.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Abort(); err != nil {
		t.Error(err)
	}
	if names := tree(t, base); !slices.Equal(names, []string{"shares", "shares/incoming"}) {
		t.Errorf("left: %v", names)
	}
}

func TestMissingDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "not mounted")
	s := dir.New(path)
	if _, err := s.Shares(t.Context(), si); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if _, err := s.Create(t.Context(), si, 0, 1, grid.Lease{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if _, err := s.Open(t.Context(), si, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "shares"), 0o700); err != nil {
		t.Fatal(err)
	}
	if nums, err := dir.New(base).Shares(t.Context(), si); err != nil || len(nums) != 0 {
		t.Errorf("%v, %v", nums, err)
	}
}

// TestForeignNames lists what else may stand beside shares.
func TestForeignNames(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"0", "255", "256", "-1", "+2", "03", "3.tmp", "x", "1e1", "99999999999999999999", " 4"} {
		path := filepath.Join(slot(base), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(slot(base), "7"), 0o700); err != nil {
		t.Fatal(err)
	}
	nums, err := dir.New(base).Shares(t.Context(), si)
	if slices.Sort(nums); err != nil || !slices.Equal(nums, []int{0, 255}) {
		t.Errorf("%v, %v", nums, err)
	}
}

func TestContainers(t *testing.T) {
	header := func(version, length, leases uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, version)
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, length), leases)
	}
	for name, test := range map[string]struct {
		container []byte
		size      int64 // -1: corrupt
	}{
		"v1":              {append(header(1, 100, 0), make([]byte, 100)...), 100},
		"v2":              {append(header(2, 100, 1), make([]byte, 172)...), 100},
		"length ignored":  {append(header(2, 7, 2), make([]byte, 244)...), 100},
		"nothing in it":   {header(2, 0, 0), 0},
		"leases alone":    {append(header(1, 0, 3), make([]byte, 216)...), 0},
		"too many leases": {append(header(2, 100, 3), make([]byte, 172)...), -1},
		"absurd leases":   {append(header(2, 100, 1<<32-1), make([]byte, 172)...), -1},
		"version 0":       {append(header(0, 100, 0), make([]byte, 100)...), -1},
		"version 3":       {append(header(3, 100, 0), make([]byte, 100)...), -1},
		"empty":           {nil, -1},
		"short":           {header(2, 0, 0)[:11], -1},
		"mutable v1":      {append([]byte("Tahoe mutable container v1\n\x75\x09\x44\x03\x8e"), make([]byte, 500)...), -1},
		"mutable v2":      {append([]byte("Tahoe mutable container v2\n\x75\x09\x44\x03\x8e"), make([]byte, 500)...), -1},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			if err := os.MkdirAll(slot(base), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(slot(base), "0"), test.container, 0o600); err != nil {
				t.Fatal(err)
			}
			sh, err := dir.New(base).Open(t.Context(), si, 0)
			if err != nil {
				if test.size >= 0 || !errors.Is(err, grid.ErrCorrupt) {
					t.Error(err)
				}
				if strings.HasPrefix(name, "mutable") && !strings.Contains(err.Error(), "mutable") {
					t.Error(err)
				}
				return
			}
			defer sh.Close()
			if sh.Size() != test.size {
				t.Errorf("size %d, want %d", sh.Size(), test.size)
			}
		})
	}
}

func TestString(t *testing.T) {
	for path, want := range map[string]string{"/srv/a": "file:///srv/a", "/srv/a b/": "file:///srv/a%20b"} {
		if s := fmt.Sprint(dir.New(path)); s != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
}
