package decode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"spillway/decode"
	"spillway/decode/grid"
)

// reporter is a server that can be told of corrupt shares.
type reporter struct {
	*memServer
	onReport func(ctx context.Context) error // if not nil, its error is the result

	mu    sync.Mutex
	heard []string
	told  chan struct{} // gets a token for each report
}

func (r *reporter) ReportCorrupt(ctx context.Context, si grid.StorageIndex, num int, reason string) error {
	r.mu.Lock()
	r.heard = append(r.heard, fmt.Sprintf("%v/%d: %s", si, num, reason))
	r.mu.Unlock()
	r.told <- struct{}{}
	if r.onReport != nil {
		return r.onReport(ctx)
	}
	return nil
}

// TestAdvise: servers are told of corrupt shares, once, and nobody waits for that.
func TestAdvise(t *testing.T) {
	for name, onReport := range map[string]func(ctx context.Context) error{
		"heard":   nil,
		"refused": func(context.Context) error { return errors.New("broken on purpose") },
		"frozen":  hang,
	} {
		t.Run(name, func(t *testing.T) {
			servers, data := newGrid(1), plaintext(300_000)
			c := put(t, servers, data, decode.PutOptions{K: 2, N: 4, SegmentSize: 1000})
			si := storageIndex(t, c)
			for _, num := range []int{0, 1} {
				b := servers[0].shares[si][num]
				for at := 100; at < len(b)/2; at += 500 {
					b[at] ^= 1
				}
			}
			r := &reporter{memServer: servers[0], onReport: onReport, told: make(chan struct{}, 100)}
			var log logBook
			client, err := decode.New(decode.Config{Servers: []decode.Server{{Server: r}}, Log: log.logger()})
			if err != nil {
				t.Fatal(err)
			}
			f, err := client.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got, err := readAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v", err)
				}
			}
			want := 2
			if name == "frozen" {
				want = 1
			}
			for range want {
				<-r.told
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			slices.Sort(r.heard)
			if len(r.heard) != want || (want == 2 && (r.heard[0] == r.heard[1] || r.heard[0] != fmt.Sprintf("%v/0: block 0: it does not match its hash", si))) {
				t.Errorf("%q", r.heard)
			}
			if n := len(log.lines("not told", "broken on purpose")); (name == "refused") != (n > 0) {
				t.Errorf("the log:\n%s", log.b.String())
			}
		})
	}
}
