package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBounds: a duration, size or count that means nothing is a usage error that names the flag and
// what it takes, wherever it is set. None stands for the default.
func TestBounds(t *testing.T) {
	const (
		sizes    = "; write 131072, 128KiB or 70MB"
		timeouts = " is no time of more than 0s; write 500ms, 10s or 2m"
		periods  = " is no time of 0s or more; write 0s, 30m or 2h"
	)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	literal := "URI:LIT:mzxw6"
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
	for _, test := range []struct {
		command []string
		flag    string
		values  string
		want    string // after the flag's name
	}{
		{serve, "retention", "-1ns -2h", periods},
		{serve, "retention", "2 forever", periods},
		{serve, "spool-size", "0 0GiB 0.9", " is less than a byte" + sizes},
		{serve, "spool-size", "-1 -1GiB NaN 9EB9", " is no size" + sizes},
		{serve, "spool-size", "8EiB", " is no size" + sizes},
		{serve, "decode-memory", "0 0B", " is less than a byte" + sizes},
		{serve, "decode-memory", "-1MiB", " is no size" + sizes},
		{[]string{"get", literal}, "decode-memory", "0", " is less than a byte" + sizes},
		{[]string{"check", literal}, "decode-memory", "0", " is less than a byte" + sizes},
		{[]string{"put", file}, "decode-memory", "0", " is less than a byte" + sizes},
		{[]string{"put", file}, "segment-size", "0", " is less than a byte" + sizes},
		{[]string{"put", file}, "segment-size", "-5", " is no size" + sizes},
		{[]string{"put", file}, "k", "0 -1 11", " and --n 10 are not 1 <= k <= n <= 256"},
		{[]string{"put", file}, "n", "0 -1 2 257", " are not 1 <= k <= n <= 256"},
		{[]string{"put", file}, "happy", "0 -1 11", " is not 1 to --n 10"},
		{[]string{"grid", "ping"}, "timeout", "0 0s -1ns -10s soon", timeouts},
	} {
		for _, value := range strings.Fields(test.values) {
			config := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(config, []byte(test.flag+": "+value+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			variable := "SPILLWAY_" + strings.ToUpper(strings.ReplaceAll(test.flag, "-", "_"))
			for _, way := range []struct{ flag, env, where string }{
				{"--" + test.flag + "=" + value, "", "flag"},
				{"", value, "environment"},
				{"--config=" + config, "", "configuration file"},
			} {
				t.Run(strings.Join([]string{test.command[0], test.flag, value, way.where}, " "), func(t *testing.T) {
					if way.env != "" {
						t.Setenv(variable, way.env)
					}
					args := append([]string{}, test.command...)
					if way.flag != "" {
						args = append(args, way.flag)
					}
					args = append(args, "--server", "file://"+dir)
					var stdout, stderr bytes.Buffer
					// Whatever is accepted after all ends at once.
					ctx, stop := context.WithCancel(t.Context())
					stop()
					code := run(ctx, args, streams{strings.NewReader(""), &stdout, &stderr})
					first, _, _ := strings.Cut(stderr.String(), "\n")
					first, _, _ = strings.Cut(first, " (from envar ")
					if code != exitUsage || stdout.Len() > 0 || !strings.Contains(first, "--"+test.flag) || !strings.HasSuffix(first, test.want) {
						t.Errorf("ended with %d and printed %s%s", code, stdout.String(), stderr.String())
					}
				})
			}
		}
	}
}
