// Package need tells a test whether what it needs of the machine is there. If not, the test is
// skipped with a line that says what to install. Where SPILLWAY_NO_SKIP=1 says that everything
// should be there, it fails instead, unless it lacks what nobody can install (see Namespaces). No
// test is skipped in any other way.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Program returns the path of the first of the named programs that is installed.
func Program(tb testing.TB, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(tb, "needs the program %s", names[0])
	return ""
}

// Tahoe returns the virtual environment that holds Tahoe-LAFS: what SPILLWAY_TAHOE names, else
// where scripts/tahoe/install puts it.
func Tahoe(tb testing.TB) string {
	tb.Helper()
	venv := named(tb, "SPILLWAY_TAHOE", "tahoe-1.20.0")
	if _, err := os.Stat(filepath.Join(venv, "bin", "tahoe")); err != nil {
		Missing(tb, "needs Tahoe-LAFS; scripts/tahoe/install installs it")
	}
	return venv
}

// Versitygw returns the path of that S3 server: what SPILLWAY_VERSITYGW names, else where
// scripts/versitygw/install puts it.
func Versitygw(tb testing.TB) string {
	tb.Helper()
	path := named(tb, "SPILLWAY_VERSITYGW", "versitygw-1.8.0/versitygw")
	if _, err := os.Stat(path); err != nil {
		Missing(tb, "needs versitygw; scripts/versitygw/install installs it")
	}
	return path
}

// named returns what the variable names, else the place in the user's cache directory.
func named(tb testing.TB, variable, place string) string {
	tb.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(cache, "spillway", filepath.FromSlash(place))
}

// Linux: the test looks into /proc.
func Linux(tb testing.TB) {
	tb.Helper()
	if runtime.GOOS != "linux" {
		Missing(tb, "needs Linux")
	}
}

// Namespaces: the test makes network namespaces with devices in them.
func Namespaces(tb testing.TB) {
	tb.Helper()
	Linux(tb)
	if os.Geteuid() != 0 {
		Missing(tb, "makes network namespaces and needs root")
	}
	Program(tb, "ip")
	// The one skip that nothing forbids, as nothing that can be installed would help.
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		tb.Skip("needs a kernel with /dev/net/tun")
	}
}

// Disk: the test writes so much (what, such as "3 GiB of files") that it runs only on demand.
func Disk(tb testing.TB, what string) {
	tb.Helper()
	if testing.Short() || !required() {
		Missing(tb, "writes %s; SPILLWAY_NO_SKIP=1 runs it", what)
	}
}

// Missing skips a test that cannot run here, for the reason given as to fmt.Sprintf, or fails it.
func Missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	why := fmt.Sprintf(format, args...)
	if required() {
		tb.Fatalf("%s, and SPILLWAY_NO_SKIP=1 forbids skipping", why)
	}
	tb.Skip(why)
}

func required() bool { return os.Getenv("SPILLWAY_NO_SKIP") == "1" }
