package decode_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/decodetest"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
)

// TestStatus: of a file that is being opened one can tell whom it waits for, since when, and what
// the others did.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := gridtest.New(5)
		c := put(t, mem, decodetest.Plaintext(10_000), putOptions{K: 3, N: 5, SegmentSize: 1 << 10})
		hold := make(chan struct{})
		mem[1].OnShares = func(ctx context.Context) error {
			select {
			case <-hold:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		mem[2].OnShares = gridtest.Hang
		mem[3].OnShares = func(context.Context) error { return errors.New("down") }
		client := newClient(t, config{Servers: decodetest.Servers(mem), Timeout: time.Minute})
		if st, ok := client.Status(c.ID()); ok {
			t.Errorf("of a file that nobody opened: %+v", st)
		}
		var f *decode.File
		opened := make(chan error)
		began := time.Now()
		go func() {
			var err error
			f, err = client.Open(t.Context(), c)
			opened <- err
		}()
		time.Sleep(12 * time.Second) // of the bubble's own time
		check := func(found []grid.SharePlace, failed, waiting []string, when ...time.Time) {
			t.Helper()
			st, ok := client.Status(c.ID())
			var gotFailed, gotWaiting []string
			var gotWhen []time.Time
			for _, e := range st.Failed {
				gotFailed, gotWhen = append(gotFailed, e.Error()), append(gotWhen, e.When)
			}
			for _, w := range st.Waiting {
				gotWaiting, gotWhen = append(gotWaiting, w.Server), append(gotWhen, w.Since)
			}
			if !ok || st.Needed != 3 || st.Total != 5 || len(st.Bad) > 0 || !slices.Equal(st.Found, found) ||
				!slices.Equal(gotFailed, failed) || !slices.Equal(gotWaiting, waiting) || !slices.Equal(gotWhen, when) {
				t.Errorf("%+v", st)
			}
		}
		check([]grid.SharePlace{{Share: 0, Server: "s0"}, {Share: 4, Server: "s4"}}, []string{"s3: down"}, []string{"s1", "s2"}, began, began, began)
		close(hold)
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
		check([]grid.SharePlace{{Share: 0, Server: "s0"}, {Share: 1, Server: "s1"}, {Share: 4, Server: "s4"}}, []string{"s3: down"}, []string{"s2"}, began, began)

		// A server that fails in the middle has no share that may be used, until it answers again.
		synctest.Wait()
		mem[4].OnRead = func(context.Context, int, int64) error { return errors.New("on fire") }
		failed := make(chan error)
		go func() { failed <- f.WriteChunks(t.Context(), 0, 1, decodetest.NewSink(f.Size())) }()
		synctest.Wait()
		st, _ := client.Status(c.ID())
		if len(st.Found) != 2 || len(st.Failed) != 2 || st.Failed[1].Server != "s4" || st.Failed[1].When.Before(began.Add(12*time.Second)) {
			t.Errorf("%+v", st)
		}
		f.Close()
		if err := <-failed; err == nil {
			t.Error("two shares were enough")
		}
		if st, ok := client.Status(c.ID()); ok {
			t.Errorf("of a file that is closed: %+v", st)
		}
	})
}
