package decode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/decodetest"
	"spillway/decode/grid/gridtest"
)

// requests counts what servers are asked, and lets each request take a round trip.
type requests struct {
	roundTrip time.Duration
	count     atomic.Int64
}

func (r *requests) pass(ctx context.Context) error {
	r.count.Add(1)
	select {
	case <-time.After(r.roundTrip):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// knownServers returns ten servers, each with a share of each of two files, and a Client that has
// read the second one and so knows how far away they are.
func knownServers(t *testing.T, roundTrip time.Duration, opts putOptions) (servers []*gridtest.Faulty, c caps.Cap, data []byte, client *decode.Client, r *requests, log *decodetest.LogBook) {
	t.Helper()
	servers, data = gridtest.New(10), decodetest.Plaintext(1_500_000)
	c = put(t, servers, data, opts)
	other := put(t, servers, decodetest.Plaintext(1000), putOptions{})
	r, log = &requests{roundTrip: roundTrip}, &decodetest.LogBook{}
	for _, s := range servers {
		s.OnShares = r.pass
		s.OnRead = func(ctx context.Context, _ int, _ int64) error { return r.pass(ctx) }
	}
	client = newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger()})
	if _, err := decodetest.Get(t.Context(), client, other); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	r.count.Store(0)
	return servers, c, data, client, r, log
}

// firstChunk opens the file and reads its first chunk, and returns how long that takes.
func firstChunk(t *testing.T, client *decode.Client, c caps.Cap, data []byte) (*decode.File, time.Duration) {
	t.Helper()
	start := time.Now()
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := decodetest.NewSink(f.Size())
	if err := f.WriteChunks(t.Context(), 0, 1, s); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	if n := f.ChunkSize(); !bytes.Equal(s.Bytes[:n], data[:n]) {
		t.Error("wrong bytes")
	}
	return f, took
}

// TestFirstChunkAtHand: servers at hand are asked for nothing before the first chunk that it does
// not need: k lists, a UEB and k reads of blocks. All are asked for their shares a little later.
func TestFirstChunkAtHand(t *testing.T) {
	const roundTrip = 3 * time.Millisecond
	for name, test := range map[string]struct {
		opts     putOptions
		requests int64
		trips    time.Duration
	}{
		"usual":                    {putOptions{}, 7, 3},
		"usual of older uploaders": {putOptions{SegmentSize: 128 << 10}, 8, 4},
		// two guesses, header, UEB, two headers, hashes
		"unusual segments":          {putOptions{SegmentSize: 100_000}, 16, 7},
		"unusual layout":            {putOptions{layout: 2}, 16, 7},
		"as many shares as can be":  {putOptions{K: 5, N: 256}, 11, 3},
		"every share on one server": {putOptions{K: 1, N: 10}, 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers, c, data, client, r, log := knownServers(t, roundTrip, test.opts)
				f, took := firstChunk(t, client, c, data)
				if n := r.count.Load(); n > test.requests || took > test.trips*roundTrip {
					t.Errorf("%d requests and %v; %d and %v are enough", n, took, test.requests, test.trips*roundTrip)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				for _, s := range servers {
					if s.Asked != 2 {
						t.Errorf("%s was asked %d times for its shares of two files", s, s.Asked)
					}
				}
				if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v", err)
				}
				f.Close()
				if log.B.String() != "" {
					t.Errorf("the log: %s", log.B.String())
				}
			})
		})
	}
}

// TestFirstChunkFarAway: the first chunk of a file on servers far away takes two round trips, if
// all is as usual.
func TestFirstChunkFarAway(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	for name, test := range map[string]struct {
		opts  putOptions
		first int64
		trips time.Duration
	}{
		"usual":                    {putOptions{}, 0, 2},
		"usual of older uploaders": {putOptions{SegmentSize: 128 << 10}, 0, 2},
		// lists, headers, UEB, hashes
		"unusual segments": {putOptions{SegmentSize: 100_000}, 0, 4},
		// and a header more for the hashes
		"unusual layout": {putOptions{layout: 2}, 0, 5},
		"not the first":  {putOptions{}, 1, 3},
		"shares of 256":  {putOptions{K: 5, N: 256}, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers, c, data, client, _, log := knownServers(t, roundTrip, test.opts)
				start := time.Now()
				f, err := client.Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				s := decodetest.NewSink(f.Size())
				if err := f.WriteChunks(t.Context(), test.first, 1, s); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > test.trips*roundTrip {
					t.Errorf("it took %v", took)
				}
				off := test.first * f.ChunkSize()
				end := min(off+f.ChunkSize(), f.Size())
				if !bytes.Equal(s.Bytes[off:end], data[off:end]) {
					t.Error("wrong bytes")
				}
				if n := client.Stats().MemoryInUse; n != 0 {
					t.Errorf("%d bytes in use", n)
				}
				if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v", err)
				}
				f.Close()
				for _, s := range servers {
					if s.Opened != 0 {
						t.Errorf("%s: %d shares are left open", s, s.Opened)
					}
				}
				if log.B.String() != "" {
					t.Errorf("the log: %s", log.B.String())
				}
			})
		})
	}
}

