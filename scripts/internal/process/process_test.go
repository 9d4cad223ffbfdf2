//go:build linux

package process_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"spillway/scripts/internal/process"
)

func TestCPUOf(t *testing.T) {
	const after = " S 1 2 2 0 -1 4194560 1000 0 0 0 150 50 20 5 20 0 1 0 100 1000 10"
	for _, name := range []string{"nginx", "a b", "x) y (z"} {
		got, err := process.CPUOf(fmt.Appendf(nil, "42 (%s)%s", name, after))
		if want := 2250 * time.Millisecond; err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "42 (nginx", "42 (nginx) S 1 2", "42 (nginx) S 1 2 2 0 -1 4194560 1000 0 0 0 x 50 20 5"} {
		if got, err := process.CPUOf([]byte(bad)); err == nil {
			t.Errorf("%q: got %v without an error", bad, got)
		}
	}
}

func TestKiB(t *testing.T) {
	const status = "Name:\tVmRSS\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n"
	for name, want := range map[string]int64{"VmRSS": 1 << 20, "VmHWM": 2 << 20, "Pss": 0, "Name": 0} {
		if got := process.KiB([]byte(status), name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

// TestCPU holds the precise clock against getrusage.
func TestCPU(t *testing.T) {
	var before syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	got, err := process.CPU(os.Getpid())
	if least := time.Duration(before.Utime.Nano() + before.Stime.Nano()); err != nil || got < least-10*time.Millisecond {
		t.Errorf("got %v, %v, want at least %v", got, err, least)
	}
	if got, err := process.CPU(1 << 22); err == nil {
		t.Errorf("a process that cannot be has used %v", got)
	}
}
