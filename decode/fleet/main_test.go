package fleet_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// TestMain fails if tests leave goroutines or file descriptors behind.
func TestMain(m *testing.M) {
	// The runtime keeps two descriptors from the first file that can be polled on.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // the fuzzer keeps goroutines of its own
	}
	for i := 0; i < 1_000_000 && runtime.NumGoroutine() > goroutines; i++ {
		runtime.Gosched() // the last ones are on their way out
	}
	if n := runtime.NumGoroutine(); n > goroutines && code == 0 {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%d goroutines are left over:\n%s\n", n-goroutines, stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	if n := openDescriptors(); n > descriptors && code == 0 {
		fmt.Fprintf(os.Stderr, "%d file descriptors are left open\n", n-descriptors)
		code = 1
	}
	os.Exit(code)
}

func openDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
