//go:build linux

// Grid compares Spillway with Tahoe-LAFS's own gateway on the same storage nodes, at hand and far
// away, and writes scripts/grid/RESULTS.md. It needs root and Tahoe-LAFS, which
// scripts/tahoe/install installs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"spillway/scripts/internal/compare"
)

// method is what the report says of these measurements beside what every report says.
const method = "All share the machine: servers, gateways, client and, where there is distance, the network. The client throws bodies away in the kernel. " +
	"CPU time is user and system time, of the gateway alone or of all storage nodes together, while the client waits for its answer; peak RSS is the gateway's. " +
	"Spillway is started anew for each measurement, so that nothing of a file is known or spooled, and has read one other small file before; Tahoe-LAFS's gateway keeps nothing. " +
	"It speaks GBS to the storage nodes, as Spillway does, or Foolscap."

// cli is the command line.
type cli struct {
	Quick  bool   `help:"Measure less: one round, smaller files."`
	Run    string `placeholder:"REGEXP" help:"Run only the rows whose name matches, and print the report instead of writing RESULTS.md."`
	List   bool   `help:"List the rows."`
	Rounds int    `help:"How often each side is measured: 5, or 1 with --quick."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	kong.Parse(&c, kong.Name("grid"), kong.Description("Compares Spillway with Tahoe-LAFS's gateway on the same storage nodes."))
	if err := c.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "grid: %v\n", err)
		os.Exit(1)
	}
}

func (c *cli) run(ctx context.Context) (err error) {
	wanted, err := regexp.Compile(c.Run)
	if err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	s := fullScale
	if c.Quick {
		s = quickScale
	}
	if c.Rounds > 0 {
		s.rounds = c.Rounds
	}
	var chosen []row
	for _, r := range rows(s) {
		if wanted.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	if c.List {
		for _, r := range chosen {
			fmt.Println(r.name)
		}
		return nil
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no row matches %s; --list lists them", c.Run)
	}
	if err := goAhead(); err != nil {
		return err
	}
	l, err := openLab(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()

	report := compare.Report{Command: "go run ./scripts/grid", Method: method, Machine: l.machine(ctx), Rounds: s.rounds}
	if c.Quick {
		report.Command += " --quick"
	}
	if err := report.Measure(ctx, os.Stderr, len(chosen), func(i int) compare.Result { return l.measure(ctx, chosen[i]) }); err != nil {
		return err
	}
	if c.Run != "" || c.Quick {
		return report.Publish("")
	}
	return report.Publish(filepath.Join(l.root, "scripts", "grid", "RESULTS.md"))
}

// ahead is by how much this process is nicer to itself than to the programs it starts: a network
// does not wait for a processor that its servers have.
const ahead = 10

// goAhead starts this process anew with a higher priority, as Linux has one for each thread, unless
// it has it already.
func goAhead() error {
	const usual = 20 // getpriority(2) returns 20 less the nice value
	now, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil || now >= usual+ahead {
		return os.NewSyscallError("getpriority", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -ahead); err != nil {
		return fmt.Errorf("run this as root: %w", os.NewSyscallError("setpriority", err))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.NewSyscallError("execve", unix.Exec(self, os.Args, os.Environ()))
}

// measure runs a row: in every round each side once. A side that fails is not measured any more.
func (l *lab) measure(ctx context.Context, r row) compare.Result {
	result := compare.Result{Name: r.name, What: r.what, Quantities: r.quantities, Targets: r.targets, Separate: r.separate}
	s, err := l.scene(ctx, r.far)
	for _, side := range r.sides {
		result.Outcomes = append(result.Outcomes, compare.Outcome{Side: side.name, Err: err})
	}
	once := func(i int) {
		o := &result.Outcomes[i]
		if o.Err != nil {
			return
		}
		values, err := r.sides[i].measure(ctx, s)
		if err != nil {
			o.Err = err
			return
		}
		o.Samples = append(o.Samples, compare.Sample{Values: values})
	}
	for i, side := range r.sides {
		if side.prepare == nil || result.Outcomes[i].Err != nil {
			continue
		}
		if result.Outcomes[i].Err = side.prepare(ctx, s); result.Outcomes[i].Err != nil {
			continue
		}
		for range l.rounds {
			once(i)
		}
	}
	for range l.rounds {
		for i, side := range r.sides {
			if side.prepare == nil {
				once(i)
			}
		}
	}
	return result
}
