package decode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
	"spillway/decode/hashtree"
)

// reporter is a server that can be told of corrupt shares.
type reporter struct {
	*gridtest.Faulty
	onReport func(ctx context.Context) error // if not nil, its error is the result

	mu    sync.Mutex
	heard []string
}

func (r *reporter) ReportCorrupt(ctx context.Context, si grid.StorageIndex, num int, reason string) error {
	r.mu.Lock()
	r.heard = append(r.heard, fmt.Sprintf("%v/%d: %s", si, num, reason))
	r.mu.Unlock()
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
		"frozen":  gridtest.Hang,
	} {
		t.Run(name, func(t *testing.T) {
			servers, data := gridtest.New(1), decodetest.Plaintext(300_000)
			c := put(t, servers, data, putOptions{K: 2, N: 4, SegmentSize: 1000})
			si := decodetest.StorageIndex(t, c)
			for _, num := range []int{0, 1} {
				b := servers[0].Held[si][num]
				for at := 100; at < len(b)/2; at += 500 {
					b[at] ^= 1
				}
			}
			r := &reporter{Faulty: servers[0], onReport: onReport}
			var log decodetest.LogBook
			client, members := config{Servers: []fleet.Server{{Server: r}}, Log: log.Logger()}.open(t)
			for range 2 {
				if got, err := decodetest.Get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v", err)
				}
			}
			want := 2
			if name == "frozen" {
				want = 1
			}
			if err := errors.Join(client.Close(), members.Close()); err != nil {
				t.Error(err)
			}
			slices.Sort(r.heard)
			if len(r.heard) != want || (want == 2 && (r.heard[0] == r.heard[1] || r.heard[0] != fmt.Sprintf("%v/0: block 0: it does not match its hash", si))) {
				t.Errorf("%q", r.heard)
			}
			if n := len(log.Lines("not told", "broken on purpose")); (name == "refused") != (n > 0) {
				t.Errorf("the log:\n%s", log.B.String())
			}
		})
	}
}

// TestCheckAdvises: who checks a file has the servers told as well, before the Client is closed.
func TestCheckAdvises(t *testing.T) {
	servers := gridtest.New(1)
	c := put(t, servers, decodetest.Plaintext(300_000), putOptions{K: 2, N: 4, SegmentSize: 1000})
	b := servers[0].Held[decodetest.StorageIndex(t, c)][3]
	b[len(b)/4] ^= 1
	r := &reporter{Faulty: servers[0]}
	client, members := config{Servers: []fleet.Server{{Server: r}}}.open(t)
	for range 2 {
		if report, err := client.Check(t.Context(), decodetest.Verifier(t, c)); err != nil || report.GoodDistinct != 3 {
			t.Errorf("%+v, %v", report, err)
		}
	}
	if err := errors.Join(client.Close(), members.Close()); err != nil {
		t.Error(err)
	}
	if len(r.heard) != 1 {
		t.Errorf("told %q", r.heard)
	}
}

// TestAdviseProven: a cap that names another UEB than the shares have is no proof that they are
// corrupt. Nobody is told, and no log says so.
func TestAdviseProven(t *testing.T) {
	servers := gridtest.New(1)
	c := put(t, servers, decodetest.Plaintext(300_000), putOptions{K: 2, N: 4, SegmentSize: 1000})
	r := &reporter{Faulty: servers[0]}
	var log decodetest.LogBook
	client, members := config{Servers: []fleet.Server{{Server: r}}, Log: log.Logger()}.open(t)
	var missing *decode.NotEnoughSharesError
	if _, err := client.Open(t.Context(), withUEBHash(t, c, hashtree.Hash{1})); !errors.As(err, &missing) || len(missing.Bad) == 0 {
		t.Errorf("%v", err)
	}
	if err := errors.Join(client.Close(), members.Close()); err != nil {
		t.Error(err)
	}
	if len(r.heard) != 0 || len(log.Lines("corrupt share")) != 0 || client.Stats().CorruptShares != 0 {
		t.Errorf("told %q, %d shares are said to be corrupt; the log:\n%s", r.heard, client.Stats().CorruptShares, log.B.String())
	}
}

// TestAdvisedFirst: who sees a file open finds in the log what was wrong with the shares that were
// looked at until then, however long the log takes, and whoever answers meanwhile.
func TestAdvisedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers := gridtest.New(2)
		c := put(t, servers[:1], decodetest.Plaintext(300_000), putOptions{K: 2, N: 4, SegmentSize: 1000})
		b := servers[0].Held[decodetest.StorageIndex(t, c)][0]
		b[len(b)-1] ^= 1 // of its UEB
		servers[1].OnShares = func(context.Context) error { time.Sleep(time.Second); return nil }
		var log decodetest.LogBook
		slow := slog.New(slog.NewTextHandler(slowWriter{&log}, nil))
		client := newClient(t, config{Servers: decodetest.Servers(servers), Log: slow})
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if lines := log.Lines("corrupt share", "part=UEB"); len(lines) != 1 {
			t.Errorf("%q", lines)
		}
	})
}

// slowWriter takes a minute for each line.
type slowWriter struct{ io.Writer }

func (w slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Minute)
	return w.Writer.Write(p)
}
