package transporttest

import (
	"context"
	"testing"
	"time"
)

// Await waits until something is so that another goroutine brings about, for a minute at most.
func Await(t testing.TB, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !is() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("it is not so that %s", what)
		}
	}
}
