package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestReload replaces the servers under a download: those of the new grid file finish what those
// of the old one began, and a broken file changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	data, err := io.ReadAll(newSample(24 << 20))
	if err != nil {
		t.Fatal(err)
	}
	file, gridFile := filepath.Join(dir, "file"), filepath.Join(dir, "grid.yaml")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	servers := make([]string, 4)
	for i := range servers {
		servers[i] = filepath.Join(dir, fmt.Sprint("server-", i))
		if err := os.Mkdir(servers[i], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(nicknames string) {
		t.Helper()
		text := "servers:\n"
		for i, nickname := range strings.Fields(nicknames) {
			if nickname != "-" {
				text += fmt.Sprintf("  - nickname: %s\n    url: file://%s\n", nickname, servers[i])
			}
		}
		if err := os.WriteFile(gridFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	write("a b c d")
	var printed, stderr bytes.Buffer
	put := []string{"put", "--grid", gridFile, "--k", "2", "--n", "4", "--random-key", "--lease-secret-file", writeSecretFile(t), file}
	if code := run(t.Context(), put, streams{strings.NewReader(""), &printed, &stderr}); code != 0 {
		t.Fatal(stderr.String())
	}

	write("a b -")
	ctx, stop := context.WithCancel(t.Context())
	log, logWriter := io.Pipe()
	ended := make(chan int)
	go func() {
		// A spool that is too small for the file: it is decoded only as fast as it is read.
		serve := []string{"serve", "--grid", gridFile, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
			"--spool-dir", dir, "--allow-tmpfs", "--spool-size", "8MiB"}
		code := run(ctx, serve, streams{strings.NewReader(""), io.Discard, logWriter})
		logWriter.Close()
		ended <- code
	}()
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(log); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	await := func(pattern string) []string {
		t.Helper()
		for line := range lines {
			if match := regexp.MustCompile(pattern).FindStringSubmatch(line); match != nil {
				return match
			}
		}
		t.Fatalf("the log ends without %s", pattern)
		return nil
	}
	address := await(`msg=serving downloads=(\S+)`)[1]
	defer func() {
		stop()
		for range lines {
		}
		if code := <-ended; code != 0 {
			t.Errorf("serve ended with %d", code)
		}
	}()
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	resp, err := http.Get("http://" + address + "/uri/" + strings.TrimSpace(printed.String()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(resp.Body, got[:1<<20]); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(gridFile, []byte("servers:\n  - nickname: a\n    url: pb://sw1ssnum\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangup()
	if line := await(`level=ERROR msg="grid not reloaded.*`)[0]; !strings.Contains(line, `grid.yaml:3: server \"a\": `) || strings.Contains(line, "sw1ssnum") {
		t.Errorf("logged %s", line)
	}

	write("- - b d") // b's directory is now c's, and a is gone
	hangup()
	await(`level=INFO msg="grid reloaded" servers=2 added=\[d\] changed=\[b\] removed=\[a\]`)
	for _, old := range servers[:2] {
		shares, err := filepath.Glob(filepath.Join(old, "shares", "*", "*", "*"))
		if err != nil || len(shares) != 1 {
			t.Fatalf("%d shares, %v", len(shares), err)
		}
		if err := os.Truncate(shares[0], 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(resp.Body, got[1<<20:]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("wrong bytes")
	}
}

func writeSecretFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("mzxw6ytboi\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
