package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// putFile uploads data with the flags, and returns the cap.
func putFile(t *testing.T, data []byte, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "file"), filepath.Join(dir, "secret")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("mzxw6ytboi\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	put := append([]string{"put", "--random-key", "--lease-secret-file", secret, file}, flags...)
	if code := run(t.Context(), put, streams{strings.NewReader(""), &stdout, &stderr}); code != 0 {
		t.Fatal(stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

// served is a gateway that runs until the test ends.
type served struct {
	t                *testing.T
	downloads, admin string      // addresses
	lines            chan string // of its log
}

// startServe runs serve with the flags.
func startServe(t *testing.T, flags ...string) *served {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	log, logWriter := io.Pipe()
	ended := make(chan int)
	go func() {
		serve := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--allow-tmpfs"}, flags...)
		code := run(ctx, serve, streams{strings.NewReader(""), io.Discard, logWriter})
		logWriter.Close()
		ended <- code
	}()
	s := &served{t: t, lines: make(chan string, 1000)}
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(log); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		stop()
		for range s.lines {
		}
		if code := <-ended; code != 0 {
			t.Errorf("serve ended with %d", code)
		}
	})
	addresses := s.await(`msg=serving downloads=(\S+) admin=(\S+)`)
	s.downloads, s.admin = addresses[1], addresses[2]
	return s
}

// await returns the next line of the log that matches, and its groups.
func (s *served) await(pattern string) []string {
	s.t.Helper()
	for line := range s.lines {
		if match := regexp.MustCompile(pattern).FindStringSubmatch(line); match != nil {
			return match
		}
	}
	s.t.Fatalf("the log ends without %s", pattern)
	return nil
}

// TestRetentionZero: nothing is kept beyond its readers.
func TestRetentionZero(t *testing.T) {
	grid := "--server=file://" + t.TempDir()
	data := bytes.Repeat([]byte("a line of a file\n"), 100_000)
	file := putFile(t, data, grid, "--k", "1", "--n", "1")
	get := func(url string) []byte {
		t.Helper()
		resp, err := http.Get("http://" + url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", resp.Status, err)
		}
		return body
	}
	for retention, kept := range map[string]int{"0": 0, "0s": 0, "2h": 1} {
		g := startServe(t, grid, "--spool-dir", t.TempDir(), "--retention", retention)
		if got := get(g.downloads + "/uri/" + file); !bytes.Equal(got, data) {
			t.Errorf("%d bytes", len(got))
		}
		var spooled struct {
			Entries []struct {
				Expires *float64 `json:"expires_in_seconds"`
			}
		}
		// The reader leaves a little later than the last byte, and then the file is kept or not.
		for again := true; again; {
			if err := json.Unmarshal(get(g.admin+"/admin/spool"), &spooled); err != nil {
				t.Fatal(err)
			}
			again = len(spooled.Entries) > 0 && spooled.Entries[0].Expires == nil
		}
		if len(spooled.Entries) != kept {
			t.Errorf("retention %s: %d files are kept", retention, len(spooled.Entries))
		}
	}
}
