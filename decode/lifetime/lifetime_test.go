package lifetime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"spillway/decode/lifetime"
)

var errOver = errors.New("over")

// TestEnd: what is under way is cancelled with the cause and waited for, what comes later is
// refused.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lifetime.New(t.Context(), errOver)
		var causes []error
		release := make(chan struct{})
		if err := l.Go(func(ctx context.Context) {
			<-ctx.Done()
			causes = append(causes, context.Cause(ctx))
			<-release
		}); err != nil {
			t.Fatal(err)
		}
		joined, done, err := l.Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan bool, 2)
		for range 2 {
			go func() { ended <- l.End() }()
		}
		synctest.Wait()
		if !errors.Is(context.Cause(joined), errOver) || len(causes) != 1 || !errors.Is(causes[0], errOver) {
			t.Errorf("ended with %v and %v", context.Cause(joined), causes)
		}
		if _, _, err := l.Join(t.Context()); !errors.Is(err, errOver) {
			t.Errorf("a call that came later: %v", err)
		}
		if err := l.Go(func(context.Context) { t.Error("it runs") }); !errors.Is(err, errOver) {
			t.Errorf("a goroutine that came later: %v", err)
		}
		done()
		synctest.Wait()
		if len(ended) != 0 {
			t.Error("nobody waited for the goroutine")
		}
		close(release)
		if a, b := <-ended, <-ended; a == b {
			t.Errorf("both were the first to end it, or none: %v", a)
		}
	})
}

// TestJoined: the first context to end ends it, with its cause.
func TestJoined(t *testing.T) {
	for _, first := range []string{"caller", "owner"} {
		synctest.Test(t, func(t *testing.T) {
			caller, endCaller := context.WithCancelCause(t.Context())
			owner, endOwner := context.WithCancelCause(t.Context())
			defer endOwner(nil)
			defer endCaller(nil)
			ctx, done := lifetime.Joined(caller, owner)
			defer done()
			why := errors.New(first)
			if first == "owner" {
				endOwner(why)
			} else {
				endCaller(why)
			}
			synctest.Wait()
			if !errors.Is(context.Cause(ctx), why) {
				t.Errorf("ended by the %s with %v", first, context.Cause(ctx))
			}
		})
	}
}
