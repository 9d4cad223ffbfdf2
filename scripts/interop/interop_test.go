// Package interop_test runs Spillway and real Tahoe-LAFS against each other: what
// one writes the other reads, in both directions, on the directories of running
// storage nodes.
package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
)

func TestMain(m *testing.M) { os.Exit(gateway.Main(m)) }

// sizes are a LIT cap's least and most, a CHK cap's least, one segment, its
// exact multiple and one byte more for k = 3 and both usual maximums, many segments.
var sizes = []int64{0, 55, 56, 1000, 131073, 131073 + 1, 2 * 1048578, 2*1048578 + 1, 5_000_000}

func TestInterop(t *testing.T) {
	g := startGrid(t)
	gw := gateway.Start(t, g.Storage)

	for _, s := range []shape{
		{K: 3, Happy: 1, N: 10, Segment: 1 << 20, Layout: 1},
		{K: 3, Happy: 5, N: 10, Segment: 128 << 10, Layout: 2},
		{K: 1, Happy: 1, N: 1, Segment: 128 << 10, Layout: 1},
		{K: 5, Happy: 5, N: 5, Segment: 1 << 20, Layout: 1},
		{K: 71, Happy: 5, N: 255, Segment: 1 << 20, Layout: 1},
	} {
		t.Run("TahoePut/"+s.String(), func(t *testing.T) {
			g.configure(t, s)
			some := sizes
			if s.K != 3 || s.Layout != 1 {
				some = sizes[len(sizes)-2:]
			}
			for _, size := range some {
				file, want := sample.Write(t, 3, size)
				readCap := g.put(t, file)
				readBySpillway(t, g.Storage, gw, readCap, size, want)
			}
		})
	}

	for _, options := range [][]string{
		nil,
		{"--k", "1", "--n", "1"},
		{"--k", "5", "--n", "5", "--segment-size", "128KiB"},
		{"--k", "71", "--n", "255"},
		{"--random-key"},
	} {
		t.Run("SpillwayPut/"+strings.Join(options, " "), func(t *testing.T) {
			some := sizes
			if options != nil {
				some = sizes[len(sizes)-2:]
			}
			for _, size := range some {
				file, want := sample.Write(t, 4, size)
				readCap := gateway.Put(t, g.Storage, file, options...)
				readByTahoe(t, g, readCap, size, want)
				readBySpillway(t, g.Storage, gw, readCap, size, want)
			}
		})
	}

	t.Run("SameCap", func(t *testing.T) { sameCap(t, g) })
	t.Run("TahoeGetFromSpillway", func(t *testing.T) { tahoeGetFromSpillway(t, g, gw) })
	t.Run("Check", func(t *testing.T) { check(t, g, g.Storage) })
}

// readBySpillway gets a file with `spillway get`, and over HTTP with a gateway.
func readBySpillway(t *testing.T, servers []string, gw *gateway.Gateway, readCap string, size int64, want sample.Sum) {
	t.Helper()
	target := filepath.Join(t.TempDir(), "got")
	if _, err := gateway.Run(t, append(append([]string{"get"}, gateway.ServerFlags(servers)...), readCap, "-o", target)...); err != nil {
		t.Errorf("%d bytes: %v", size, err)
	} else if got := sample.SumOfFile(t, target); got != want {
		t.Errorf("%d bytes: spillway get: SHA-256 %s, want %s", size, got, want)
	}

	resp, err := http.Get(gw.File(readCap))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength != size {
		t.Fatalf("%d bytes: GET: %s, Content-Length %d", size, resp.Status, resp.ContentLength)
	}
	if got := sample.SumOf(t, resp.Body); got != want {
		t.Errorf("%d bytes: GET: SHA-256 %s, want %s", size, got, want)
	}
}

// readByTahoe gets a file with `tahoe get` and has Tahoe-LAFS verify every share.
func readByTahoe(t *testing.T, g *grid, readCap string, size int64, want sample.Sum) {
	t.Helper()
	if got := sample.SumOf(t, bytes.NewReader(g.tahoe(t, "get", readCap))); got != want {
		t.Errorf("%d bytes: tahoe get: SHA-256 %s, want %s", size, got, want)
	}
	if strings.HasPrefix(readCap, "URI:LIT:") {
		return
	}
	var answer struct {
		Results struct {
			Healthy     bool `json:"healthy"`
			SharesGood  int  `json:"count-shares-good"`
			SharesTotal int  `json:"count-shares-expected"`
			Corrupt     int  `json:"count-corrupt-shares"`
		} `json:"results"`
	}
	raw := g.tahoe(t, "check", "--verify", "--raw", readCap)
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("tahoe check: %v\n%s", err, raw)
	}
	if r := answer.Results; !r.Healthy || r.Corrupt != 0 || r.SharesGood != r.SharesTotal {
		t.Errorf("%d bytes: tahoe check --verify: %+v", size, r)
	}
}

