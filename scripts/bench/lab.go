//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"spillway/scripts/internal/compare"
	"spillway/scripts/internal/process"
)

// lab is where measurements are made: directories, programs and how long to measure.
type lab struct {
	root  string // the checkout
	cache string // outlives the run: data and programs
	work  string // of this run alone; everybody may read it

	spillway string // the program, built from the checkout
	scale
}

// scale is how much is measured.
type scale struct {
	large    int64         // bytes of the file that is decoded and served
	tahoe    int64         // bytes of the file that Tahoe-LAFS decodes too
	crowd    int64         // bytes of the file that many clients fetch while it is cold
	interval time.Duration // how long a workload without an end goes on
	opens    int           // for a sample of first bytes
	files    int           // different files that stalled clients ask for
	calm     time.Duration // without a change of memory, after which it is taken for settled
	leaving  time.Duration // in which memory may return when clients have left
}

var (
	fullScale = scale{large: 1 << 30, tahoe: 256 << 20, crowd: 128 << 20, interval: 2 * time.Second, opens: 100,
		files: 500, calm: 3 * time.Second, leaving: 10 * time.Second}
	quickScale = scale{large: 256 << 20, tahoe: 48 << 20, crowd: 16 << 20, interval: 300 * time.Millisecond, opens: 20,
		files: 100, calm: 600 * time.Millisecond, leaving: 2 * time.Second}
)

// descriptors is how many open files a server of 10,000 stalled clients may want.
const descriptors = 65536

// allowOpenFiles raises the limit of open files, of this process and of those it starts, to what is
// wanted or else to what is allowed.
func allowOpenFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: descriptors, Max: max(descriptors, limit.Max)}) == nil {
		return nil
	}
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: min(descriptors, limit.Max), Max: limit.Max})
}

// openLab builds Spillway and makes the directories. The caller closes the lab.
func openLab(ctx context.Context, s scale) (*lab, error) {
	if err := errors.Join(allowOpenFiles(), process.AdoptOrphans()); err != nil {
		return nil, err
	}
	mod, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the checkout (run this inside it): %w", err)
	}
	l := &lab{root: strings.TrimSpace(string(mod)), scale: s}
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	l.cache = filepath.Join(user, "spillway", "bench")
	if err := os.MkdirAll(l.cache, 0o700); err != nil {
		return nil, err
	}
	// Not in /tmp, which may be in memory; and some peers, started by root, read it as somebody
	// else.
	if l.work, err = os.MkdirTemp("/var/tmp", "spillway-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(l.work, 0o755); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.spillway = filepath.Join(l.work, "spillway")
	build := exec.CommandContext(ctx, "go", "build", "-o", l.spillway, "./cmd/spillway")
	build.Dir = l.root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("building spillway: %w\n%s", err, out), l.close())
	}
	return l, nil
}

func (l *lab) close() error { return os.RemoveAll(l.work) }

// instance is a running program that serves files.
type instance struct {
	*process.Process
	address string   // host:port
	admin   string   // host:port of Spillway's admin listener
	path    string   // of the URL of its file
	files   []string // of the URLs of more files, if it has any
	size    int64    // of each file
	cleanup []func() // what else ends with it, the last first
}

// close ends the program and removes what it has written.
func (in *instance) close() {
	in.Stop()
	in.clean()
}

func (in *instance) clean() {
	for i := len(in.cleanup) - 1; i >= 0; i-- {
		in.cleanup[i]()
	}
}

// spillwayOn starts a gateway on the servers of a grid, with one core or all of them.
func (l *lab) spillwayOn(ctx context.Context, g *grid, cores int) (*instance, error) {
	return l.serve(ctx, g.servers, g.caps, g.size, cores)
}

// serve starts a gateway on storage directories.
func (l *lab) serve(ctx context.Context, servers, caps []string, size int64, cores int) (*instance, error) {
	dir, err := os.MkdirTemp(l.work, "spool-")
	if err != nil {
		return nil, err
	}
	remove := func() { os.RemoveAll(dir) }
	addresses, err := process.FreeAddresses(2)
	if err != nil {
		remove()
		return nil, err
	}
	args := []string{l.spillway, "serve", "--listen", addresses[0], "--admin-listen", addresses[1], "--spool-dir", dir}
	for _, s := range servers {
		args = append(args, "--server", "file://"+s)
	}
	if cores == 1 {
		args = append([]string{"taskset", "--cpu-list", "0"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = process.CleanEnvironment()
	in := &instance{address: addresses[0], admin: addresses[1], size: size, cleanup: []func(){remove}}
	for _, readCap := range caps {
		in.files = append(in.files, "/uri/"+readCap)
	}
	in.path = in.files[0]
	return l.start(ctx, in, dir, cmd)
}

// start starts an instance's program and waits until it accepts connections.
func (l *lab) start(ctx context.Context, in *instance, dir string, cmd *exec.Cmd) (*instance, error) {
	var err error
	if in.Process, err = process.Start(dir, cmd); err != nil {
		in.clean()
		return nil, err
	}
	for _, address := range []string{in.address, in.admin} {
		if address == "" {
			continue
		}
		if err := in.Await(ctx, "listener at "+address, func() bool { return process.Listens(address) }); err != nil {
			in.close()
			return nil, err
		}
	}
	return in, nil
}

// machine describes what the figures depend on.
func (l *lab) machine(ctx context.Context) []compare.Fact {
	facts := compare.Machine(l.root, l.work)
	for _, t := range allTools {
		facts = append(facts, compare.Fact{Name: t.name, Text: t.version(ctx, l)})
	}
	return facts
}

// linkOrCopy makes target the same file as source, or a copy on another file system.
func linkOrCopy(source, target string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	err := os.Link(source, target)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return exec.Command("cp", source, target).Run()
}
