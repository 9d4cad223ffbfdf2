//go:build !linux

// Grid compares Spillway with Tahoe-LAFS's own gateway on the same storage nodes. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "grid: makes network namespaces and needs Linux")
	os.Exit(1)
}
