package interop_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
)

// TestGridFile: what `spillway grid import` makes of the client node's directory needs no hand
// editing. One of the storage nodes speaks only Foolscap, and later HTTPS as well.
func TestGridFile(t *testing.T) {
	g := startGrid(t)
	const odd = 4
	g.forceFoolscap(t, odd, true)
	file := filepath.Join(t.TempDir(), "grid.yaml")
	importGrid := func(options ...string) string {
		t.Helper()
		_, notes, err := gateway.RunBoth(t, append([]string{"grid", "import", g.Client, "-o", file}, options...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, notes)
		}
		return notes
	}
	if got, want := importGrid(), "left out s4: it speaks only Foolscap\n4 of 5 servers imported\n"; got != want {
		t.Errorf("grid import said %q, want %q", got, want)
	}

	gw := gateway.Start(t, nil, "--grid", file)
	const size = 5_000_000
	name, want := sample.Write(t, 11, size)
	readCap := g.put(t, name)
	t.Run("Get", func(t *testing.T) { readByGrid(t, file, gw, readCap, size, want) })
	t.Run("Ping", func(t *testing.T) {
		report, err := ping(t, file, readCap)
		if err != nil || report.Unreachable != 0 || report.Shares.Needed != 3 || report.Shares.Total != 10 {
			t.Errorf("%+v, %v", report, err)
		}
		for i, s := range report.Servers {
			if s.Server != filepath.Base(filepath.Dir(g.Storage[i])) || !s.Reachable || s.LatencyMS <= 0 || s.Software != "tahoe-lafs/1.20.0" || s.FreeBytes <= 0 {
				t.Errorf("%+v", s)
			}
			var held []int
			for _, share := range sharesOf(t, g, readCap) {
				if strings.HasPrefix(share, g.Storage[i]+"/") {
					var num int
					if err := json.Unmarshal([]byte(filepath.Base(share)), &num); err != nil {
						t.Fatal(err)
					}
					held = append(held, num)
				}
			}
			slices.Sort(held)
			if len(held) == 0 || !slices.Equal(s.Shares, held) {
				t.Errorf("%s holds %v, and ping says %v", s.Server, held, s.Shares)
			}
		}
	})
	t.Run("Put", func(t *testing.T) {
		name, want := sample.Write(t, 12, size)
		readCap := gateway.Put(t, nil, name, "--grid", file)
		readByTahoe(t, g, readCap, size, want)
		readByGrid(t, file, gw, readCap, size, want)
	})
	t.Run("TahoeGetFromSpillway", func(t *testing.T) { tahoeGetFromSpillway(t, g, gw) })

	t.Run("Reload", func(t *testing.T) {
		g.forceFoolscap(t, odd, false)
		if got, want := importGrid("--force"), "5 of 5 servers imported\n"; got != want {
			t.Errorf("grid import said %q, want %q", got, want)
		}
		if err := syscall.Kill(gw.PID, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		gateway.Await(t, "reloaded grid", func() bool {
			return strings.Contains(gw.Log(), `msg="grid reloaded" servers=5 added=[s4] changed=[] removed=[]`)
		})
		// Three shares are left, on the new server.
		name, want := sample.Write(t, 13, size)
		readCap := gateway.Put(t, nil, name, "--grid", file, "--n", "15")
		for _, share := range sharesOf(t, g, readCap) {
			if !strings.HasPrefix(share, g.Storage[odd]+"/") {
				if err := os.Remove(share); err != nil {
					t.Fatal(err)
				}
			}
		}
		readByGrid(t, file, gw, readCap, size, want)
	})

	t.Run("PingUnreachable", func(t *testing.T) {
		g.restart(t, 0, func() {
			report, err := ping(t, file, readCap)
			if err == nil || report.Unreachable != 1 || report.Servers[0].Reachable || report.Servers[0].Error == "" {
				t.Errorf("%+v, %v", report, err)
			}
		})
	})

	// What readers and the operator are told when one node has shares, one refuses the swissnum and
	// three are gone.
	t.Run("TooFew", func(t *testing.T) {
		name, _ := sample.Write(t, 14, size)
		readCap := g.put(t, name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.LastIndex(text, []byte("#v=1"))
		if err := os.WriteFile(file, slices.Concat(text[:at], []byte("no"), text[at:]), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(gw.PID, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		gateway.Await(t, "reloaded grid", func() bool {
			return strings.Contains(gw.Log(), `msg="grid reloaded" servers=5 added=[] changed=[s4] removed=[]`)
		})
		for _, pid := range g.PIDs[1:4] {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.Get(gw.File(readCap))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		want := regexp.MustCompile(`^3 of 10 shares needed; have 2: s0 \(shares \d, \d\); s1 (refused|cut) the connection \d s ago, ` +
			`s2 (refused|cut) the connection \d s ago, s3 (refused|cut) the connection \d s ago, s4 answered 401 \d s ago; try again in a minute\n$`)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !want.Match(body) {
			t.Errorf("%s, %v: %s", resp.Status, err, body)
		}
	})
}

// forceFoolscap makes a storage node speak Foolscap only, or HTTPS as well, and waits until the
// client node has heard of it.
func (g *grid) forceFoolscap(t *testing.T, number int, force bool) {
	t.Helper()
	g.restart(t, number, func() {
		config := filepath.Join(filepath.Dir(g.Storage[number]), "tahoe.cfg")
		text, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		const switched = "force_foolscap = true\n"
		text = bytes.ReplaceAll(text, []byte(switched), nil)
		if force {
			text = bytes.Replace(text, []byte("[storage]\n"), []byte("[storage]\n"+switched), 1)
		}
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	want := len(g.Storage)
	if force {
		want--
	}
	gateway.Await(t, "announcement of the node", func() bool {
		cache, err := os.ReadFile(filepath.Join(g.Client, "private", "introducer_grid_cache.yaml"))
		return err == nil && bytes.Count(cache, []byte("anonymous-storage-NURLs:")) == want && g.connected(t) == len(g.Storage)
	})
}

// connected counts the storage nodes to which the client node is connected.
func (g *grid) connected(t *testing.T) (count int) {
	t.Helper()
	resp, err := http.Get(g.NodeURL + "?t=json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var welcome struct {
		Servers []struct {
			Status string `json:"connection_status"`
		} `json:"servers"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&welcome); err != nil {
		t.Fatal(err)
	}
	for _, s := range welcome.Servers {
		if strings.HasPrefix(strings.ToLower(s.Status), "connected") {
			count++
		}
	}
	return count
}

// readByGrid is readBySpillway with the servers of a grid file.
func readByGrid(t *testing.T, file string, gw *gateway.Gateway, readCap string, size int64, want sample.Sum) {
	t.Helper()
	target := filepath.Join(t.TempDir(), "got")
	if _, err := gateway.Run(t, "get", "--grid", file, readCap, "-o", target); err != nil {
		t.Error(err)
	} else if got := sample.SumOfFile(t, target); got != want {
		t.Errorf("spillway get: SHA-256 %s, want %s", got, want)
	}
	resp, err := http.Get(gw.File(readCap))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := sample.SumOf(t, resp.Body); got != want || resp.StatusCode != http.StatusOK || resp.ContentLength != size {
		t.Errorf("GET: %s, Content-Length %d, SHA-256 %s, want %s", resp.Status, resp.ContentLength, got, want)
	}
}

// pingReport is what `spillway grid ping --json` prints.
type pingReport struct {
	Servers []struct {
		Server    string  `json:"server"`
		Reachable bool    `json:"reachable"`
		Error     string  `json:"error"`
		LatencyMS float64 `json:"latency_ms"`
		Software  string  `json:"software"`
		FreeBytes int64   `json:"free_bytes"`
		Shares    []int   `json:"shares"`
	} `json:"servers"`
	Unreachable int `json:"unreachable"`
	Shares      struct {
		Needed int `json:"needed"`
		Total  int `json:"total"`
	} `json:"shares"`
}

func ping(t *testing.T, file, readCap string) (report pingReport, _ error) {
	t.Helper()
	out, err := gateway.Run(t, "grid", "ping", "--json", "--grid", file, readCap)
	if e := json.Unmarshal([]byte(out), &report); e != nil {
		t.Fatalf("%v\n%s", e, out)
	}
	return report, err
}
