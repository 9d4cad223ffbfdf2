//go:build linux

// Package process runs programs for measurements and tells what they use.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a running program and all its descendants: they are one process group.
type Process struct {
	name   string
	group  int // also the first process's id
	log    string
	exited chan error // receives once

	stopped sync.Once
}

// Start starts a program whose output goes to a file in dir. Whoever starts it stops it.
func Start(dir string, cmd *exec.Cmd) (*Process, error) {
	name := filepath.Base(cmd.Path)
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.Dir == "" {
		cmd.Dir = dir
	}
	// However this process dies, the program dies with it; and a Ctrl-C at the
	// terminal is for this process alone, which then stops the program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{name: name, log: log.Name(), exited: make(chan error, 1)}
	started := make(chan error)
	go func() {
		// The parent, as Linux sees it, is the thread, so one is kept for as long.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.exited <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.group = cmd.Process.Pid
	return p, nil
}

// Stop ends the program and its descendants and returns when there are none any more. It may be
// called again.
func (p *Process) Stop() { p.stopped.Do(p.stop) }

func (p *Process) stop() {
	// Asked, a program ends its workers itself; but all that it writes is thrown away, so there is
	// no need to wait long.
	syscall.Kill(-p.group, syscall.SIGTERM)
	select {
	case <-p.exited:
		syscall.Kill(-p.group, syscall.SIGKILL) // descendants that outlived it
	case <-time.After(time.Second):
		syscall.Kill(-p.group, syscall.SIGKILL)
		<-p.exited
	}
	for {
		if _, err := syscall.Wait4(-p.group, nil, 0, nil); err != nil && err != syscall.EINTR {
			return // ECHILD
		}
	}
}

// AdoptOrphans makes this process the parent of its descendants whose own has ended, so that Stop
// can wait for them.
func AdoptOrphans() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// Await waits until ready is true. Another process does not tell when that is, so it is tried again
// and again.
func (p *Process) Await(ctx context.Context, what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !ready() {
		select {
		case err := <-p.exited:
			p.exited <- err // for Stop
			return fmt.Errorf("%s ended before there was %s: %v\n%s", p.name, what, err, p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: no %s: %w\n%s", p.name, what, ctx.Err(), p.Tail())
		case <-again.C:
		}
	}
	return nil
}

// Tail returns the end of what the program wrote.
func (p *Process) Tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-1000):]
}

// Usage is what a process group has used so far.
type Usage struct {
	CPU time.Duration // user and system time
	// Resident is the memory the processes have now, Peak the sum of the greatest each has had,
	// bytes. What processes share counts once for each.
	Resident, Peak int64
	Proportional   int64 // resident, with shared pages divided by their owners (PSS)
}

// Usage adds up the processes of the group.
func (p *Process) Usage() (Usage, error) {
	var sum Usage
	members, err := p.members()
	if err != nil {
		return Usage{}, err
	}
	for _, pid := range members {
		u, err := UsageOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended meanwhile
		}
		if err != nil {
			return Usage{}, err
		}
		sum.CPU += u.CPU
		sum.Resident += u.Resident
		sum.Peak += u.Peak
		sum.Proportional += u.Proportional
	}
	return sum, nil
}

// ResetPeak makes the peak memory start again from what is resident now.
func (p *Process) ResetPeak() error {
	members, err := p.members()
	for _, pid := range members {
		ResetPeak(pid)
	}
	return err
}

// ResetPeak makes the peak memory of one process start again from what is resident now.
func ResetPeak(pid int) {
	// 5: reset the peak, see proc(5). A process that has ended has no peak.
	os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// CPU returns the user and system time of a process so far, without descendants, to the nanosecond.
func CPU(pid int) (time.Duration, error) {
	// clock_getcpuclockid(3): the process's id, inverted, and CPUCLOCK_SCHED.
	clock := int32(^uint32(pid)<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(t.Nano()), nil
}

// PID returns the id of the program's first process.
func (p *Process) PID() int { return p.group }

// members returns the ids of the group's processes.
func (p *Process) members() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var members []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if group, err := syscall.Getpgid(pid); err == nil && group == p.group {
			members = append(members, pid)
		}
	}
	return members, nil
}

// UsageOf returns what one process has used so far, without its descendants that live.
func UsageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	cpu, err := cpuOf(stat)
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Usage{}, err
	}
	return Usage{cpu, kib(status, "VmRSS"), kib(status, "VmHWM"), kib(rollup, "Pss")}, nil
}

// cpuOf returns the user and system time of /proc/PID/stat, with that of children that ended: see
// proc(5).
func cpuOf(stat []byte) (time.Duration, error) {
	// The second field, the name in brackets, may contain anything.
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	const utime, cstime = 14, 17 // counted from 1, of all fields; rest begins with the third
	if !ok || len(fields) < cstime-2 {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields after the name", len(fields))
	}
	var ticks int64
	for _, field := range fields[utime-3 : cstime-2] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// kib returns a field of /proc/PID/status or smaps_rollup, in bytes; 0 if there is none, as in a
// process that is ending.
func kib(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}

// Listens tells whether something accepts connections at an address.
func Listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// CleanEnvironment is this process's without anything that configures Spillway.
func CleanEnvironment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SPILLWAY_") {
			env = append(env, kv)
		}
	}
	return env
}

// FreeAddresses returns n addresses of 127.0.0.1 on which nothing listens yet.
func FreeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		// Closed only when all are chosen, so that they differ.
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
