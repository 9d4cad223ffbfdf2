package interop_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
)

// TestPut is about where shares go, and what becomes of an upload when storage nodes are dead or
// die.
func TestPut(t *testing.T) {
	g := startGrid(t)
	file := filepath.Join(t.TempDir(), "grid.yaml")
	if _, notes, err := gateway.RunBoth(t, "grid", "import", g.Client, "-o", file); err != nil {
		t.Fatalf("%v\n%s", err, notes)
	}
	put := []string{"put", "--grid", file, "--convergence-file", filepath.Join(g.Client, "private", "convergence")}
	t.Run("Placement", func(t *testing.T) { placement(t, g, put) })
	t.Run("Existing", func(t *testing.T) { existing(t, g, put) })
	t.Run("Frozen", func(t *testing.T) { frozen(t, g, put) })
	t.Run("Killed", func(t *testing.T) { killed(t, g, put) })
	t.Run("Dead", func(t *testing.T) { dead(t, g, put) })
}

// order returns the storage nodes in the order in which Tahoe-LAFS's client searches them for a
// file's shares.
func (g *grid) order(t *testing.T, si string) (order []int) {
	t.Helper()
	const program = `
import sys
from allmydata.util import base32, hashutil
si = base32.a2b(sys.argv[1].encode())
seeds = [base32.a2b(open(f, "rb").read().strip()) for f in sys.argv[2:]]
print(*sorted(range(len(seeds)), key=lambda i: hashutil.permute_server_hash(si, seeds[i])))
`
	args := []string{"-c", program, si}
	for _, dir := range g.Storage {
		args = append(args, filepath.Join(filepath.Dir(dir), "permutation-seed"))
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(g.Tahoe), "python"), args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(out)) {
		i, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, i)
	}
	return order
}

// where returns the storage index of a cap's file, and for each storage node the shares that it
// holds.
func (g *grid) where(t *testing.T, readCap string) (si string, nums [][]int) {
	t.Helper()
	si = filepath.Base(filepath.Dir(sharesOf(t, g, readCap)[0]))
	return si, g.holds(t, si)
}

