package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPlatform: where Spillway cannot run, one sentence says so and why.
func TestPlatform(t *testing.T) {
	for _, system := range []string{"darwin", "freebsd", "windows"} {
		build := exec.Command("go", "build", "-o", os.DevNull, "spillway/cmd/spillway")
		build.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64")
		out, err := build.CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "Spillway needs Linux, for ") {
			t.Errorf("%s: %v\n%s", system, err, out)
		}
	}
}
