package decode_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode/decodetest"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
)

// TestLastHopeComesBack: a server that failed is waited for while it is asked again, where no other
// has what is missing.
func TestLastHopeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, data := gridtest.New(3), decodetest.Plaintext(100_000)
		c := put(t, servers, data, putOptions{K: 2, N: 3, SegmentSize: 10_000})
		b := servers[1].Held[decodetest.StorageIndex(t, c)][1]
		for at := 100; at < len(b)/2; at += 500 {
			b[at] ^= 1
		}
		began := time.Now()
		servers[2].OnShares = func(ctx context.Context) error {
			if time.Since(began) < 1500*time.Millisecond {
				return errors.New("down")
			}
			time.Sleep(100 * time.Millisecond)
			return nil
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers)})
		if got, err := decodetest.Get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// refusing is a server that says which shares it holds and fails nevertheless.
type refusing struct{ *gridtest.Faulty }

func (r refusing) Shares(ctx context.Context, si grid.StorageIndex) ([]int, error) {
	nums, _ := r.Faulty.Shares(ctx, si)
	return nums, errors.New("the list ends too early")
}

// TestListsThatFailed: what stands in a list that ends in an error is not used.
func TestListsThatFailed(t *testing.T) {
	servers := gridtest.New(1)
	c := put(t, servers, decodetest.Plaintext(10_000), putOptions{K: 1, N: 2, SegmentSize: 10_000})
	list := decodetest.Servers(servers)
	list[0].Server = refusing{servers[0]}
	client := newClient(t, config{Servers: list})
	if f, err := client.Open(t.Context(), c); err == nil {
		t.Error("it is opened")
		f.Close()
	}
}
