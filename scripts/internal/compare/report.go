package compare

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// Report is everything that a RESULTS.md says.
type Report struct {
	Command string // that wrote it
	Method  string // how was measured, in sentences, beside what is the same for all reports
	Machine []Fact
	Rounds  int
	Took    time.Duration
	Results []Result
}

// Fact is a line of the machine's description.
type Fact struct {
	Name, Text string
}

// Write writes the report as Markdown.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Measurements\n\n")
	fmt.Fprintf(&b, "Written by `%s` in %s. In every round each side of a row is measured once, one after the other; there were %d rounds. "+
		"Figures are medians, with the least and the greatest in brackets; ratios are medians of the rounds' ratios. "+
		"MB, GB: powers of ten; KiB, MiB: powers of two. %s\n\n",
		r.Command, r.Took.Round(time.Second), r.Rounds, r.Method)
	for _, f := range r.Machine {
		fmt.Fprintf(&b, "- %s: %s\n", f.Name, f.Text)
	}
	if slices.ContainsFunc(r.Results, func(r Result) bool { return len(r.Targets) > 0 }) {
		r.writeTargets(&b)
	}
	for i := range r.Results {
		writeResult(&b, &r.Results[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) writeTargets(b *strings.Builder) {
	b.WriteString("\n## Targets\n\n| row | figure | target | measured | |\n|---|---|---|---:|---|\n")
	for i := range r.Results {
		result := &r.Results[i]
		for _, t := range result.Targets {
			q := result.Quantities[t.Quantity]
			figure := result.reached(t)
			verdict, text := "**missed**", Number(figure)
			switch {
			case math.IsNaN(figure):
				verdict, text = "not measured", ""
			case t.met(figure):
				verdict = "met"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", result.Name, q.Name, t.describe(q), text, verdict)
		}
	}
}

func writeResult(b *strings.Builder, r *Result) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n", r.Name, r.What)
	if r.Skipped != "" {
		fmt.Fprintf(b, "\nNot measured: %s.\n", r.Skipped)
		return
	}
	first := r.Outcomes[0].Side
	compared := len(r.Outcomes) > 1 && !r.Separate
	b.WriteString("\n| |")
	rule := "\n|---|"
	for i, q := range r.Quantities {
		fmt.Fprintf(b, " %s, %s |", q.Name, q.Unit)
		rule += "---:|"
		if i == 0 && compared {
			fmt.Fprintf(b, " %s / it |", first)
			rule += "---:|"
		}
	}
	used := slices.ContainsFunc(r.Outcomes, func(o Outcome) bool { return cpuPerGB(o.Samples)+peakMiB(o.Samples) != "" })
	if used {
		b.WriteString(" CPU s/GB | peak RSS, MiB |")
		rule += "---:|---:|"
	}
	b.WriteString(rule + "\n")
	for _, o := range r.Outcomes {
		fmt.Fprintf(b, "| %s |", o.Side)
		if o.Missing != "" {
			fmt.Fprintf(b, " not measured: %s |\n", o.Missing)
			continue
		}
		if o.Err != nil {
			line, _, _ := strings.Cut(o.Err.Error(), "\n")
			fmt.Fprintf(b, " **failed**: %s |\n", line)
			continue
		}
		for i := range r.Quantities {
			values := r.values(o.Side, i)
			fmt.Fprintf(b, " %s |", spread(values))
			if i == 0 && compared {
				fmt.Fprintf(b, " %s |", Number(Ratio(r.values(first, 0), values)))
			}
		}
		if used {
			fmt.Fprintf(b, " %s | %s |", cpuPerGB(o.Samples), peakMiB(o.Samples))
		}
		b.WriteString("\n")
	}
	for _, o := range r.Outcomes {
		writeStages(b, o)
	}
}

// writeStages says what a bound consists of.
func writeStages(b *strings.Builder, o Outcome) {
	if len(o.Samples) == 0 || len(o.Samples[0].Stages) == 0 {
		return
	}
	var parts []string
	for i, stage := range o.Samples[0].Stages {
		var rates []float64
		for _, s := range o.Samples {
			rates = append(rates, float64(s.Stages[i].Bytes)/1e9/s.Stages[i].Took.Seconds())
		}
		parts = append(parts, fmt.Sprintf("%s %s", stage.Name, Number(Median(rates))))
	}
	fmt.Fprintf(b, "\n%s, GB/s of plaintext: %s.\n", o.Side, strings.Join(parts, ", "))
}

// cpuPerGB returns the median CPU time for each gigabyte delivered, in seconds, or
// nothing if that means nothing.
func cpuPerGB(samples []Sample) string {
	var values []float64
	for _, s := range samples {
		if s.Delivered > 0 && s.CPU > 0 {
			values = append(values, s.CPU.Seconds()/(float64(s.Delivered)/1e9))
		}
	}
	if len(values) == 0 {
		return ""
	}
	return Number(Median(values))
}

// peakMiB returns the median of the peak memory, or nothing if none was taken.
func peakMiB(samples []Sample) string {
	var values []float64
	for _, s := range samples {
		if s.Peak > 0 {
			values = append(values, float64(s.Peak)/(1<<20))
		}
	}
	if len(values) == 0 {
		return ""
	}
	return Number(Median(values))
}

// spread formats values as their median and, if there are several, their range.
func spread(values []float64) string {
	if len(values) < 2 || math.IsNaN(Median(values)) {
		return Number(Median(values))
	}
	return fmt.Sprintf("%s (%s–%s)", Number(Median(values)), Number(Quantile(values, 0)), Number(Quantile(values, 1)))
}

// Number formats a figure with three significant digits, and never fewer than its
// integral ones.
func Number(x float64) string {
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