// sameCap: with the same secret and shape both make the same cap of a file, so
// a file uploaded by either is found already there by the other.
func sameCap(t *testing.T, g *grid) {
	g.configure(t, shape{K: 3, Happy: 1, N: 10, Segment: 1 << 20, Layout: 1})
	secret := filepath.Join(g.Client, "private", "convergence")
	for _, size := range sizes {
		file, _ := sample.Write(t, 5, size)
		theirs := g.put(t, file)
		if ours := gateway.Put(t, g.Storage, file, "--convergence-file", secret); ours != theirs {
			t.Errorf("%d bytes: spillway put and tahoe put made different caps", size)
		}
	}
}

// tahoeGetFromSpillway: Tahoe-LAFS's own client, told by its node.url that
// Spillway is its node.
func tahoeGetFromSpillway(t *testing.T, g *grid, gw *gateway.Gateway) {
	const size = 5_000_000
	file, want := sample.Write(t, 6, size)
	readCap := g.put(t, file)
	node := t.TempDir()
	if err := os.WriteFile(filepath.Join(node, "node.url"), []byte(gw.URL+"/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sample.SumOf(t, bytes.NewReader(g.tahoeOn(t, node, "get", readCap))); got != want {
		t.Errorf("tahoe get: SHA-256 %s, want %s", got, want)
	}
	target := filepath.Join(t.TempDir(), "got")
	g.tahoe(t, "get", "--node-url", gw.URL, readCap, target)
	if got := sample.SumOfFile(t, target); got != want {
		t.Errorf("tahoe get --node-url: SHA-256 %s, want %s", got, want)
	}
}

// check: `spillway check` of a file that Tahoe-LAFS uploaded is content until
// fewer than k shares are wholly good.
func check(t *testing.T, g *grid, servers []string) {
	file, _ := sample.Write(t, 8, 300_000)
	readCap := g.put(t, file)
	args := append([]string{"check", "--json"}, gateway.ServerFlags(servers)...)
	args = append(args, readCap)

	out, err := gateway.Run(t, args...)
	if err != nil {
		t.Errorf("with all shares: %v", err)
	}
	if !json.Valid([]byte(out)) {
		t.Errorf("check --json printed\n%s", out)
	}

	shares := sharesOf(t, g, readCap)
	if len(shares) != 10 {
		t.Fatalf("%d shares, want 10", len(shares))
	}
	const k = 3
	for _, share := range shares[:len(shares)-k] {
		flipByte(t, share)
	}
	if _, err := gateway.Run(t, args...); err != nil {
		t.Errorf("with %d good shares: %v", k, err)
	}
	flipByte(t, shares[len(shares)-1])
	if _, err := gateway.Run(t, args...); err == nil {
		t.Errorf("with %d good shares check was content", k-1)
	}
}

// sharesOf returns the share files of a cap's file on all storage nodes.
func sharesOf(t *testing.T, g *grid, readCap string) []string {
	t.Helper()
	var description struct {
		StorageIndex string `json:"storage-index"`
	}
	raw := g.tahoe(t, "check", "--raw", readCap)
	if err := json.Unmarshal(raw, &description); err != nil {
		t.Fatalf("tahoe check: %v\n%s", err, raw)
	}
	si := description.StorageIndex
	if len(si) != 26 {
		t.Fatalf("tahoe check: storage index of %d characters", len(si))
	}
	var shares []string
	for _, dir := range g.Storage {
		found, err := filepath.Glob(filepath.Join(dir, "shares", si[:2], si, "*"))
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, found...)
	}
	return shares
}

// flipByte flips one bit in the middle of a share's blocks.
func flipByte(t *testing.T, share string) {
	t.Helper()
	f, err := os.OpenFile(share, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const at = 0x0c + 0x24 + 5000
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(fmt.Errorf("writing %s: %w", share, err))
	}
}