// TestReadEarlyInVain: a file that is closed, or whose memory is wanted, before anything is read of
// it.
func TestReadEarlyInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, _, client, _, _ := knownServers(t, 100*time.Millisecond, putOptions{})
		for _, wait := range []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			f, err := client.Open(ctx, c)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if err == nil {
				f.Close()
			}
			cancel()
			if n := client.Stats().MemoryInUse; n != 0 {
				t.Errorf("%d bytes in use", n)
			}
		}
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if client.Stats().MemoryInUse == 0 {
			t.Error("nothing is read early")
		}
		f.Close()
		if n := client.Stats().MemoryInUse; n != 0 {
			t.Errorf("%d bytes in use", n)
		}
	})
}

// TestFirstServerSlow: a server at hand that is known to be slow is not among the first, wherever
// Tahoe-LAFS would look for shares.
func TestFirstServerSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, data, client, _, _ := knownServers(t, 3*time.Millisecond, putOptions{})
		order := decodetest.Permuted(t, decodetest.Servers(servers), decodetest.StorageIndex(t, c))
		l := &line{rate: 125e3}
		serverNamed(servers, order[0]).OnBytes = l.pass
		// Another file, whose shares are on the first three servers alone.
		other := decodetest.Plaintext(600_000)
		few := []*gridtest.Faulty{serverNamed(servers, order[0]), serverNamed(servers, order[1]), serverNamed(servers, order[2])}
		d := put(t, few, other, putOptions{K: 3, N: 3})
		if got, err := decodetest.Get(t.Context(), client, d); err != nil || !bytes.Equal(got, other) {
			t.Fatalf("%v", err)
		}
		f, took := firstChunk(t, client, c, data)
		defer f.Close()
		if took > 30*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// serverNamed returns the one of that name.
func serverNamed(servers []*gridtest.Faulty, name string) *gridtest.Faulty {
	return servers[slices.IndexFunc(servers, func(s *gridtest.Faulty) bool { return s.Name == name })]
}

