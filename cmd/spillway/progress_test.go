package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stderrDuring returns what is written to os.Stderr while f runs.
func stderrDuring(t *testing.T, f func()) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "stderr")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer func(stderr *os.File) { os.Stderr = stderr }(os.Stderr)
	os.Stderr = file
	f()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestProgress: a bar is where it was asked for, if that is a terminal, and nowhere else.
func TestProgress(t *testing.T) {
	var terminal, other bytes.Buffer
	stderr := stderrDuring(t, func() {
		for _, p := range []progress{newBar(&terminal, "downloading", 1000), newProgress(&other, "downloading", 1000)} {
			p.set(500)
			p.set(1000)
			p.finish()
		}
		newProgress(os.Stderr, "downloading", 1000).finish() // a file
	})
	if stderr != "" {
		t.Errorf("wrote %q to standard error", stderr)
	}
	if text := terminal.String(); !strings.Contains(text, "downloading") || !strings.HasSuffix(text, "\n") {
		t.Errorf("wrote %q to the terminal", text)
	}
	if other.Len() > 0 {
		t.Errorf("wrote %q to what is no terminal", other.String())
	}
}
