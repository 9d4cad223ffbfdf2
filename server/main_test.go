package server_test

import (
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
	if status == 0 {
		if leak := leaked(before); leak != "" {
			fmt.Fprintln(os.Stderr, "leaked:", leak)
			status = 1
		}
	}
	os.Exit(status)
}

// leaked gives what is on its way out ten seconds to go.
func leaked(before int) string {
	var leak string
	for range 1000 {
		runtime.Gosched()
		leak = ""
		if n := runtime.NumGoroutine(); n > 1 {
			stacks := make([]byte, 1<<20)
			leak = fmt.Sprintf("%d goroutines\n%s", n-1, stacks[:runtime.Stack(stacks, true)])
		} else if n := openDescriptors(); n > before {
			leak = fmt.Sprintf("%d descriptors", n-before)
		}
		if leak == "" {
			return ""
		}
		<-time.After(10 * time.Millisecond)
	}
	return leak
}

// openDescriptors counts the process's descriptors that a test could have
// opened: not those that the runtime keeps for itself.
func openDescriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		switch target, _ := os.Readlink("/proc/self/fd/" + e.Name()); target {
		case "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[pidfd]":
		default:
			n++
		}
	}
	return n
}
