package server_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails the run if it leaves goroutines or descriptors behind.
func TestMain(m *testing.M) {
	before := openDescriptors()
	status := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if fuzzing := flag.Lookup("test.fuzz").Value.String() != ""; status == 0 && !fuzzing { // which has goroutines of its own
		if leak := leaked(before); leak != "" {
			fmt.Fprintln(os.Stderr, "leaked:", leak)
			status = 1
		}
	}
	os.Exit(status)
}

// leaked gives what is on its way out ten seconds to go.
func leaked(before []string) string {
	var leak string
	for range 1000 {
		runtime.GC() // net keeps the pipes of splice, which tests use, until they are garbage
		leak = ""
		if n := runtime.NumGoroutine(); n > 1 {
			stacks := make([]byte, 1<<20)
			leak = fmt.Sprintf("%d goroutines\n%s", n-1, stacks[:runtime.Stack(stacks, true)])
		} else if now := openDescriptors(); len(now) > len(before) {
			leak = fmt.Sprintf("%d descriptors: of %q there were %q", len(now)-len(before), now, before)
		}
		if leak == "" {
			return ""
		}
		<-time.After(10 * time.Millisecond)
	}
	return leak
}

// openDescriptors says what the process has open that a test could have
// opened: not what the runtime keeps for itself.
func openDescriptors() []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var open []string
	for _, e := range entries {
		switch target, _ := os.Readlink("/proc/self/fd/" + e.Name()); target {
		case "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[pidfd]":
		default:
			open = append(open, target)
		}
	}
	return open
}
