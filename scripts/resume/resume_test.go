// Package resume_test downloads from the real program with the download
// programs people use, over a network that breaks.
package resume_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/scripts/internal/cutter"
	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
	"spillway/scripts/need"
)

func TestMain(m *testing.M) { os.Exit(gateway.Main(m)) }

// size is no multiple of anything.
const size = 24<<20 + 12345

// download is a file on a running gateway and where the client should put it.
type download struct {
	gateway *gateway.Gateway
	cap     string
	sum     sample.Sum
	target  string
}

func newDownload(t *testing.T) download {
	t.Helper()
	file, sum := sample.Write(t, 7, size)
	storage := make([]string, 10)
	for i := range storage {
		storage[i] = t.TempDir()
	}
	readCap := gateway.Put(t, storage, file)
	// What is left are parity shares.
	for _, dir := range storage[:7] {
		if err := os.RemoveAll(filepath.Join(dir, "shares")); err != nil {
			t.Fatal(err)
		}
	}
	return download{
		gateway: gateway.Start(t, storage),
		cap:     readCap,
		sum:     sum,
		target:  filepath.Join(t.TempDir(), "download"),
	}
}

// via returns the file's URL through a proxy.
func (d download) via(p *cutter.Proxy) string {
	return "http://" + p.Addr + "/uri/" + d.cap
}

// through starts a proxy to the gateway.
func (d download) through(t *testing.T, plan func(conn int) cutter.Cut) *cutter.Proxy {
	return cutter.Start(t, strings.TrimPrefix(d.gateway.URL, "http://"), plan)
}

// check verifies the bytes the client has, and that each byte was decoded once.
func (d download) check(t *testing.T) {
	t.Helper()
	if got := sample.SumOfFile(t, d.target); got != d.sum {
		t.Errorf("SHA-256 %s, want %s", got, d.sum)
	}
	d.gateway.AwaitSpooled(t, size)
	if got := d.gateway.Metric(t, "spillway_spool_written_bytes_total"); got != size {
		t.Errorf("%d bytes were decoded for a file of %d", got, size)
	}
}

// A transfer is cut at 50 random bytes; each time curl is started anew.
func TestCurlContinue(t *testing.T) {
	curl := need.Program(t, "curl")
	d := newDownload(t)
	const cuts = 50
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	at := make([]int64, cuts)
	for i := range at {
		at[i] = rnd.Int64N(size)
	}
	slices.Sort(at)
	proxy := d.through(t, func(conn int) cutter.Cut {
		cut := cutter.Cut{Reset: conn%2 == 1}
		switch {
		case conn >= cuts:
			return cutter.Never
		case conn == 0:
			cut.After = 1 + at[0]
		default:
			cut.After = 1 + at[conn] - at[conn-1]
		}
		return cut
	})

	for i := range cuts + 1 {
		out, err := exec.CommandContext(t.Context(), curl, "-sS", "-C", "-", "-o", d.target, d.via(proxy)).CombinedOutput()
		if cut := i < cuts; cut != (err != nil) {
			t.Fatalf("run %d of curl: %v\n%s", i+1, err, out)
		}
	}
	if got := proxy.Cuts(); got != cuts {
		t.Errorf("%d transfers were cut, want %d", got, cuts)
	}
	d.check(t)
}

// wget itself asks for the rest when a transfer breaks, and -c makes a second
// wget go on where the first was left.
func TestWgetContinue(t *testing.T) {
	wget := need.Program(t, "wget")
	d := newDownload(t)
	proxy := d.through(t, func(conn int) cutter.Cut {
		if conn < 8 {
			return cutter.Cut{After: size / 10, Reset: conn%2 == 1}
		}
		return cutter.Never
	})
	run := func(tries int) error {
		out, err := exec.CommandContext(t.Context(), wget, "-nv", "--no-config", "-c", "-O", d.target,
			fmt.Sprintf("--tries=%d", tries), "--waitretry=0", d.via(proxy)).CombinedOutput()
		t.Logf("wget --tries=%d: %v\n%s", tries, err, redact(out, d.cap))
		return err
	}
	if err := run(4); err == nil {
		t.Error("the first wget was not cut short")
	}
	if err := run(20); err != nil {
		t.Error(err)
	}
	d.check(t)
}

// aria2c fetches sixteen pieces at a time, each over a connection of its own.
func TestAria2Splits(t *testing.T) {
	aria2c := need.Program(t, "aria2c")
	for name, plan := range map[string]func(int) cutter.Cut{
		"whole": func(int) cutter.Cut { return cutter.Never },
		"cut": func(conn int) cutter.Cut {
			if conn < 20 {
				return cutter.Cut{After: 300_000, Reset: conn%2 == 1}
			}
			return cutter.Never
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDownload(t)
			proxy := d.through(t, plan)
			out, err := exec.CommandContext(t.Context(), aria2c, "--no-conf", "-x16", "-s16", "-k1M",
				"--max-tries=0", "--file-allocation=none", "--console-log-level=warn", "--summary-interval=0",
				"-d", filepath.Dir(d.target), "-o", filepath.Base(d.target), d.via(proxy)).CombinedOutput()
			if err != nil {
				t.Fatalf("aria2c: %v\n%s", err, redact(out, d.cap))
			}
			d.check(t)
		})
	}
}

// redact keeps a cap, which the programs' messages repeat, out of the log.
func redact(text []byte, readCap string) string {
	return strings.ReplaceAll(string(text), readCap, "CAP")
}
