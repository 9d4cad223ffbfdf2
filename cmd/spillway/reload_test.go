package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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
	gridFile := filepath.Join(dir, "grid.yaml")
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
	file := putFile(t, data, "--grid", gridFile, "--k", "2", "--n", "4")

	write("a b -")
	// A spool that is too small for the file: it is decoded only as fast as it is read.
	g := startServe(t, "--grid", gridFile, "--spool-dir", dir, "--spool-size", "8MiB")
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	resp, err := http.Get("http://" + g.downloads + "/uri/" + file)
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
	if line := g.await(`level=ERROR msg="grid not reloaded.*`)[0]; !strings.Contains(line, `grid.yaml:3: server \"a\": `) || strings.Contains(line, "sw1ssnum") {
		t.Errorf("logged %s", line)
	}

	write("- - b d") // b's directory is now c's, and a is gone
	hangup()
	g.await(`level=INFO msg="grid reloaded" servers=2 added=\[d\] changed=\[b\] removed=\[a\]`)
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
