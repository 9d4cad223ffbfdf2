//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"spillway/scripts/internal/compare"
	"spillway/scripts/internal/process"

	"golang.org/x/sys/unix"
)

// crowd is clients that have asked for a file, read one byte and stopped.
type crowd []net.Conn

// receiveBuffer is what a stalled client lets the kernel keep for it, in bytes.
const receiveBuffer = 4096

// stall connects n clients and lets each ask for one of the program's files, in turn.
func stall(ctx context.Context, in *instance, n int) (_ crowd, err error) {
	var c crowd
	defer func() {
		if err != nil {
			c.leave()
		}
	}()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		err2 := raw.Control(func(fd uintptr) {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer))
		})
		return errors.Join(err, err2)
	}}
	for i := range n {
		conn, err := dialer.DialContext(ctx, "tcp", in.address)
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
		c = append(c, conn)
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", in.files[i%len(in.files)], in.address); err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
	}
	// One byte says that the answer has begun.
	var one [1]byte
	for i, conn := range c {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Read(one[:]); err != nil {
			return nil, fmt.Errorf("client %d: %w", i, err)
		}
	}
	return c, nil
}

// leave breaks all connections.
func (c crowd) leave() {
	for _, conn := range c {
		conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: thousands more are to come
		conn.Close()
	}
}

// watch takes the memory of a program again and again until enough says so, which is told how long
// it has not changed, or patience is at its end, and returns the last.
func watch(ctx context.Context, in *instance, patience time.Duration, enough func(u process.Usage, calm time.Duration) bool) (process.Usage, error) {
	const (
		interval = 100 * time.Millisecond
		change   = 64 << 10 // bytes; less is none
	)
	again := time.NewTicker(interval)
	defer again.Stop()
	start := time.Now()
	var last process.Usage
	for since := start; ; {
		now, err := in.Usage()
		if err != nil {
			return process.Usage{}, err
		}
		if difference := now.Resident - last.Resident; difference > change || difference < -change {
			since, last = time.Now(), now
		}
		if enough(now, time.Since(since)) || time.Since(start) > patience {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return process.Usage{}, ctx.Err()
		case <-again.C:
		}
	}
}

// stalledMemory measures what each of n stalled clients costs, and what is left when they have
// gone.
func stalledMemory(n int) func(context.Context, *lab, *instance) (compare.Sample, error) {
	return func(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
		settled := func(_ process.Usage, calm time.Duration) bool { return calm >= l.calm }
		const patience = 20 * time.Second
		before, err := watch(ctx, in, patience, settled)
		if err != nil {
			return compare.Sample{}, err
		}
		kernelBefore, err := kernelTCP()
		if err != nil {
			return compare.Sample{}, err
		}
		c, err := stall(ctx, in, n)
		if err != nil {
			return compare.Sample{}, err
		}
		during, err := watch(ctx, in, patience, settled)
		kernelDuring, err2 := kernelTCP()
		c.leave()
		if err = errors.Join(err, err2); err != nil {
			return compare.Sample{}, err
		}
		after, err := watch(ctx, in, l.leaving, func(u process.Usage, _ time.Duration) bool {
			return u.Resident-before.Resident < (during.Resident-before.Resident)/10
		})
		each := func(more, less int64) float64 { return float64(more-less) / 1024 / float64(n) }
		return compare.Sample{Values: []float64{
			each(during.Resident, before.Resident),
			each(during.Proportional, before.Proportional),
			each(after.Resident, before.Resident),
			each(kernelDuring, kernelBefore),
		}}, err
	}
}

// kernelTCP returns how many bytes all TCP sockets of the machine hold in their queues.
func kernelTCP() (int64, error) {
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	found := sockstat.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("no TCP memory in /proc/net/sockstat:\n%s", text)
	}
	pages, err := strconv.ParseInt(string(found[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

var sockstat = regexp.MustCompile(`(?m)^TCP: .* mem (\d+)$`)

// besideStalled measures a fast client's throughput and first byte while n others are stalled.
func besideStalled(n int) func(context.Context, *lab, *instance) (compare.Sample, error) {
	return func(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
		c, err := stall(ctx, in, n)
		if err != nil {
			return compare.Sample{}, err
		}
		defer c.leave()
		s, err := wholeAgain(ctx, l, in)
		if err != nil {
			return compare.Sample{}, err
		}
		first, err := firstBytes(ctx, l, in)
		if err != nil {
			return compare.Sample{}, err
		}
		s.Values = append(s.Values, first.Values...)
		s.Delivered = 0 // the CPU time is that of connecting all the clients as well
		return s, nil
	}
}

func stalledRows(s scale) []row {
	large := file(s.large, 1<<20)
	var rows []row
	for _, n := range []int{1000, 10_000} {
		one := spooled("Spillway, one file", large, 1, nil)
		different := spooled(fmt.Sprintf("Spillway, %d files", s.files), manyFiles, s.files, nil)
		sides := []side{one, different, {name: "nginx", needs: []tool{toolNginx}, start: startNginx("off")}}
		for i := range sides {
			sides[i].fresh, sides[i].measure = true, stalledMemory(n)
		}
		rows = append(rows, row{
			name: fmt.Sprintf("stalled/%d/memory", n),
			what: fmt.Sprintf("%d clients ask for a file, read one byte and stop (plain HTTP/1.1, receive buffers of %d bytes). Growth of the process's memory for each client: "+
				"resident, proportional, and what is still resident %v after they have left or when nine tenths are given back; and of the queues of the kernel's sockets, both ends'. "+
				"The files are spooled before.", n, receiveBuffer, s.leaving),
			quantities: []compare.Quantity{{Name: "RSS", Unit: "KiB/client"}, {Name: "PSS", Unit: "KiB/client"}, {Name: "RSS after", Unit: "KiB/client"}, {Name: "sockets", Unit: "KiB/client"}},
			sides:      sides,
			targets: []compare.Target{
				{Side: sides[0].name, Most: 8},
				{Side: sides[1].name, Most: 8},
			},
			fullOnly: n > 1000,
		})
	}
	for _, n := range []int{1000, 10_000} {
		alone, beside := "Spillway alone", fmt.Sprintf("Spillway beside %d", n)
		r := row{
			name:       fmt.Sprintf("stalled/%d/fast-client", n),
			what:       fmt.Sprintf("A fast client beside %d stalled ones: it gets a whole spooled file again and again, then asks for first bytes.", n),
			quantities: []compare.Quantity{{Name: "throughput", Unit: "MB/s"}, {Name: "first byte, median", Unit: "ms"}, {Name: "first byte, 99th percentile", Unit: "ms"}},
			targets: []compare.Target{
				{Side: beside, Over: alone, Least: 0.95},
				{Quantity: 2, Side: beside, Most: 5},
			},
			fullOnly: n > 1000,
		}
		for _, server := range []side{spooled("Spillway", large, 1, nil), {name: "nginx", needs: []tool{toolNginx}, start: startNginx("off")}} {
			server.fresh = true
			quiet, busy := server, server
			quiet.name, quiet.measure = server.name+" alone", besideStalled(0)
			busy.name, busy.measure = fmt.Sprintf("%s beside %d", server.name, n), besideStalled(n)
			r.sides = append(r.sides, quiet, busy)
		}
		rows = append(rows, r)
	}
	return rows
}
