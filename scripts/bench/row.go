//go:build linux

package main

import (
	"context"

	"spillway/scripts/internal/compare"
)

// row is one comparison: the same workload on several sides, measured in turn.
type row struct {
	name       string // what --run matches, such as serve/whole-file
	what       string // a sentence for the report
	quantities []compare.Quantity
	sides      []side
	targets    []compare.Target
	separate   bool // the sides are not there to be compared with each other
	fullOnly   bool // takes too long for --quick
}

// side is one of the programs that a row compares, or one way of running it.
type side struct {
	name  string
	needs []tool // that must be installed
	// start starts the side's program; nil if measure needs none or starts its own.
	start func(context.Context, *lab) (*instance, error)
	// fresh: the program is started anew for each measurement, so that nothing is cached in
	// it.
	fresh bool
	// measure does the workload once. Its CPU time and peak memory are filled in for it
	// if the side has a program.
	measure func(context.Context, *lab, *instance) (compare.Sample, error)
}

// tool is a program that a row needs besides Spillway.
type tool struct {
	name string
	// program: found in PATH, the directories that PATH of ordinary users lacks, or the cache's
	// bin.
	program string
	args    []string // that make it print its version
	install string   // how to get it
}
