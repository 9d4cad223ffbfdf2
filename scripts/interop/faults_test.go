package interop_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
	"spillway/scripts/need"
)

// TestFaults lets storage nodes fail while a file is read from them.
func TestFaults(t *testing.T) {
	need.Linux(t) // says how much a node has read
	g := startGrid(t)
	urls := g.urls(t)
	// What is not read yet of a file is not decoded yet either: there is no room for it in the
	// spool, and a pipe takes no more than its reader does. So nodes are in use when one fails.
	const size = 64 << 20
	gw := gateway.Start(t, urls, "--spool-size", "24MiB")
	upload := func(seed byte) (readCap string, want sample.Sum) {
		file, want := sample.Write(t, seed, size)
		return gateway.Put(t, urls, file, "--k", "3", "--n", "5"), want
	}
	readers := map[string]func(t *testing.T, readCap string) io.Reader{
		"HTTP": func(t *testing.T, readCap string) io.Reader { return overHTTP(t, gw.File(readCap)) },
		"get":  func(t *testing.T, readCap string) io.Reader { return overPipe(t, urls, readCap) },
	}

	readCap, want := upload(20)
	for name, open := range readers {
		t.Run("Killed/"+name, func(t *testing.T) {
			var node int
			g.readThrough(t, open(t, readCap), want, func(busiest int) {
				node = busiest
				signal(t, g.PIDs[node], syscall.SIGKILL)
			})
			g.start(t, node)
		})
		t.Run("Stopped/"+name, func(t *testing.T) {
			g.readThrough(t, open(t, readCap), want, func(busiest int) {
				signal(t, g.PIDs[busiest], syscall.SIGSTOP)
				t.Cleanup(func() { signal(t, g.PIDs[busiest], syscall.SIGCONT) })
			})
		})
	}
	seed := byte(21)
	for name, open := range readers {
		readCap, want := upload(seed)
		seed++
		t.Run("Corrupt/"+name, func(t *testing.T) {
			shares := sharesOf(t, g, readCap)
			var node int
			g.readThrough(t, open(t, readCap), want, func(busiest int) {
				node = busiest
				for _, share := range shares {
					if filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(share)))) == g.Storage[node] {
						damage(t, share)
					}
				}
			})
			si := filepath.Base(filepath.Dir(shares[0]))
			advisories := filepath.Join(g.Storage[node], "corruption-advisories", "*--"+si+"-*")
			gateway.Await(t, "a corruption advisory", func() bool {
				found, err := filepath.Glob(advisories)
				if err != nil {
					t.Fatal(err)
				}
				return len(found) > 0
			})
		})
	}
}

// limit is how long a download may take, whatever happens to a node meanwhile.
const limit = 2 * time.Minute

// overHTTP is the body of a GET.
func overHTTP(t *testing.T, url string) io.Reader {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return resp.Body
}

// overPipe is the standard output of `spillway get`.
func overPipe(t *testing.T, servers []string, readCap string) io.Reader {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	cmd := gateway.Command(ctx, t, append(append([]string{"get"}, gateway.ServerFlags(servers)...), readCap)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return readerFunc(func(p []byte) (int, error) {
		n, err := out.Read(p)
		if err == io.EOF {
			if exit := cmd.Wait(); exit != nil {
				err = fmt.Errorf("spillway get: %w\n%s", exit, stderr.Bytes())
			}
		}
		return n, err
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// readThrough reads a file to its end and checks it. When a quarter of it has been read it calls
// fault with the number of the storage node that has read most for it. It logs how long the reader
// had to wait at most.
func (g *grid) readThrough(t *testing.T, r io.Reader, want sample.Sum, fault func(busiest int)) {
	t.Helper()
	before := make([]int64, len(g.PIDs))
	for i, pid := range g.PIDs {
		before[i] = bytesRead(t, pid)
	}
	hash := sha256.New()
	buf := make([]byte, 64<<10)
	read, pause := 0, time.Duration(0)
	for last := time.Now(); ; {
		n, err := r.Read(buf)
		now := time.Now()
		pause = max(pause, now.Sub(last))
		last = now
		hash.Write(buf[:n])
		read += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
		if fault != nil && read >= 16<<20 {
			busiest, most := 0, int64(0)
			for i, pid := range g.PIDs {
				if n := bytesRead(t, pid) - before[i]; n > most {
					busiest, most = i, n
				}
			}
			if most < 1<<20 {
				t.Fatalf("no storage node has read more than %d bytes", most)
			}
			fault(busiest)
			fault = nil
		}
	}
	if got := sample.Sum(hex.EncodeToString(hash.Sum(nil))); got != want || fault != nil {
		t.Errorf("%d bytes with SHA-256 %s, want %s", read, got, want)
	}
	t.Logf("longest pause %v", pause)
}

var rchar = regexp.MustCompile(`(?m)^rchar: (\d+)$`)

// bytesRead returns how much a process has read so far, from files above all: see proc(5).
func bytesRead(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := rchar.FindSubmatch(text)
	if found == nil {
		t.Fatalf("no rchar in\n%s", text)
	}
	n, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Errorf("signal %v: %v", sig, err)
	}
}

// damage flips bits all over the blocks of a share.
func damage(t *testing.T, share string) {
	t.Helper()
	f, err := os.OpenFile(share, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	for at := int64(1 << 20); at < info.Size()*9/10; at += 64 << 10 {
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
}
