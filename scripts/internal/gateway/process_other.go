//go:build !linux

package gateway

import "syscall"

func diesWithParent() *syscall.SysProcAttr { return nil }
