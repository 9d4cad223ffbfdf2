//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running program and all its descendants: they are one process group.
type process struct {
	name   string
	group  int // also the first process's id
	log    string
	exited chan error // receives once
}

// startProcess starts a program whose output goes to a file in dir. Whoever starts it stops it.
func startProcess(dir string, cmd *exec.Cmd) (*process, error) {
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
	p := &process{name: name, log: log.Name(), exited: make(chan error, 1)}
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

// stop ends the program and its descendants and returns when there are none any more.
func (p *process) stop() {
	// Asked, a program ends its workers itself; but all that it writes is thrown away, so there is no need to wait long.
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

// adoptOrphans makes this process the parent of its descendants whose own has ended, so that stop can wait for them.
func adoptOrphans() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// await waits until ready is true. Another process does not tell when that is, so it is tried again and again.
func (p *process) await(ctx context.Context, what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !ready() {
		select {
		case err := <-p.exited:
			p.exited <- err // for stop
			return fmt.Errorf("%s ended before there was %s: %v\n%s", p.name, what, err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s: no %s: %w\n%s", p.name, what, ctx.Err(), p.tail())
		case <-again.C:
		}
	}
	return nil
}

// tail returns the end of what the program wrote.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-1000):]
}

// usage is what a process group has used so far.
type usage struct {
	cpu time.Duration // user and system time
	// resident is the memory the processes have now, peak the sum of the greatest each has had, bytes.
	// What processes share counts once for each.
	resident, peak int64
	proportional   int64 // resident, with shared pages divided by their owners (PSS)
}

// usage adds up the processes of the group.
func (p *process) usage() (usage, error) {
	var sum usage
	members, err := p.members()
	if err != nil {
		return usage{}, err
	}
	for _, pid := range members {
		u, err := usageOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it ended meanwhile
		}
		if err != nil {
			return usage{}, err
		}
		sum.cpu += u.cpu
		sum.resident += u.resident
		sum.peak += u.peak
		sum.proportional += u.proportional
	}
	return sum, nil
}

// resetPeak makes the peak memory start again from what is resident now.
func (p *process) resetPeak() error {
	members, err := p.members()
	for _, pid := range members {
		// 5: reset the peak, see proc(5). A process that has ended has no peak.
		os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
	return err
}

// members returns the ids of the group's processes.
func (p *process) members() ([]int, error) {
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

func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	cpu, err := cpuOf(stat)
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return usage{}, err
	}
	return usage{cpu, kib(status, "VmRSS"), kib(status, "VmHWM"), kib(rollup, "Pss")}, nil
}

// cpuOf returns the user and system time of /proc/PID/stat, with that of children that ended: see proc(5).
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

// kib returns a field of /proc/PID/status or smaps_rollup, in bytes; 0 if there is none, as in a process that is ending.
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
