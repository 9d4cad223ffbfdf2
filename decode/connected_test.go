package decode_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/gridtest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// connector counts how often it is connected to.
type connector struct {
	*gridtest.Faulty
	onConnect func(context.Context) error
	connects  atomic.Int64
}

func (c *connector) Connect(ctx context.Context) error {
	c.connects.Add(1)
	if c.onConnect != nil {
		return c.onConnect(ctx)
	}
	return nil
}

// TestStayConnected uses the connections to servers every twenty seconds, save those that were read
// from or are in doubt; servers that say nothing keep nobody waiting.
func TestStayConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, data := gridtest.New(6), decodetest.Plaintext(10_000)
		c := put(t, mem[:4], data, putOptions{K: 2, N: 4, SegmentSize: 1 << 10})
		servers := make([]*connector, len(mem))
		var cfg config
		for i, m := range mem {
			servers[i] = &connector{Faulty: m}
			cfg.Servers = append(cfg.Servers, fleet.Server{Server: servers[i]})
		}
		servers[4].onConnect = gridtest.Hang
		servers[5].onConnect = func(context.Context) error { return errors.New("down") }
		// has no connections
		cfg.Servers = append(cfg.Servers, fleet.Server{Server: gridtest.New(7)[6]})
		client, members := cfg.open(t)
		counts := func() (n []int64) {
			for _, s := range servers {
				n = append(n, s.connects.Load())
			}
			return n
		}
		check := func(want ...int64) {
			t.Helper()
			synctest.Wait()
			if got := counts(); !slices.Equal(got, want) {
				t.Errorf("connected %d times, want %d", got, want)
			}
		}
		ended := make(chan struct{})
		go func() {
			members.StayConnected(t.Context())
			close(ended)
		}()
		check(1, 1, 1, 1, 1, 1)
		time.Sleep(45 * time.Second)
		check(3, 3, 3, 3, 3, 3)

		mem[3].OnShares = func(context.Context) error { return errors.New("down") }
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		f.Close()
		time.Sleep(20 * time.Second)
		check(3, 3, 3, 4, 3, 3) // all have said which shares they have, or failed a second ago
		time.Sleep(20 * time.Second)
		check(4, 4, 4, 5, 4, 4)

		client.Close()
		members.Close()
		<-ended
		members.StayConnected(t.Context())
		check(4, 4, 4, 5, 4, 4)
	})
}
