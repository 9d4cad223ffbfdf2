// Package gateway builds the spillway program and runs it as a user would, in
// a process of its own, for tests that look at it from outside.
package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"spillway/scripts/leak"
)

// patience bounds every wait for the program. It only decides how long a
// broken program takes to fail a test.
const patience = 2 * time.Minute

// binary is the program's path; Main sets it before any test runs.
var binary string

// Main builds the program, runs the tests and returns their exit status. A
// test package that uses Run or Start calls it from TestMain.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "spillway-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "spillway")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "spillway/cmd/spillway").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building spillway: %v\n%s", err, out)
		return 1
	}
	return leak.Checked{Tests: m}.Run()
}

// ServerFlags returns a --server flag for each storage directory or server URL.
func ServerFlags(storage []string) []string {
	var flags []string
	for _, place := range storage {
		if !strings.Contains(place, "://") {
			place = "file://" + place
		}
		flags = append(flags, "--server", place)
	}
	return flags
}

// Run runs one command of the program to its end and returns its standard
// output, and an error with its standard error if it fails.
func Run(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	stdout, stderr, err := RunBoth(tb, args...)
	if err != nil {
		err = fmt.Errorf("spillway %s: %w\n%s", args[0], err, stderr)
	}
	return stdout, err
}

// RunBoth runs one command of the program to its end and returns its standard
// output and its standard error.
func RunBoth(tb testing.TB, args ...string) (string, string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 5*patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := Command(ctx, tb, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return stdout.String(), stderr.String(), err
}

// Command returns one command of the program, not started yet. It is killed when the context ends.
func Command(ctx context.Context, tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment(tb)
	return cmd
}

// Put uploads a file and returns its cap.
func Put(tb testing.TB, storage []string, file string, options ...string) string {
	tb.Helper()
	args := append([]string{"put"}, ServerFlags(storage)...)
	out, err := Run(tb, append(append(args, options...), file)...)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSuffix(out, "\n")
}

// environment is the caller's without anything that configures Spillway; what
// the program keeps for its user lands in a directory of the test's.
func environment(tb testing.TB) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SPILLWAY_") {
			env = append(env, kv)
		}
	}
	return append(env, "XDG_CONFIG_HOME="+tb.TempDir())
}

// Gateway is a running `spillway serve`.
type Gateway struct {
	URL   string // of the public listener, without a slash at the end
	Admin string // of the admin listener, likewise
	PID   int

	token string
	log   *log
}

// Start starts a gateway on the storage directories or server URLs and waits until both its
// listeners answer. It ends with the test; its log is shown if the test fails.
func Start(tb testing.TB, storage []string, options ...string) *Gateway {
	tb.Helper()
	const token = "0123456789abcdef0123456789abcdef"
	dir := tb.TempDir()
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	// Not below dir: temporary directories may lie in memory, which Spillway refuses.
	spool, err := os.MkdirTemp("/var/tmp", "spillway-test-spool-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(spool) })

	public, admin := freeAddresses(tb)
	g := &Gateway{URL: "http://" + public, Admin: "http://" + admin, token: token, log: &log{}}
	args := append([]string{"serve", "--listen", public, "--admin-listen", admin,
		"--admin-token-file", tokenFile, "--spool-dir", spool}, ServerFlags(storage)...)
	cmd := exec.Command(binary, append(args, options...)...)
	cmd.Env = environment(tb)
	cmd.Stdout, cmd.Stderr = g.log, g.log
	// However the test process dies, the gateway dies with it.
	cmd.SysProcAttr = diesWithParent()
	started, exited := make(chan error), make(chan error, 1)
	go func() {
		// The parent, as Linux sees it, is the thread, so one is kept for as long.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	g.PID = cmd.Process.Pid
	tb.Cleanup(func() {
		select {
		case err := <-exited:
			tb.Errorf("spillway serve ended before the test did: %v", err)
		default:
			stop(tb, cmd.Process, exited)
		}
		if tb.Failed() {
			tb.Logf("log of spillway serve:\n%s", g.log)
		}
	})

	for _, base := range []string{g.URL, g.Admin} {
		Await(tb, "an answer from spillway serve", func() bool {
			select {
			case err := <-exited:
				exited <- err // for Cleanup, which shows the log
				tb.FailNow()
			default:
			}
			resp, err := http.Get(base + "/healthz")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	return g
}

// stop ends the gateway as an operator does, and insists if it does not obey.
func stop(tb testing.TB, p *os.Process, exited <-chan error) {
	p.Signal(syscall.SIGTERM)
	// A second signal ends the draining of downloads that are still running.
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Kill} {
		select {
		case <-exited:
			return
		case <-time.After(5 * time.Second):
			p.Signal(sig)
		}
	}
	<-exited
	tb.Log("spillway serve had to be killed")
}

// File returns the URL of a cap's file.
func (g *Gateway) File(readCap string) string { return g.URL + "/uri/" + readCap }

// Log returns what the gateway has logged so far.
func (g *Gateway) Log() string { return g.log.String() }

// Entry is one file of GET /admin/spool.
type Entry struct {
	ID           string `json:"id"`
	Size         int64  `json:"size"`
	SpooledBytes int64  `json:"spooled_bytes"`
	Readers      int    `json:"readers"`
	State        string `json:"state"`
}

// Spool returns the entries of GET /admin/spool.
func (g *Gateway) Spool(tb testing.TB) []Entry {
	tb.Helper()
	var spool struct {
		Entries []Entry `json:"entries"`
	}
	if err := json.Unmarshal(g.admin(tb, "/admin/spool"), &spool); err != nil {
		tb.Fatal(err)
	}
	return spool.Entries
}

// AwaitSpooled waits until the one file of the spool is there as a whole.
func (g *Gateway) AwaitSpooled(tb testing.TB, size int64) {
	tb.Helper()
	Await(tb, fmt.Sprintf("%d spooled bytes", size), func() bool {
		entries := g.Spool(tb)
		return len(entries) == 1 && entries[0].Size == size && entries[0].SpooledBytes == size
	})
}

// Metric returns the value of a metric without labels from GET /metrics.
func (g *Gateway) Metric(tb testing.TB, name string) int64 {
	tb.Helper()
	body := g.admin(tb, "/metrics")
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if match == nil {
		tb.Fatalf("no metric %s in\n%s", name, body)
	}
	value, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		tb.Fatal(err)
	}
	return int64(value)
}

func (g *Gateway) admin(tb testing.TB, path string) []byte {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, g.Admin+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Fatalf("GET %s: %s, %v\n%s", path, resp.Status, err, body)
	}
	return body
}

// Await waits until condition is true. Another process does not tell when
// that is, so condition is tried again and again.
func Await(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), patience, errors.New("no "+what))
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			tb.Fatalf("waited %v: %v", patience, context.Cause(ctx))
		case <-again.C:
		}
	}
}

// freeAddresses returns two addresses of 127.0.0.1 on which nothing listens yet.
func freeAddresses(tb testing.TB) (string, string) {
	tb.Helper()
	var addresses [2]string
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		// Closed only when both are chosen, so that they differ.
		defer l.Close()
		addresses[i] = l.Addr().String()
	}
	return addresses[0], addresses[1]
}

// log collects what a process writes; it may be read meanwhile.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
