package decode_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/decodetest"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
	"spillway/decode/hashtree"
)

// tenServers returns a file of several chunks, one share on each of ten servers.
func tenServers(t *testing.T) ([]*gridtest.Faulty, caps.Cap, []byte) {
	t.Helper()
	servers, data := gridtest.New(10), decodetest.Plaintext(2_500_000)
	return servers, put(t, servers, data, putOptions{SegmentSize: 131072}), data
}

func TestFrozenServersDoNotDelayOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, data := tenServers(t)
		for _, i := range []int{0, 1, 2, 3, 4, 5, 6} {
			servers[i].OnShares = gridtest.Hang
		}
		start := time.Now()
		got, err := decodetest.Get(t.Context(), newClient(t, config{Servers: decodetest.Servers(servers)}), c)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it waited %v", d)
		}
	})
}

// TestFrozenReads freezes three servers after the file has been opened.
func TestFrozenReads(t *testing.T) {
	for _, frozen := range [][]int{{0}, {0, 1, 2}, {0, 4, 5, 6, 7, 8, 9}, {3, 4, 5, 6, 7, 8, 9}} {
		synctest.Test(t, func(t *testing.T) {
			servers, c, data := tenServers(t)
			client := newClient(t, config{Servers: decodetest.Servers(servers)})
			f, err := client.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			synctest.Wait() // the hooks may change when nobody reads
			for _, i := range frozen {
				servers[i].OnRead = func(ctx context.Context, _ int, _ int64) error { return gridtest.Hang(ctx) }
			}
			start := time.Now()
			got, err := decodetest.ReadAll(t.Context(), f)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%v frozen: %v", frozen, err)
			}
			// Once the frozen ones are known they are not asked again: patience is
			// lost once for the hash tree and, share after share, for the blocks.
			if d := time.Since(start); d > 40*time.Second {
				t.Errorf("%v frozen: it took %v", frozen, d)
			}
		})
	}
}

// TestReadTimeout: a server that nobody can replace and that has gone silent is given up when its
// time is over, named, and asked again.
func TestReadTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, data := tenServers(t)
		decodetest.Keep(servers, decodetest.StorageIndex(t, c), func(num int) bool { return num < 3 })
		var log decodetest.LogBook
		client := newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger(), Timeout: 20 * time.Second})
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.WriteChunks(t.Context(), 0, 1, decodetest.NewSink(f.Size())); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the hooks may change when nobody reads
		var silent atomic.Bool
		silent.Store(true)
		servers[1].OnRead = func(ctx context.Context, _ int, _ int64) error {
			if !silent.Load() {
				return nil
			}
			defer silent.Store(false)
			return gridtest.Hang(ctx)
		}
		start := time.Now()
		got, err := decodetest.ReadAll(t.Context(), f)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
		if d := time.Since(start); d < 20*time.Second || d > time.Minute {
			t.Errorf("it took %v", d)
		}
		if len(log.Lines("server failed", "server=s1", "no answer within the time allowed")) != 1 {
			t.Errorf("the log:\n%s", log.B.String())
		}
	})
}

// TestAllSlow: a grid that is slower than our patience, everywhere, is read nevertheless.
func TestAllSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, data := tenServers(t)
		for _, s := range servers {
			s.OnRead = func(ctx context.Context, _ int, _ int64) error {
				select {
				case <-time.After(8 * time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		for _, kept := range [][]int{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {7, 8, 9}} {
			decodetest.Keep(servers, decodetest.StorageIndex(t, c), func(num int) bool { return slices.Contains(kept, num) })
			got, err := decodetest.Get(t.Context(), newClient(t, config{Servers: decodetest.Servers(servers)}), c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("shares %v: %v", kept, err)
			}
		}
	})
}

func TestNotEnoughShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, _ := tenServers(t)
		decodetest.Keep(servers, decodetest.StorageIndex(t, c), func(num int) bool { return num == 2 || num == 7 })
		broken := errors.New("broken on purpose")
		servers[0].OnShares = func(context.Context) error { return broken }
		servers[1].OnShares = gridtest.Hang
		var log decodetest.LogBook
		client := newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger()})
		_, err := client.Open(t.Context(), c)
		var missing *decode.NotEnoughSharesError
		if !errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%v", err)
		}
		if !slices.Equal(missing.Found, []grid.SharePlace{{Share: 2, Server: "s2"}, {Share: 7, Server: "s7"}}) &&
			!slices.Equal(missing.Found, []grid.SharePlace{{Share: 7, Server: "s7"}, {Share: 2, Server: "s2"}}) {
			t.Errorf("found %v", missing.Found)
		}
		if len(missing.Failed) != 2 || missing.Failed[0].Server != "s0" || !errors.Is(missing.Failed[0].Err, broken) || missing.Failed[1].Server != "s1" {
			t.Errorf("failed %v", missing.Failed)
		}
		if len(log.Lines("server failed", "server=s0", "broken on purpose")) != 1 || len(log.Lines("server failed", "server=s1", "no answer")) != 1 {
			t.Errorf("the log:\n%s", log.B.String())
		}
		if n := client.Stats().ServerErrors; n != 2 {
			t.Errorf("%d server errors", n)
		}
	})
}

