// Package need tells a test whether what it needs of the machine is there. If
// not, the test is skipped with a line that says what to install; where
// SPILLWAY_NO_SKIP=1 says that everything should be there, it fails instead.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Program returns the path of the first of the named programs that is
// installed.
func Program(tb testing.TB, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	absent(tb, "needs the program "+names[0])
	return ""
}

// Tahoe returns the virtual environment that holds Tahoe-LAFS: what
// SPILLWAY_TAHOE names, else where scripts/tahoe/install puts it.
func Tahoe(tb testing.TB) string {
	tb.Helper()
	venv := os.Getenv("SPILLWAY_TAHOE")
	if venv == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			tb.Fatal(err)
		}
		venv = filepath.Join(cache, "spillway", "tahoe-1.20.0")
	}
	if _, err := os.Stat(filepath.Join(venv, "bin", "tahoe")); err != nil {
		absent(tb, "needs Tahoe-LAFS; scripts/tahoe/install installs it")
	}
	return venv
}

// Linux: the test looks into /proc.
func Linux(tb testing.TB) {
	tb.Helper()
	if runtime.GOOS != "linux" {
		absent(tb, "needs Linux")
	}
}

// Namespaces: the test makes network namespaces with devices in them.
func Namespaces(tb testing.TB) {
	tb.Helper()
	Linux(tb)
	if os.Geteuid() != 0 {
		absent(tb, "makes network namespaces and needs root")
	}
	Program(tb, "ip")
	// Nothing that can be installed would help.
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		tb.Skip("needs a kernel with /dev/net/tun")
	}
}

// Disk: the test writes so much (what, such as "3 GiB of files") that it runs only on demand.
func Disk(tb testing.TB, what string) {
	tb.Helper()
	if testing.Short() || !required() {
		absent(tb, "writes "+what+"; SPILLWAY_NO_SKIP=1 runs it")
	}
}

func required() bool { return os.Getenv("SPILLWAY_NO_SKIP") == "1" }

func absent(tb testing.TB, why string) {
	tb.Helper()
	if required() {
		tb.Fatalf("%s, and SPILLWAY_NO_SKIP=1 forbids skipping", why)
	}
	tb.Skip(why)
}
