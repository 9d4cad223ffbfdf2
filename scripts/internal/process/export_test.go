//go:build linux

package process

var (
	CPUOf = cpuOf
	KiB   = kib
)
