package spool_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// TestMain fails the run if a test leaves a goroutine or an open file behind.
func TestMain(m *testing.M) {
	before := openFiles()
	code := m.Run()
	if leaks := leaked(before); code == 0 && leaks != "" {
		fmt.Fprintln(os.Stderr, leaks)
		code = 1
	}
	os.Exit(code)
}

func leaked(before map[string]bool) string {
	var b strings.Builder
	for fd := range openFiles() {
		if !before[fd] && !strings.Contains(fd, "anon_inode:") {
			fmt.Fprintln(&b, "left open:", fd)
		}
	}
	stacks := ""
	for range 1000 { // what has said that it ends may need a moment to be gone
		if stacks = ours(); stacks == "" {
			break
		}
		runtime.Gosched()
	}
	return b.String() + stacks
}

// ours returns the stacks of goroutines that run the package's code.
func ours() string {
	buf := make([]byte, 1<<20)
	var found []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "spillway/spool.(") {
			found = append(found, g)
		}
	}
	return strings.Join(found, "\n\n")
}

func openFiles() map[string]bool {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	open := make(map[string]bool)
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.HasSuffix(target, "/fd") {
			open[fd.Name()+" "+target] = true
		}
	}
	return open
}