// TestFirstServersFail: whatever those servers do that are asked first, the first chunk is there
// soon, and whoever is to blame is named.
func TestFirstServersFail(t *testing.T) {
	broken := errors.New("broken on purpose")
	var copies map[int][]byte // what the last server has
	for name, test := range map[string]struct {
		spoil func(t *testing.T, s *gridtest.Faulty, c caps.Cap)
		log   string        // what each of its lines must say; "": there is none
		trips time.Duration // that the first chunk may take
		late  time.Duration // and how much longer
	}{
		"they have nothing": {func(t *testing.T, s *gridtest.Faulty, c caps.Cap) { delete(s.Held, decodetest.StorageIndex(t, c)) }, "", 10, 0},
		"they have what another one has": {func(t *testing.T, s *gridtest.Faulty, c caps.Cap) {
			s.Held[decodetest.StorageIndex(t, c)] = copies
		}, "", 10, 0},
		"they fail": {func(_ *testing.T, s *gridtest.Faulty, _ caps.Cap) {
			s.OnShares = func(context.Context) error { return broken }
		}, "broken on purpose", 10, 0},
		"they say nothing": {func(_ *testing.T, s *gridtest.Faulty, _ caps.Cap) { s.OnShares = gridtest.Hang }, "", 10, 50 * time.Millisecond},
		"they cannot read": {func(_ *testing.T, s *gridtest.Faulty, _ caps.Cap) {
			s.OnRead = func(context.Context, int, int64) error { return broken }
		}, "broken on purpose", 20, 0},
		"they never read": {func(_ *testing.T, s *gridtest.Faulty, _ caps.Cap) {
			s.OnRead = func(ctx context.Context, _ int, _ int64) error { return gridtest.Hang(ctx) }
		}, "", 20, 12 * time.Second},
		"their UEBs are corrupt": {func(t *testing.T, s *gridtest.Faulty, c caps.Cap) {
			for _, b := range s.Held[decodetest.StorageIndex(t, c)] {
				b[len(b)-1] ^= 1
			}
		}, "part=UEB", 24, 0}, // in the worst order all of them are sought before a good one
		"their blocks are corrupt": {func(t *testing.T, s *gridtest.Faulty, c caps.Cap) {
			for _, b := range s.Held[decodetest.StorageIndex(t, c)] {
				b[1000] ^= 1
			}
		}, "part=\"block 0\"", 30, 0},
		"their shares are cut": {func(t *testing.T, s *gridtest.Faulty, c caps.Cap) {
			for num, b := range s.Held[decodetest.StorageIndex(t, c)] {
				s.Held[decodetest.StorageIndex(t, c)][num] = b[:50_000]
			}
		}, "corrupt share", 30, 0},
		"their shares are of another file": {func(t *testing.T, s *gridtest.Faulty, c caps.Cap) {
			for _, b := range s.Held[decodetest.StorageIndex(t, c)] {
				for i := range b {
					b[i] ^= byte(i)
				}
			}
		}, "corrupt share", 30, 0},
	} {
		for _, grid := range []struct {
			spoiled   int
			roundTrip time.Duration
		}{{1, 3 * time.Millisecond}, {3, 3 * time.Millisecond}, {7, 3 * time.Millisecond}, {3, 100 * time.Millisecond}, {7, 100 * time.Millisecond}} {
			t.Run(fmt.Sprintf("%s/%d/%v", name, grid.spoiled, grid.roundTrip), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					servers, c, data, client, _, log := knownServers(t, grid.roundTrip, putOptions{})
					order := decodetest.Permuted(t, decodetest.Servers(servers), decodetest.StorageIndex(t, c))
					copies = serverNamed(servers, order[9]).Held[decodetest.StorageIndex(t, c)]
					for _, name := range order[:grid.spoiled] {
						test.spoil(t, serverNamed(servers, name), c)
					}
					f, took := firstChunk(t, client, c, data)
					defer f.Close()
					if took > test.trips*grid.roundTrip+test.late {
						t.Errorf("it took %v", took)
					}
					if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%v", err)
					}
					// Of few bad servers, or far ones, none need have been read.
					lines := log.Lines("level=WARN")
					if test.log == "" && lines != nil || test.log != "" && lines == nil && grid.spoiled >= 3 && grid.roundTrip < 10*time.Millisecond || len(log.Lines(test.log)) < len(lines) {
						t.Errorf("the log does not say %q:\n%s", test.log, log.B.String())
					}
					for _, line := range lines {
						if !slices.ContainsFunc(order[:grid.spoiled], func(name string) bool { return strings.Contains(line, "server="+name+" ") }) {
							t.Errorf("it blames another one: %s", line)
						}
					}
				})
			})
		}
	}
}

// TestSharesLaidOutOtherwise: shares of one file need not be laid out alike, which is found out
// with the first that is read and blames nobody.
func TestSharesLaidOutOtherwise(t *testing.T) {
	for _, roundTrip := range []time.Duration{3 * time.Millisecond, 100 * time.Millisecond} {
		for _, otherwise := range [][]int{{0}, {1, 2}, {0, 1, 2, 3, 4}, {1, 3, 5, 7, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9}} {
			synctest.Test(t, func(t *testing.T) {
				servers, c, data, client, _, log := knownServers(t, roundTrip, putOptions{SegmentSize: 131072})
				others := gridtest.New(10)
				put(t, others, data, putOptions{SegmentSize: 131072, layout: 2})
				si := decodetest.StorageIndex(t, c)
				for _, i := range otherwise {
					servers[i].Held[si] = others[i].Held[si]
				}
				for range 2 {
					if got, err := decodetest.Get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%v: %v", otherwise, err)
					}
					client.WaitMetadata()
				}
				if log.B.String() != "" {
					t.Errorf("%v: the log: %s", otherwise, log.B.String())
				}
			})
		}
	}
}

// TestRememberedEarly: of a file that was closed before all servers had been asked, the others are
// asked the next time.
func TestRememberedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, c, data, client, r, _ := knownServers(t, time.Millisecond, putOptions{})
		f, _ := firstChunk(t, client, c, data)
		f.Close()
		client.WaitMetadata()
		before := r.count.Load()
		f, _ = firstChunk(t, client, c, data)
		defer f.Close()
		if n := r.count.Load() - before; n > 3 {
			t.Errorf("%d requests for a chunk of a file that is known", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, s := range servers {
			if s.Asked < 2 || s.Asked > 3 {
				t.Errorf("%s was asked %d times", s, s.Asked)
			}
		}
		if st, ok := client.Status(c.ID()); !ok || len(st.Found) != 10 {
			t.Errorf("%+v", st)
		}
	})
}
