//go:build !linux

// Bench compares Spillway with its peers on one machine. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: looks into /proc and needs Linux")
	os.Exit(1)
}