// holds returns for each storage node the shares of a file that it holds.
func (g *grid) holds(t *testing.T, si string) [][]int {
	t.Helper()
	nums := make([][]int, len(g.Storage))
	for i, dir := range g.Storage {
		shares, err := filepath.Glob(filepath.Join(dir, "shares", si[:2], si, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, share := range shares {
			num, err := strconv.Atoi(filepath.Base(share))
			if err != nil {
				t.Fatal(err)
			}
			nums[i] = append(nums[i], num)
		}
		slices.Sort(nums[i])
	}
	return nums
}

// files lists what stands below the storage nodes' shares directories.
func (g *grid) files(t *testing.T, nodes ...int) (files []string) {
	t.Helper()
	for _, i := range nodes {
		err := filepath.WalkDir(filepath.Join(g.Storage[i], "shares"), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// placement: share i goes to the i-th node of Tahoe-LAFS's own order, and then around again. The
// same file goes where Tahoe-LAFS searches first, which is also where Tahoe-LAFS puts it: it
// chooses among the first 2n nodes, any of them.
func placement(t *testing.T, g *grid, put []string) {
	for seed := range 2 {
		file, _ := sample.Write(t, byte(20+seed), 5000)
		out, err := gateway.Run(t, append(put, "--n", "8", file)...)
		if err != nil {
			t.Fatal(err)
		}
		si, nums := g.where(t, strings.TrimSpace(out))
		for place, node := range g.order(t, si) {
			want := []int{place, place + 5}
			if place >= 3 {
				want = want[:1]
			}
			if !slices.Equal(nums[node], want) {
				t.Errorf("node %d, place %d: shares %v, want %v", node, place, nums[node], want)
			}
		}
	}
	g.configure(t, shape{K: 1, Happy: 1, N: 1, Segment: 1 << 20, Layout: 1})
	defer g.configure(t, shape{K: 3, Happy: 1, N: 10, Segment: 1 << 20, Layout: 1})
	for seed := range 3 {
		file, _ := sample.Write(t, byte(30+seed), 5000)
		readCap := g.put(t, file)
		si, nums := g.where(t, readCap)
		order := g.order(t, si)
		holder := func(place int) bool { return len(nums[order[place]]) > 0 }
		if !holder(0) && !holder(1) {
			t.Errorf("Tahoe-LAFS places the only share as %v, and its order is %v", nums, order)
		}
		for _, dir := range g.Storage {
			if err := os.RemoveAll(filepath.Join(dir, "shares", si[:2], si)); err != nil {
				t.Fatal(err)
			}
		}
		out, err := gateway.Run(t, append(put, "--k", "1", "--n", "1", file)...)
		if err != nil || strings.TrimSpace(out) != readCap {
			t.Fatalf("another cap, %v", err)
		}
		if nums = g.holds(t, si); !holder(0) {
			t.Errorf("Spillway places the only share as %v, and the order is %v", nums, order)
		}
	}
}

// existing: what Tahoe-LAFS has put where stays, and what is gone is put back.
func existing(t *testing.T, g *grid, put []string) {
	const size = 300_000
	file, want := sample.Write(t, 40, size)
	readCap := g.put(t, file)
	_, before := g.where(t, readCap)
	shares := sharesOf(t, g, readCap)
	for _, share := range shares[:4] {
		if err := os.Remove(share); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := gateway.Run(t, append(put, file)...); err != nil || strings.TrimSpace(out) != readCap {
		t.Fatalf("another cap, %v", err)
	}
	for _, share := range shares[4:] {
		if _, err := os.Stat(share); err != nil {
			t.Error(err)
		}
	}
	if again := sharesOf(t, g, readCap); len(again) != len(shares) {
		t.Errorf("%d shares where there were %d: %v", len(again), len(shares), before)
	}
	readByTahoe(t, g, readCap, size, want)
}

// frozen: a node that does not answer is done without, if that is allowed.
func frozen(t *testing.T, g *grid, put []string) {
	const size = 3_000_000
	file, want := sample.Write(t, 41, size)
	if err := syscall.Kill(g.PIDs[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	out, log, err := gateway.RunBoth(t, append(put, "--happy", "4", file)...)
	if err := syscall.Kill(g.PIDs[0], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err != nil || !strings.Contains(log, `msg="server failed"`) || !strings.Contains(log, "server=s0") {
		t.Fatalf("%v: %s", err, log)
	}
	readCap := strings.TrimSpace(out)
	if _, nums := g.where(t, readCap); len(nums[0]) != 0 {
		t.Errorf("the frozen node holds %v", nums[0])
	}
	readByTahoe(t, g, readCap, size, want)
}

// killed: a node dies in the middle of the upload. That costs its shares if the others are enough,
// else the upload, of which nothing is left.
func killed(t *testing.T, g *grid, put []string) {
	const size = 60_000_000
	file, want := sample.Write(t, 42, size)
	for _, happy := range []string{"5", "4"} {
		before := g.files(t, 0, 1, 2, 3, 4)
		var readCap, log string
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			readCap, log, err = gateway.RunBoth(t, append(put, "--happy", happy, file)...)
		}()
		gateway.Await(t, "upload that has begun", func() bool {
			found, _ := filepath.Glob(filepath.Join(g.Storage[1], "shares", "incoming", "*", "*", "*"))
			return len(found) > 0
		})
		g.restart(t, 1, func() { <-done })
		if happy == "4" {
			if err != nil || !strings.Contains(log, "server=s1") {
				t.Fatalf("%v: %s", err, log)
			}
			readByTahoeUnhealthy(t, g, strings.TrimSpace(readCap), want)
			continue
		}
		if err == nil || !strings.Contains(err.Error()+log, "5 of 5 must hold shares of their own, 4 would; failed: s1: share ") ||
			!strings.Contains(err.Error()+log, "; discarded: share ") {
			t.Errorf("%v: %s", err, log)
		}
		if after := g.files(t, 0, 2, 3, 4); len(after) > len(before) || !slices.Equal(after, slices.DeleteFunc(before, func(f string) bool { return strings.HasPrefix(f, g.Storage[1]+"/") })) {
			t.Errorf("left behind: %v", after)
		}
	}
}

// readByTahoeUnhealthy gets a file of which shares are missing.
func readByTahoeUnhealthy(t *testing.T, g *grid, readCap string, want sample.Sum) {
	t.Helper()
	if got := sample.SumOf(t, bytes.NewReader(g.tahoe(t, "get", readCap))); got != want {
		t.Errorf("tahoe get: SHA-256 %s, want %s", got, want)
	}
	var answer struct {
		Results struct {
			Good    int `json:"count-shares-good"`
			Corrupt int `json:"count-corrupt-shares"`
			Hosts   int `json:"count-good-share-hosts"`
		} `json:"results"`
	}
	if err := json.Unmarshal(g.tahoe(t, "check", "--verify", "--raw", readCap), &answer); err != nil {
		t.Fatal(err)
	}
	if r := answer.Results; r.Good < 8 || r.Corrupt != 0 || r.Hosts != 4 {
		t.Errorf("tahoe check --verify: %+v", r)
	}
}

// dead: too few nodes are there from the beginning.
func dead(t *testing.T, g *grid, put []string) {
	file, _ := sample.Write(t, 43, 1_000_000)
	before := g.files(t, 0, 1, 2, 3, 4)
	for _, pid := range g.PIDs[2:4] {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, options := range [][]string{nil, {"--happy", "4"}} {
		_, log, err := gateway.RunBoth(t, append(append(put, options...), file)...)
		if err == nil || !strings.Contains(err.Error()+log, "must hold shares of their own, 3 would; failed: ") ||
			!strings.Contains(err.Error()+log, "s2: ") || !strings.Contains(err.Error()+log, "s3: ") {
			t.Errorf("%v: %s", err, log)
		}
		if after := g.files(t, 0, 1, 2, 3, 4); !slices.Equal(after, before) {
			t.Errorf("left behind: %v", after)
		}
	}
	if _, err := gateway.Run(t, append(put, "--happy", "3", file)...); err != nil {
		t.Error(err)
	}
}
