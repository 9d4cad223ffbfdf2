package main

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is by how much the kernel may delay timers to let several go off at once. Go's runtime
// looks after its threads, tens of thousands of times a second while work comes in small pieces,
// and pays with a timer each time. Nothing here needs to be more punctual than this.
const timerSlack = time.Millisecond

// slackSet, in the environment, is what this process leaves for itself.
const slackSet = "SPILLWAY_TIMER_SLACK_SET"

// coarsenTimers sets the timer slack, which each thread has for itself (prctl(2),
// PR_SET_TIMERSLACK). Threads inherit it, and so do programs that are executed. So this program
// executes itself anew, unless whoever started it has set as much. If anything about that fails all
// works as well, and takes more of the processor.
func coarsenTimers() {
	_, again := os.LookupEnv(slackSet)
	os.Unsetenv(slackSet)
	if again {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack >= int(timerSlack) {
		return
	}
	self, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0) != nil {
		return
	}
	unix.Exec(self, os.Args, append(os.Environ(), slackSet+"=1"))
}
