package decode_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/grid"
)

// describer is a server that says what it is.
type describer struct {
	*memServer
	err error
}

func (d describer) Describe(ctx context.Context) (grid.Description, error) {
	if d.onShares != nil {
		if err := d.onShares(ctx); err != nil {
			return grid.Description{}, err
		}
	}
	return grid.Description{Software: "memory/1.0", Free: 1000}, d.err
}

// after takes that long to answer.
func after(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newGrid(6)
		c := put(t, mem[:2], plaintext(10_000), decode.PutOptions{K: 2, N: 4, SegmentSize: 1 << 10})
		v, _ := c.Verifier()
		mem[0].onShares = after(20 * time.Millisecond)
		mem[1].onShares = after(30 * time.Millisecond)
		mem[3].onShares = func(context.Context) error { return errors.New("down") }
		mem[4].onShares = hang
		mem[5].onShares = after(700 * time.Millisecond) // in time once, but not as often as it is asked
		servers := []decode.Server{
			{Server: describer{memServer: mem[0]}, Nickname: "first"},
			{Server: mem[1]},
			{Server: describer{mem[2], errors.New("no words")}},
			{Server: mem[3]},
			{Server: mem[4]},
			{Server: mem[5]},
		}
		client := newClient(t, decode.Config{Servers: servers, Timeout: time.Second})
		for _, file := range []*caps.Verifier{nil, &v} {
			start := time.Now()
			pings, err := client.Ping(t.Context(), file)
			if err != nil || time.Since(start) != time.Second {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			for i, want := range []decode.ServerPing{
				{Server: "first", Latency: 20 * time.Millisecond, Software: "memory/1.0", Free: 1000, Shares: []int{0, 2}},
				{Server: "s1", Latency: 30 * time.Millisecond, Free: -1, Shares: []int{1, 3}},
				{Server: "s2", Err: errors.New("no words"), Free: -1},
				{Server: "s3", Err: errors.New("down"), Free: -1},
				{Server: "s4", Err: errors.New("no answer within"), Free: -1},
				{Server: "s5", Err: errors.New("no answer within"), Free: -1},
			} {
				if file == nil {
					want.Shares = nil
				}
				got := pings[i]
				if got.Server != want.Server || got.Latency != want.Latency || got.Software != want.Software || got.Free != want.Free ||
					!slices.Equal(got.Shares, want.Shares) || (got.Shares == nil) != (want.Shares == nil) ||
					(got.Err == nil) != (want.Err == nil) || want.Err != nil && !strings.HasPrefix(got.Err.Error(), want.Err.Error()) {
					t.Errorf("server %d: %+v, want %+v", i, got, want)
				}
			}
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := client.Ping(cancelled, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		client.Close()
		if _, err := client.Ping(t.Context(), nil); !errors.Is(err, decode.ErrClosed) {
			t.Error(err)
		}
	})
}
