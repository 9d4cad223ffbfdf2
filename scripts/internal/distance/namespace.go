//go:build linux

package distance

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace: a machine as far as the network goes. It lives as long as this
// process or one in it.
type Namespace struct {
	file *os.File
}

func newNamespace() (ns *Namespace, err error) {
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("unshare", err)
			return
		}
		var file *os.File
		if file, err = os.Open("/proc/thread-self/ns/net"); err == nil {
			ns = &Namespace{file}
		}
	})
	return ns, err
}

// Enter moves the calling thread into the namespace, and with it the processes that it starts and
// the sockets that it opens. The caller has locked its goroutine to the thread and never unlocks
// it, so that nothing else runs there.
func (ns *Namespace) Enter() error {
	return os.NewSyscallError("setns", unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET))
}

// Do calls f on a thread in the namespace. A connection that f opens works anywhere.
func (ns *Namespace) Do(f func() error) (err error) {
	onThread(func() {
		if err = ns.Enter(); err == nil {
			err = f()
		}
	})
	return err
}

// Path names the namespace for nsenter --net and the like, as long as this process lives.
func (ns *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.file.Fd())
}

// onThread calls f on a thread that ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}
