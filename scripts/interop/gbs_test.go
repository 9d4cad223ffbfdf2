package interop_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	storage "spillway/decode/grid"
	"spillway/decode/grid/gbs"
	"spillway/decode/grid/gridtest"
	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
	"spillway/scripts/internal/tahoe"
)

// urls returns the pb:// URLs of the storage nodes.
func (g *grid) urls(t *testing.T) (urls []string) {
	t.Helper()
	for _, dir := range g.Storage {
		url, err := tahoe.URL(dir)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, url)
	}
	return urls
}

// TestGBS is TestInterop through the storage nodes themselves instead of their directories.
func TestGBS(t *testing.T) {
	g := startGrid(t)
	urls := g.urls(t)

	t.Run("Conformance", func(t *testing.T) {
		gridtest.Run(t, func(t *testing.T) storage.Server {
			s, err := gbs.Parse(urls[0])
			if err != nil {
				t.Fatal(err)
			}
			if v, err := s.Version(t.Context()); err != nil || !strings.HasPrefix(v.Application, "tahoe-lafs/") || v.AvailableSpace <= 0 {
				t.Errorf("version %+v, %v", v, err)
			}
			return s
		})
	})

	gw := gateway.Start(t, urls)
	t.Run("TahoePut", func(t *testing.T) {
		for _, size := range sizes {
			file, want := sample.Write(t, 3, size)
			readBySpillway(t, urls, gw, g.put(t, file), size, want)
		}
	})
	t.Run("SpillwayPut", func(t *testing.T) {
		for _, size := range sizes {
			file, want := sample.Write(t, 4, size)
			readCap := gateway.Put(t, urls, file)
			readByTahoe(t, g, readCap, size, want)
			readBySpillway(t, urls, gw, readCap, size, want)
		}
	})
	t.Run("Mixed", func(t *testing.T) {
		const size = 2_000_000
		mixed := append(slices.Clone(g.Storage[:2]), urls[2:]...)
		file, want := sample.Write(t, 5, size)
		readCap := gateway.Put(t, mixed, file, "--k", "5", "--n", "5")
		readByTahoe(t, g, readCap, size, want)
		readBySpillway(t, mixed, gw, readCap, size, want)
	})
	t.Run("Check", func(t *testing.T) { check(t, g, urls) })
	t.Run("Leases", func(t *testing.T) { leases(t, g, urls) })
	t.Run("Corrupt", func(t *testing.T) { corrupt(t, g, gw) })
	t.Run("Refused", func(t *testing.T) { refused(t, g, urls) })
}

// leases: the node renews the leases that Spillway made with the node's secret, and those of its
// own file are renewed by Spillway: there stays one for each share.
func leases(t *testing.T, g *grid, urls []string) {
	g.configure(t, shape{K: 3, Happy: 1, N: 10, Segment: 1 << 20, Layout: 1})
	const size = 300_000
	secrets := []string{"--lease-secret-file", filepath.Join(g.Client, "private", "secret"),
		"--convergence-file", filepath.Join(g.Client, "private", "convergence")}
	for name, upload := range map[string]func(file string) string{
		"spillway put, tahoe put": func(file string) string {
			readCap := gateway.Put(t, urls, file, secrets...)
			if again := g.put(t, file); again != readCap {
				t.Errorf("the caps differ")
			}
			return readCap
		},
		"spillway put, tahoe check --add-lease": func(file string) string {
			readCap := gateway.Put(t, urls, file, secrets...)
			g.tahoe(t, "check", "--add-lease", readCap)
			return readCap
		},
		"tahoe put, spillway put": func(file string) string {
			readCap := g.put(t, file)
			if again := gateway.Put(t, urls, file, secrets...); again != readCap {
				t.Errorf("the caps differ")
			}
			return readCap
		},
	} {
		file, _ := sample.Write(t, byte(len(name)), size)
		shares := sharesOf(t, g, upload(file))
		if len(shares) < 10 {
			t.Errorf("%s: %d shares", name, len(shares))
		}
		for _, share := range shares {
			container, err := os.ReadFile(share)
			if err != nil {
				t.Fatal(err)
			}
			if leases := container[8:12]; !bytes.Equal(leases, []byte{0, 0, 0, 1}) {
				t.Errorf("%s: share %s has %x leases", name, filepath.Base(share), leases)
			}
		}
	}
}

// corrupt: the operator of a server that holds a bad share is told, once. As few shares are good as
// can be, so that no reader gets by without a bad one.
func corrupt(t *testing.T, g *grid, gw *gateway.Gateway) {
	const size = 5_000_000
	file, want := sample.Write(t, 9, size)
	readCap := g.put(t, file)
	const k = 3
	shares := sharesOf(t, g, readCap)
	for _, share := range shares[k:] {
		flipByte(t, share)
	}
	si := filepath.Base(filepath.Dir(shares[0]))
	resp, err := http.Get(gw.File(readCap))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := sample.SumOf(t, resp.Body); got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
	advisories := func() (all []string) {
		for _, dir := range g.Storage {
			found, err := filepath.Glob(filepath.Join(dir, "corruption-advisories", "*--"+si+"-*"))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, found...)
		}
		return all
	}
	gateway.Await(t, "a corruption advisory", func() bool { return len(advisories()) > 0 })
	told := map[string]bool{}
	for _, advisory := range advisories() {
		text, err := os.ReadFile(advisory)
		if err != nil || !bytes.Contains(text, []byte("block")) {
			t.Errorf("%v: %s", err, text)
		}
		// A time, the storage index and the share's number.
		_, share, _ := strings.Cut(filepath.Base(advisory), "--")
		if told[share] {
			t.Errorf("told of %s twice", share)
		}
		told[share] = true
	}
}

// refused: a wrong swissnum and a wrong key are told, and no secret is.
func refused(t *testing.T, g *grid, urls []string) {
	file, _ := sample.Write(t, 7, 1000)
	readCap := g.put(t, file)
	key, swissnum, _ := strings.Cut(strings.TrimSuffix(urls[0], "#v=1"), "@")
	_, swissnum, _ = strings.Cut(swissnum, "/")
	const wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for name, test := range map[string]struct{ from, to, want string }{
		"swissnum": {"/" + swissnum, "/ab" + swissnum, "refuses the swissnum"},
		"key":      {strings.TrimPrefix(key, "pb://"), wrong, "another server answers"},
	} {
		url := strings.Replace(urls[0], test.from, test.to, 1)
		for _, args := range [][]string{{"get", "--server", url, readCap}, {"put", "--server", url, file}, {"check", "--json", "--server", url, readCap}} {
			out, err := gateway.Run(t, args...)
			if err == nil || !strings.Contains(out+err.Error(), test.want) || strings.Contains(out+err.Error(), swissnum) {
				t.Errorf("%s: spillway %s: %v\n%s", name, args[0], err, out)
			}
		}
	}
}
