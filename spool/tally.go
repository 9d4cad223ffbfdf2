package spool

// tally counts failures that nobody else is told, and tells which of them to log: the first one,
// and each time there are ten times as many. However often something fails, the log stays short.
type tally struct {
	failures int64
	logged   int64 // failures when one was last logged
}

// add counts a failure and tells whether to log it.
func (t *tally) add() bool {
	t.failures++
	if t.failures < 10*t.logged {
		return false
	}
	t.logged = t.failures
	return true
}
