//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// row is one comparison: the same workload on several sides, measured in turn.
type row struct {
	name       string // what --run matches, such as serve/whole-file
	what       string // a sentence for the report
	quantities []quantity
	sides      []side
	targets    []target
	separate   bool // the sides are not there to be compared with each other
	fullOnly   bool // takes too long for --quick
}

// quantity is a figure that every measurement of a row gives.
type quantity struct {
	name, unit string
}

// side is one of the programs that a row compares, or one way of running it.
type side struct {
	name  string
	needs []tool // that must be installed
	// start starts the side's program; nil if measure needs none or starts its own.
	start func(context.Context, *lab) (*instance, error)
	// fresh: the program is started anew for each measurement, so that nothing is cached in it.
	fresh bool
	// measure does the workload once. Its CPU time and peak memory are filled in for it
	// if the side has a program.
	measure func(context.Context, *lab, *instance) (sample, error)
}

// sample is one measurement.
type sample struct {
	values    []float64     // one for each of the row's quantities
	delivered int64         // bytes that clients received; 0: CPU time for each gigabyte means nothing
	cpu       time.Duration // user and system time of the side's processes meanwhile
	peak      int64         // greatest resident memory of the side's processes, bytes
	stages    []stage       // what a computed sample consists of
}

// stage is a part of a job that was measured alone.
type stage struct {
	name  string
	bytes int64
	took  time.Duration
}

// target is what the first kind of figure of a side should be: at least or at most so
// much, or so many times what another side of the row reached.
type target struct {
	quantity int
	side     string
	over     string // the side it is divided by; "" for the figure itself
	least    float64
	most     float64 // used if least is 0
}

// outcome is what a side's measurements gave.
type outcome struct {
	side    string
	samples []sample // one for each round
	missing string   // the program that is not installed, and how to get it
	err     error    // why there are fewer samples, or none
}

// result is a row with all that was measured.
type result struct {
	row      *row
	outcomes []outcome // in the order of the row's sides
	skipped  string    // why the row was not run
}

// values returns one quantity of all samples of a side.
func (r *result) values(side string, quantity int) []float64 {
	var values []float64
	for _, o := range r.outcomes {
		if o.side == side {
			for _, s := range o.samples {
				values = append(values, s.values[quantity])
			}
		}
	}
	return values
}

// reached returns the figure that a target is about; NaN if it was not measured.
func (r *result) reached(t target) float64 {
	values := r.values(t.side, t.quantity)
	if t.over == "" {
		return median(values)
	}
	return ratio(values, r.values(t.over, t.quantity))
}

// met tells whether a figure reaches the target.
func (t target) met(figure float64) bool {
	if t.least != 0 {
		return figure >= t.least
	}
	return figure <= t.most
}

// describe says a target in words.
func (t target) describe(q quantity) string {
	bound, word := t.most, "at most"
	if t.least != 0 {
		bound, word = t.least, "at least"
	}
	if t.over != "" {
		return fmt.Sprintf("%s: %s %s of %s", t.side, word, number(bound), t.over)
	}
	return fmt.Sprintf("%s: %s %s %s", t.side, word, number(bound), q.unit)
}

// tool is a program that a row needs besides Spillway.
type tool struct {
	name    string
	program string   // found in PATH, the directories that PATH of ordinary users lacks, or the cache's bin
	args    []string // that make it print its version
	install string   // how to get it
}
