package fleet_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
)

// describer is a server that says what it is.
type describer struct {
	*gridtest.Faulty
	err error
}

func (d describer) Describe(ctx context.Context) (grid.Description, error) {
	if d.OnShares != nil {
		if err := d.OnShares(ctx); err != nil {
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
		mem := gridtest.New(6)
		si := grid.StorageIndex{1}
		mem[0].Held[si] = map[int][]byte{0: {0}, 2: {0}}
		mem[1].Held[si] = map[int][]byte{1: {0}, 3: {0}}
		mem[0].OnShares = after(20 * time.Millisecond)
		mem[1].OnShares = after(30 * time.Millisecond)
		mem[3].OnShares = func(context.Context) error { return errors.New("down") }
		mem[4].OnShares = gridtest.Hang
		// in time once, but not as often as it is asked
		mem[5].OnShares = after(700 * time.Millisecond)
		servers := []fleet.Server{
			{Server: describer{Faulty: mem[0]}, Nickname: "first"},
			{Server: mem[1]},
			{Server: describer{mem[2], errors.New("no words")}},
			{Server: mem[3]},
			{Server: mem[4]},
			{Server: mem[5]},
		}
		members := newFleet(t, fleet.Config{Servers: servers, Timeout: time.Second})
		for _, file := range []*grid.StorageIndex{nil, &si} {
			start := time.Now()
			pings, err := members.Ping(t.Context(), file)
			if err != nil || time.Since(start) != time.Second {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
			for i, want := range []fleet.PingResult{
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
		if _, err := members.Ping(cancelled, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		members.Close()
		if _, err := members.Ping(t.Context(), nil); !errors.Is(err, fleet.ErrClosed) {
			t.Error(err)
		}
	})
}
