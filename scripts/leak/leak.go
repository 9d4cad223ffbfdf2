// Package leak fails a package's tests if they leave goroutines or descriptors behind. The
// package's TestMain calls Main, and nothing else.
package leak

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long what has said that it ends may take to be gone.
const patience = 10 * time.Second

// Main runs the tests, looks for what they left behind, and exits.
func Main(m *testing.M) { os.Exit(Checked{m}.Run()) }

// Checked are tests that fail if they leave something behind, for those who exit by themselves.
type Checked struct {
	Tests interface{ Run() int } // a *testing.M
}

// Run runs the tests and returns the exit status. What they left is told on standard error, and
// makes the status of tests that passed 1. A fuzzer has goroutines of its own, so it is not looked
// at.
func (c Checked) Run() int { return c.run(os.Stderr) }

func (c Checked) run(report io.Writer) int {
	before := present()
	status := c.Tests.Run()
	if status != 0 || given("test.fuzz") != "" {
		return status
	}
	http.DefaultClient.CloseIdleConnections()
	left := leftOver(before)
	for end := time.Now().Add(patience); left != "" && time.Now().Before(end); left = leftOver(before) {
		<-time.After(patience / 1000)
	}
	if left != "" {
		fmt.Fprint(report, left)
		return 1
	}
	return 0
}

// leftOver says what there is that was not there before.
func leftOver(before map[string]string) string {
	var b strings.Builder
	pipes := false
	for name, what := range present() {
		if _, known := before[name]; !known {
			fmt.Fprintln(&b, what)
			pipes = pipes || strings.Contains(name, " pipe:")
		}
	}
	if pipes {
		runtime.GC() // package net keeps the pipes of splice until they are garbage
	}
	return b.String()
}

// present returns what tests may leave behind: a description of each goroutine and each descriptor,
// by a name that stays the same.
func present() map[string]string {
	found := make(map[string]string)
	for _, stack := range stacks() {
		number, _, _ := strings.Cut(stack, " [")
		found[number] = "a goroutine is left over: " + stack + "\n"
	}
	for _, d := range descriptors() {
		found[d] = "a descriptor is left open: " + d
	}
	return found
}

// stacks returns those of all goroutines but the caller's and those that never end.
func stacks() []string {
	text := make([]byte, 1<<16)
	n := runtime.Stack(text, true)
	for ; n == len(text); n = runtime.Stack(text, true) {
		text = make([]byte, 2*len(text))
	}
	all := strings.Split(strings.TrimSpace(string(text[:n])), "\n\n")
	return slices.DeleteFunc(all[1:], func(stack string) bool {
		return strings.Contains(stack, "\nos/signal.loop(") // from the first Notify on
	})
}

// descriptors returns the numbers and targets of what tests may have opened: neither what the
// runtime keeps for itself nor what package testing does not close.
func descriptors() []string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	var open []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		switch {
		case err != nil: // it was the directory's own
		case target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]":
		case isFile(target, given("test.cpuprofile")) || isFile(target, given("test.trace")):
		default:
			open = append(open, e.Name()+" "+target)
		}
	}
	return open
}

func isFile(target, name string) bool {
	return name != "" && filepath.Base(target) == filepath.Base(name)
}

// given returns what a flag of package testing was given.
func given(name string) string { return flag.Lookup(name).Value.String() }
