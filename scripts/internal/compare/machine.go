//go:build linux

package compare

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine describes what figures depend on: this machine, the file system of a directory, and the
// revision of the checkout in root.
func Machine(root, dir string) []Fact {
	var name unix.Utsname
	unix.Uname(&name)
	var info unix.Sysinfo_t
	unix.Sysinfo(&info)
	var files syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	return []Fact{
		{"date", time.Now().UTC().Format("2006-01-02 15:04 MST")},
		{"CPU", fmt.Sprintf("%s, %d cores", cpuModel(), runtime.NumCPU())},
		{"memory", fmt.Sprintf("%.1f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))},
		{"kernel", unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])},
		{"file system", fileSystem(dir)},
		{"open files", fmt.Sprintf("at most %d a process", files.Cur)},
		{"Go", runtime.Version()},
		{"Spillway", revision(root)},
	}
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// fileSystem names the type of the file system that a directory is on.
func fileSystem(dir string) string {
	out, err := exec.Command("df", "--output=fstype", dir).Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "Type"))
}

func revision(root string) string {
	cmd := exec.Command("git", "describe", "--always", "--dirty")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "unknown revision"
	}
	return strings.TrimSpace(string(out))
}
