//go:build linux

package main

import (
	"fmt"
	"testing"
	"time"
)

func TestCPUOf(t *testing.T) {
	const after = " S 1 2 2 0 -1 4194560 1000 0 0 0 150 50 20 5 20 0 1 0 100 1000 10"
	for _, name := range []string{"nginx", "a b", "x) y (z"} {
		got, err := cpuOf(fmt.Appendf(nil, "42 (%s)%s", name, after))
		if want := 2250 * time.Millisecond; err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "42 (nginx", "42 (nginx) S 1 2", "42 (nginx) S 1 2 2 0 -1 4194560 1000 0 0 0 x 50 20 5"} {
		if got, err := cpuOf([]byte(bad)); err == nil {
			t.Errorf("%q: got %v without an error", bad, got)
		}
	}
}

func TestKiB(t *testing.T) {
	const status = "Name:\tVmRSS\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
	for name, want := range map[string]int64{"VmRSS": 1 << 20, "VmHWM": 2 << 20, "Pss": 0, "Name": 0} {
		if got := kib([]byte(status), name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

func TestCheckHeader(t *testing.T) {
	for _, test := range []struct {
		header string
		wanted int
		length int64
		ok     bool
	}{
		{"HTTP/1.1 200 OK\r\ncontent-length: 12", 200, 12, true},
		{"HTTP/1.1 206 Partial Content\r\nServer: x\r\nContent-Length:7", 206, 7, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 7", 206, 0, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", 200, 0, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: many", 200, 0, false},
		{"HTTP", 200, 0, false},
	} {
		length, err := checkHeader([]byte(test.header), test.wanted)
		if length != test.length || (err == nil) != test.ok {
			t.Errorf("%q: got %d, %v", test.header, length, err)
		}
	}
}

func TestWrkSample(t *testing.T) {
	got, err := wrkSample([]byte("Running 2s test\nverdict 1000 66000000 2000000 0\n"), 65536)
	if err != nil || got.values[0] != 500 || got.delivered != 65536000 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "verdict 1000 66000000 2000000 1\n", "verdict 1000 65535999 2000000 0\n"} {
		if got, err := wrkSample([]byte(bad), 65536); err == nil {
			t.Errorf("%q: got %+v without an error", bad, got)
		}
	}
}