// TestNoShares: everybody answers, nobody has anything.
func TestNoShares(t *testing.T) {
	c, err := caps.Parse(chkText)
	if err != nil {
		t.Fatal(err)
	}
	_, err = newClient(t, config{Servers: decodetest.Servers(gridtest.New(3))}).Open(t.Context(), c)
	if want := "decode: not enough shares: 3 of 10 needed, 0 usable"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// TestFailEveryOperation fails the first read of the grid, then the second,
// and so on, until a download meets none: every one must succeed.
func TestFailEveryOperation(t *testing.T) {
	servers, data := gridtest.New(10), decodetest.Plaintext(300_000)
	c := put(t, servers, data, putOptions{SegmentSize: 20_000})
	broken := errors.New("broken on purpose")
	for nth := int64(1); ; nth++ {
		var count, failed atomic.Int64
		fault := func(context.Context) error {
			if count.Add(1) == nth {
				failed.Add(1)
				return broken
			}
			return nil
		}
		for _, s := range servers {
			s.OnShares = fault
			s.OnOpen = func(ctx context.Context, _ int) error { return fault(ctx) }
			s.OnRead = func(ctx context.Context, _ int, _ int64) error { return fault(ctx) }
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers)})
		got, err := decodetest.Get(t.Context(), client, c)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("operation %d failed: %v", nth, err)
		}
		if failed.Load() == 0 {
			if nth < 20 {
				t.Errorf("only %d operations", nth)
			}
			return
		}
	}
}

