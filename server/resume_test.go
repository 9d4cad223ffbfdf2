package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"spillway/scripts/need"
	"spillway/spool"
)

// cuts is how often the downloads of these tests are broken off.
const cuts = 50

// random prints its seed, and takes it from SPILLWAY_TEST_SEED.
func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if text := os.Getenv("SPILLWAY_TEST_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SPILLWAY_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestResume breaks a download off at random bytes and resumes it each time
// with Range and If-Range, as browsers do.
func TestResume(t *testing.T) {
	rng := random(t)
	g := newGateway(t, spool.Config{})
	data := pattern(20<<20 + 12345)
	readCap := g.put(data)
	url := g.public.URL + "/named/" + readCap + "/file.bin"

	var got []byte
	etag := ""
	for n := 0; len(got) < len(data); n++ {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := http.StatusOK
		if n > 0 {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-", len(got)))
			req.Header.Set("If-Range", etag)
			want = http.StatusPartialContent
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want || res.ContentLength != int64(len(data)-len(got)) {
			t.Fatalf("request %d: %d %v", n, res.StatusCode, res.Header)
		}
		etag = res.Header.Get("ETag")
		body := io.Reader(res.Body)
		if n < cuts {
			body = io.LimitReader(body, rng.Int64N(int64(2*len(data)/cuts)))
		}
		part, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
		res.Body.Close()
	}
	checkResumed(t, g, readCap, data, got)
}

func checkResumed(t *testing.T, g *gateway, readCap string, data, got []byte) {
	t.Helper()
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("the pieces make %d other bytes than the file's %d", len(got), len(data))
	}
	if n, want := g.spool.Snapshot().ChunksWritten, g.chunks(readCap); n != want {
		t.Errorf("%d chunks were decoded of %d", n, want)
	}
}

// TestResumeCurl is TestResume with curl -C - behind a link that breaks.
func TestResumeCurl(t *testing.T) {
	curl := need.Program(t, "curl")
	rng := random(t)
	g := newGateway(t, spool.Config{})
	data := pattern(20<<20 + 12345)
	link := newBadLink(t, g.public.Listener.Addr().String(), func(n int) int64 {
		if n >= cuts {
			return 1 << 40
		}
		return 1000 + rng.Int64N(int64(2*len(data)/cuts))
	})
	readCap := g.put(data)
	url := "http://" + link + "/named/" + readCap + "/file.bin"
	file := filepath.Join(t.TempDir(), "file")
	for n := 0; ; n++ {
		out, err := exec.CommandContext(t.Context(), curl, "--silent", "--show-error", "--fail", "-C", "-", "-o", file, url).CombinedOutput()
		if err == nil {
			break
		}
		if code := err.(*exec.ExitError).ExitCode(); code != 18 && code != 56 && code != 52 {
			// Other than a partial file, a connection reset, or nothing at all.
			t.Fatalf("curl %d: %v: %s", n, err, bytes.ReplaceAll(out, []byte(url), nil))
		}
		if n > 2*cuts {
			t.Fatal("curl does not come to an end")
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkResumed(t, g, readCap, data, got)
}

// TestResumeWget lets wget do the resuming by itself.
func TestResumeWget(t *testing.T) {
	wget := need.Program(t, "wget")
	rng := random(t)
	g := newGateway(t, spool.Config{})
	data := pattern(2<<20 + 12345)
	link := newBadLink(t, g.public.Listener.Addr().String(), func(n int) int64 {
		if n >= 5 {
			return 1 << 40
		}
		return 1000 + rng.Int64N(int64(len(data)/5))
	})
	dir, readCap := t.TempDir(), g.put(data)
	cmd := exec.CommandContext(t.Context(), wget, "--no-config", "--tries=20", "--waitretry=0", "--content-disposition",
		"http://"+link+"/file/"+readCap+"/@@named=/na%C3%AFve%20file.bin?save=true")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("wget: %v: %s", err, out)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || !strings.HasSuffix(names[0].Name(), "ve file.bin") {
		t.Fatal(names, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, names[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	checkResumed(t, g, readCap, data, got)
}

// TestCurl looks at the gateway with another's eyes.
func TestCurl(t *testing.T) {
	curl := need.Program(t, "curl")
	g := newGateway(t, spool.Config{})
	data := pattern(300000)
	url := g.public.URL + "/named/" + g.put(data) + "/a%20b.txt"
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"--silent", "--show-error"}, args...)...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v: %s", err, out)
		}
		return out
	}
	if got := run(url); !bytes.Equal(got, data) {
		t.Errorf("whole: %d bytes", len(got))
	}
	if got := run("-r", "100-199", url); !bytes.Equal(got, data[100:200]) {
		t.Errorf("a range: %d bytes", len(got))
	}
	if got := run("-r", "-5", url); !bytes.Equal(got, data[len(data)-5:]) {
		t.Errorf("a suffix: %q", got)
	}
	got := run("-r", "0-9,200000-200009", url)
	for _, part := range [][]byte{data[:10], data[200000:200010], []byte("Content-Range: bytes 200000-200009/300000\r\n")} {
		if !bytes.Contains(got, part) {
			t.Errorf("several ranges: no %q in %q", part, got)
		}
	}
	head := string(run("--head", url))
	if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "\r\nContent-Length: 300000\r\n") {
		t.Errorf("head: %s", head)
	}
	if name := string(run("--remote-name", "--remote-header-name", "--write-out", "%{filename_effective}", url)); name != "a b.txt" {
		t.Errorf("the file's name: %q", name)
	}
}

// newBadLink forwards connections to addr, and breaks the n-th (from 0) off
// when limit(n) bytes have come back. It returns its own address.
func newBadLink(t *testing.T, addr string, limit func(n int) int64) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for n := 0; ; n++ {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			most := limit(n)
			running.Go(func() {
				defer client.Close()
				defer context.AfterFunc(ctx, func() { client.Close() })()
				server, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer server.Close()
				running.Go(func() {
					io.Copy(server, client)
					server.Close() // the client has left
				})
				io.CopyN(client, server, most)
			})
		}
	})
	return listener.Addr().String()
}
