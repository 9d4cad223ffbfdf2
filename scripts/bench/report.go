//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// report is everything that RESULTS.md says.
type report struct {
	machine []fact
	quick   bool
	rounds  int
	took    time.Duration
	results []result
}

// fact is a line of the machine's description.
type fact struct {
	name, text string
}

// write writes the report as Markdown.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Measurements\n\n")
	mode := "go run ./scripts/bench"
	if r.quick {
		mode += " --quick"
	}
	fmt.Fprintf(&b, "Written by `%s` in %s. In every round each side of a row is measured once, one after the other; there were %d rounds. "+
		"Figures are medians, with the least and the greatest in brackets; ratios are medians of the rounds' ratios. "+
		"MB, GB: powers of ten; KiB, MiB: powers of two. CPU time is user and system time of all processes of the side; peak RSS is the sum of their greatest resident memory. "+
		"Server and client share the machine; except where another is named, the client throws bodies away in the kernel (`MSG_TRUNC`) and is woken "+
		"once for many packets (`SO_RCVLOWAT`), so that it costs little.\n\n",
		mode, r.took.Round(time.Second), r.rounds)
	for _, f := range r.machine {
		fmt.Fprintf(&b, "- %s: %s\n", f.name, f.text)
	}
	r.writeTargets(&b)
	for i := range r.results {
		writeResult(&b, &r.results[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) writeTargets(b *strings.Builder) {
	b.WriteString("\n## Targets\n\n| row | figure | target | measured | |\n|---|---|---|---:|---|\n")
	for i := range r.results {
		result := &r.results[i]
		for _, t := range result.row.targets {
			q := result.row.quantities[t.quantity]
			figure := result.reached(t)
			verdict, text := "**missed**", number(figure)
			switch {
			case math.IsNaN(figure):
				verdict, text = "not measured", ""
			case t.met(figure):
				verdict = "met"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", result.row.name, q.name, t.describe(q), text, verdict)
		}
	}
}

func writeResult(b *strings.Builder, r *result) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", r.row.name, r.row.what)
	if r.skipped != "" {
		fmt.Fprintf(b, "\nNot measured: %s.\n", r.skipped)
		return
	}
	first := r.row.sides[0].name
	compared := len(r.row.sides) > 1 && !r.row.separate
	b.WriteString("\n| |")
	rule := "\n|---|"
	for i, q := range r.row.quantities {
		fmt.Fprintf(b, " %s, %s |", q.name, q.unit)
		rule += "---:|"
		if i == 0 && compared {
			fmt.Fprintf(b, " %s / it |", first)
			rule += "---:|"
		}
	}
	b.WriteString(" CPU s/GB | peak RSS, MiB |" + rule + "---:|---:|\n")
	for _, o := range r.outcomes {
		fmt.Fprintf(b, "| %s |", o.side)
		if o.missing != "" {
			fmt.Fprintf(b, " not measured: %s |\n", o.missing)
			continue
		}
		if o.err != nil {
			line, _, _ := strings.Cut(o.err.Error(), "\n")
			fmt.Fprintf(b, " **failed**: %s |\n", line)
			continue
		}
		for i := range r.row.quantities {
			values := r.values(o.side, i)
			fmt.Fprintf(b, " %s |", spread(values))
			if i == 0 && compared {
				fmt.Fprintf(b, " %s |", number(ratio(r.values(first, 0), values)))
			}
		}
		fmt.Fprintf(b, " %s | %s |\n", cpuPerGB(o.samples), peakMiB(o.samples))
	}
	for _, o := range r.outcomes {
		writeStages(b, o)
	}
}

// writeStages says what a bound consists of.
func writeStages(b *strings.Builder, o outcome) {
	if len(o.samples) == 0 || len(o.samples[0].stages) == 0 {
		return
	}
	var parts []string
	for i, stage := range o.samples[0].stages {
		var rates []float64
		for _, s := range o.samples {
			rates = append(rates, float64(s.stages[i].bytes)/1e9/s.stages[i].took.Seconds())
		}
		parts = append(parts, fmt.Sprintf("%s %s", stage.name, number(median(rates))))
	}
	fmt.Fprintf(b, "\n%s, GB/s of plaintext: %s.\n", o.side, strings.Join(parts, ", "))
}

// cpuPerGB returns the median CPU time for each gigabyte delivered, in seconds, or
// nothing if that means nothing.
func cpuPerGB(samples []sample) string {
	var values []float64
	for _, s := range samples {
		if s.delivered > 0 && s.cpu > 0 {
			values = append(values, s.cpu.Seconds()/(float64(s.delivered)/1e9))
		}
	}
	if len(values) == 0 {
		return ""
	}
	return number(median(values))
}

// peakMiB returns the median of the peak memory, or nothing if none was taken.
func peakMiB(samples []sample) string {
	var values []float64
	for _, s := range samples {
		if s.peak > 0 {
			values = append(values, float64(s.peak)/(1<<20))
		}
	}
	if len(values) == 0 {
		return ""
	}
	return number(median(values))
}

// spread formats values as their median and, if there are several, their range.
func spread(values []float64) string {
	if len(values) < 2 {
		return number(median(values))
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(values)), number(quantile(values, 0)), number(quantile(values, 1)))
}

// number formats a figure with three significant digits, and never fewer than its
// integral ones.
func number(x float64) string {
	switch abs := math.Abs(x); {
	case math.IsNaN(x):
		return "–"
	case abs >= 100:
		return fmt.Sprintf("%.0f", x)
	case abs >= 10:
		return trimZeros(fmt.Sprintf("%.1f", x))
	case abs >= 0.1 || x == 0:
		return trimZeros(fmt.Sprintf("%.2f", x))
	}
	return fmt.Sprintf("%.2g", x)
}

func trimZeros(s string) string {
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