// TestCulprits damages shares in ways that only together make it hard to find the culprit.
func TestCulprits(t *testing.T) {
	data, c, shares, a := corruptFile(t, 1)
	si := decodetest.StorageIndex(t, c)
	badBlock := func(b []byte) { b[int(a.Data)+5*a.blockSize] ^= 1 }
	badTree := func(b []byte) { b[int(a.BlockTree)+31*32] ^= 1 }
	badChain := func(b []byte) { b[int(a.ShareChain)+5] ^= 1 }
	badOwn := func(b []byte) { badBlock(b); badTree(b) }
	for name, test := range map[string]struct {
		damage map[int]func(b []byte)
		nums   []int
		ok     bool
	}{
		"another cannot be proven":       {map[int]func([]byte){0: badBlock, 1: badTree, 2: badChain}, []int{0, 1, 2, 3}, true},
		"the culprit cannot be proven":   {map[int]func([]byte){0: badOwn}, []int{0, 1, 2, 3}, true},
		"parity":                         {map[int]func([]byte){7: badBlock, 8: badBlock}, []int{5, 6, 7, 8, 9}, true},
		"seven bad":                      {map[int]func([]byte){0: badBlock, 1: badBlock, 2: badOwn, 3: badBlock, 4: badOwn, 5: badBlock, 6: badBlock}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, true},
		"eight bad":                      {map[int]func([]byte){0: badBlock, 1: badBlock, 2: badOwn, 3: badBlock, 4: badOwn, 5: badBlock, 6: badBlock, 7: badBlock}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, false},
		"bad in one chunk, good in rest": {map[int]func([]byte){0: badBlock, 1: func(b []byte) { b[int(a.Data)+17*a.blockSize] ^= 1 }}, []int{0, 1, 2, 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			servers := gridtest.New(1)
			lay(servers[0], si, shares, test.nums, nil)
			for num, damage := range test.damage {
				damage(servers[0].Held[si][num])
			}
			got, err := decodetest.Get(t.Context(), newClient(t, config{Servers: decodetest.Servers(servers)}), c)
			var missing *decode.NotEnoughSharesError
			if test.ok && (err != nil || !bytes.Equal(got, data)) || !test.ok && !errors.As(err, &missing) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestInconsistentUpload: the blocks are proven right by a UEB that promises
// another crypttext. No share is at fault.
func TestInconsistentUpload(t *testing.T) {
	servers := gridtest.New(1)
	c := put(t, servers, decodetest.Plaintext(100_000), putOptions{SegmentSize: 30_000})
	si := decodetest.StorageIndex(t, c)
	other := gridtest.New(1)
	d := put(t, other, bytes.Repeat([]byte("x"), 100_000), putOptions{SegmentSize: 30_000})
	theirs := other[0].Held[decodetest.StorageIndex(t, d)]
	var forged []byte
	for num, b := range servers[0].Held[si] {
		head, err := chk.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		from, err := chk.ParseUEB(theirs[num][head.UEB+4:], 100_000, 3, 10)
		if err != nil {
			t.Fatal(err)
		}
		ueb, err := chk.ParseUEB(b[head.UEB+4:], 100_000, 3, 10)
		if err != nil {
			t.Fatal(err)
		}
		ueb.CrypttextRootHash = from.CrypttextRootHash
		forged = ueb.Marshal()
		copy(b[head.UEB+4:], forged)
		copy(b[head.CrypttextTree:head.BlockTree], theirs[num][head.CrypttextTree:head.BlockTree])
	}
	c = withUEBHash(t, c, chk.Hash(forged))
	var log decodetest.LogBook
	client := newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger()})
	if _, err := decodetest.Get(t.Context(), client, c); !errors.Is(err, decode.ErrInconsistent) {
		t.Errorf("%v", err)
	}
	if lines := log.Lines("corrupt share"); lines != nil {
		t.Errorf("blamed: %q", lines)
	}
	// A UEB that contradicts the cap.
	for _, b := range servers[0].Held[si] {
		head, err := chk.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		forged = bytes.Replace(b[head.UEB+4:], []byte("needed_shares:1:3,"), []byte("needed_shares:1:4,"), 1)
		copy(b[head.UEB+4:], forged)
	}
	c = withUEBHash(t, c, chk.Hash(forged))
	if _, err := client.Open(t.Context(), c); !errors.Is(err, decode.ErrInconsistent) || !strings.Contains(err.Error(), "UEB contradicts its cap") {
		t.Errorf("%v", err)
	}
}

// withUEBHash returns a cap of the same key with another UEB hash.
func withUEBHash(t *testing.T, c caps.Cap, hash hashtree.Hash) caps.Cap {
	t.Helper()
	parts := bytes.Split([]byte(c.Reveal()), []byte(":"))
	parts[3] = []byte(grid.Base32(hash[:]))
	changed, err := caps.Parse(string(bytes.Join(parts, []byte(":"))))
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestCloseWhileFrozen closes the Client under an Open and under a WriteChunks that gridtest.Hang.
func TestCloseWhileFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, _ := tenServers(t)
		freeze := func(ctx context.Context, _ int, _ int64) error { return gridtest.Hang(ctx) }
		client, members := config{Servers: decodetest.Servers(servers)}.open(t)
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, s := range servers {
			s.OnShares, s.OnRead = gridtest.Hang, freeze
		}
		other, _ := caps.Parse(chkText)
		errs := make(chan error)
		go func() { errs <- f.WriteChunks(t.Context(), 0, 1, decodetest.NewSink(f.Size())) }()
		go func() {
			_, err := client.Open(t.Context(), other)
			errs <- err
		}()
		synctest.Wait()
		if n := client.Stats().MemoryInUse; n == 0 {
			t.Error("no memory in use")
		}
		go func() {
			client.Close()
			members.Close()
			errs <- decode.ErrClosed
		}()
		for range 3 {
			if err := <-errs; !errors.Is(err, decode.ErrClosed) {
				t.Errorf("%v", err)
			}
		}
		if n := client.Stats().MemoryInUse; n != 0 {
			t.Errorf("%d bytes in use", n)
		}
		if err := f.WriteChunks(t.Context(), 0, 1, decodetest.NewSink(f.Size())); !errors.Is(err, decode.ErrClosed) {
			t.Errorf("%v", err)
		}
		if _, err := client.Open(t.Context(), c); !errors.Is(err, decode.ErrClosed) {
			t.Errorf("%v", err)
		}
		for _, s := range servers {
			if s.Opened != 0 {
				t.Errorf("%s: %d shares are left open", s, s.Opened)
			}
		}
	})
}

// TestCancel: a caller who leaves gets the context's error, and nobody is blamed.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, data := tenServers(t)
		var log decodetest.LogBook
		client := newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger()})
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		for _, s := range servers {
			s.OnRead = func(ctx context.Context, _ int, _ int64) error { return gridtest.Hang(ctx) }
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.WriteChunks(ctx, 0, 1, decodetest.NewSink(f.Size())); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if log.Lines("level=WARN") != nil {
			t.Errorf("the log: %s", log.B.String())
		}
		synctest.Wait()
		for _, s := range servers {
			s.OnRead = nil
		}
		if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
	})
}
