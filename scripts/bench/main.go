//go:build linux

// Bench compares Spillway with its peers, each the real program, on one machine, and
// writes scripts/bench/RESULTS.md.
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

	"spillway/scripts/internal/compare"

	"github.com/alecthomas/kong"
)

// method is what the report says of these measurements beside what every report says.
const method = "CPU time is user and system time of all processes of the side; peak RSS is the sum of their greatest resident memory. Server and client share the machine; except where another is named, the client throws bodies away in the kernel (`MSG_TRUNC`) and is woken " +
	"once for many packets (`SO_RCVLOWAT`), so that it costs little."

// cli is the command line.
type cli struct {
	Quick  bool   `help:"Measure less, in under five minutes once the data is there."`
	Run    string `placeholder:"REGEXP" help:"Run only the rows whose name matches, and print the report instead of writing RESULTS.md."`
	List   bool   `help:"List the rows."`
	Rounds int    `default:"5" help:"How often each side is measured."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	kong.Parse(&c, kong.Name("bench"), kong.Description("Compares Spillway with its peers on this machine."))
	if err := c.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func (c *cli) run(ctx context.Context) (err error) {
	wanted, err := regexp.Compile(c.Run)
	if err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	if c.Rounds < 1 {
		return errors.New("--rounds must be at least 1")
	}
	s := fullScale
	if c.Quick {
		s = quickScale
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
	l, err := openLab(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()

	report := compare.Report{Command: "go run ./scripts/bench", Method: method, Machine: l.machine(ctx), Rounds: c.Rounds}
	if c.Quick {
		report.Command += " --quick"
	}
	if err := report.Measure(ctx, os.Stderr, len(chosen), func(i int) compare.Result { return l.measure(ctx, &chosen[i], c) }); err != nil {
		return err
	}
	if c.Run != "" {
		return report.Publish("")
	}
	return report.Publish(filepath.Join(l.root, "scripts", "bench", "RESULTS.md"))
}

// measure runs a row: in every round each side once. A side that fails is not measured any more.
func (l *lab) measure(ctx context.Context, r *row, c *cli) compare.Result {
	out := compare.Result{Name: r.name, What: r.what, Quantities: r.quantities, Targets: r.targets, Separate: r.separate}
	if r.fullOnly && c.Quick {
		out.Skipped = "takes too long for --quick"
		return out
	}
	instances := make([]*instance, len(r.sides))
	defer func() {
		for _, in := range instances {
			if in != nil {
				in.close()
			}
		}
	}()
	for i, s := range r.sides {
		o := compare.Outcome{Side: s.name}
		for _, t := range s.needs {
			if _, err := t.find(l); err != nil && o.Missing == "" {
				o.Missing = err.Error()
			}
		}
		if s.start != nil && !s.fresh && o.Missing == "" {
			instances[i], o.Err = s.start(ctx, l)
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	for round := range c.Rounds + 1 {
		for i, s := range r.sides {
			o := &out.Outcomes[i]
			if o.Missing != "" || o.Err != nil {
				continue
			}
			// The first round warms programs up and does not count.
			if round == 0 && instances[i] == nil {
				continue
			}
			var sample compare.Sample
			if sample, o.Err = l.measureSide(ctx, s, instances[i]); o.Err == nil && round > 0 {
				o.Samples = append(o.Samples, sample)
			}
		}
	}
	return out
}

// measureSide measures a side once; in is nil if it is to be started for that, or has no program.
func (l *lab) measureSide(ctx context.Context, s side, in *instance) (compare.Sample, error) {
	if s.start == nil {
		return s.measure(ctx, l, nil)
	}
	if s.fresh {
		var err error
		if in, err = s.start(ctx, l); err != nil {
			return compare.Sample{}, err
		}
		defer in.close()
	}
	if err := in.ResetPeak(); err != nil {
		return compare.Sample{}, err
	}
	before, err := in.Usage()
	if err != nil {
		return compare.Sample{}, err
	}
	got, err := s.measure(ctx, l, in)
	if err != nil {
		return compare.Sample{}, fmt.Errorf("%w\n%s", err, in.Tail())
	}
	after, err := in.Usage()
	got.CPU, got.Peak = after.CPU-before.CPU, after.Peak
	return got, err
}
