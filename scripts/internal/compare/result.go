// Package compare holds what comparisons of programs found out, and writes it down.
package compare

import (
	"fmt"
	"time"
)

// Result is one comparison: the same workload on several sides, measured in turn.
type Result struct {
	Name       string // of the row
	What       string // was measured, in a sentence
	Quantities []Quantity
	Targets    []Target
	Separate   bool      // the sides are not there to be compared with each other
	Outcomes   []Outcome // one for each side
	Skipped    string    // why nothing was measured
}

// Quantity is a figure that every measurement of a row gives.
type Quantity struct {
	Name, Unit string
}

// Sample is one measurement.
type Sample struct {
	Values []float64 // one for each of the row's quantities
	// Delivered: bytes that clients received; 0: CPU time for each gigabyte means nothing.
	Delivered int64
	CPU       time.Duration // user and system time of the side's processes meanwhile
	Peak      int64         // greatest resident memory of the side's processes, bytes
	Stages    []Stage       // what a computed sample consists of
}

// Stage is a part of a job that was measured alone.
type Stage struct {
	Name  string
	Bytes int64
	Took  time.Duration
}

// Target is what a figure of a side should be: at least or at most so much, or so many times what
// another side of the row reached.
type Target struct {
	Quantity int
	Side     string
	Over     string // the side it is divided by; "" for the figure itself
	Least    float64
	Most     float64 // used if Least is 0
}

// Outcome is what a side's measurements gave.
type Outcome struct {
	Side    string
	Samples []Sample // one for each round
	Missing string   // the program that is not installed, and how to get it
	Err     error    // why there are fewer samples, or none
}

// values returns one quantity of all samples of a side.
func (r *Result) values(side string, quantity int) []float64 {
	var values []float64
	for _, o := range r.Outcomes {
		if o.Side == side {
			for _, s := range o.Samples {
				values = append(values, s.Values[quantity])
			}
		}
	}
	return values
}

// reached returns the figure that a target is about; NaN if it was not measured.
func (r *Result) reached(t Target) float64 {
	values := r.values(t.Side, t.Quantity)
	if t.Over == "" {
		return Median(values)
	}
	return Ratio(values, r.values(t.Over, t.Quantity))
}

// met tells whether a figure reaches the target.
func (t Target) met(figure float64) bool {
	if t.Least != 0 {
		return figure >= t.Least
	}
	return figure <= t.Most
}

// describe says a target in words.
func (t Target) describe(q Quantity) string {
	bound, word := t.Most, "at most"
	if t.Least != 0 {
		bound, word = t.Least, "at least"
	}
	if t.Over != "" {
		return fmt.Sprintf("%s: %s %s of %s", t.Side, word, Number(bound), t.Over)
	}
	return fmt.Sprintf("%s: %s %s %s", t.Side, word, Number(bound), q.Unit)
}
