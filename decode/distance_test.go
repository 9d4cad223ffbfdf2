package decode_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/gridtest"
)

// line is the way to a server: requests take a round trip, and what they bring passes one after the
// other.
type line struct {
	roundTrip time.Duration

	mu    sync.Mutex
	rate  float64   // bytes a second
	free  time.Time // when the line has passed what it was given
	bytes int       // that it has passed
}

func (l *line) setRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// pass waits until so many bytes have come. They pass in pieces, so that a change of the rate
// shows.
func (l *line) pass(ctx context.Context, bytes int) error {
	wait := func(until time.Time) error {
		select {
		case <-time.After(time.Until(until)):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(time.Now().Add(l.roundTrip)); err != nil {
		return err
	}
	for bytes > 0 {
		piece := min(bytes, 16<<10)
		bytes -= piece
		l.mu.Lock()
		if now := time.Now(); l.free.Before(now) {
			l.free = now
		}
		l.free = l.free.Add(time.Duration(float64(piece) / l.rate * float64(time.Second)))
		l.bytes += piece
		until := l.free
		l.mu.Unlock()
		if err := wait(until); err != nil {
			return err
		}
	}
	return nil
}

// farFile is a file for servers far away, encoded once: it is the tests' time that this takes.
type farFile struct {
	file   caps.Cap
	data   []byte
	shares [][]byte
}

const farSize = 100_000_000

var aFarFile = sync.OnceValues(func() (farFile, error) {
	data := decodetest.Plaintext(farSize)
	c, shares, err := encode(data, putOptions{K: 3, N: 10, SegmentSize: 1 << 20})
	return farFile{c, data, shares}, err
})

// farServers returns a file with one share on each of ten servers behind lines.
func farServers(t *testing.T, roundTrip time.Duration, rate float64) ([]*gridtest.Faulty, []*line, caps.Cap, []byte) {
	t.Helper()
	f, err := aFarFile()
	if err != nil {
		t.Fatal(err)
	}
	servers := gridtest.New(10)
	lines := make([]*line, len(servers))
	for i, s := range servers {
		s.Held[decodetest.StorageIndex(t, f.file)] = map[int][]byte{i: f.shares[i]}
		lines[i] = &line{roundTrip: roundTrip, rate: rate}
		s.OnShares = func(ctx context.Context) error { return lines[i].pass(ctx, 0) }
		s.OnBytes = lines[i].pass
	}
	return servers, lines, f.file, f.data
}

// download reads the file as the spool does, and calls at, if not nil, before each run.
func download(ctx context.Context, f *decode.File, at func(chunk int64)) ([]byte, error) {
	s := decodetest.NewSink(f.Size())
	chunks := (f.Size()-1)/f.ChunkSize() + 1
	var mu sync.Mutex
	var errs error
	var group sync.WaitGroup
	next, workers := int64(0), 1
	var work func()
	work = func() {
		for {
			mu.Lock()
			i, wanted := next, f.Workers()
			if i >= chunks || workers > wanted || errs != nil {
				workers--
				mu.Unlock()
				return
			}
			n := min(f.Run(), chunks-i)
			next += n
			if workers < wanted {
				workers++
				group.Go(work)
			}
			if at != nil {
				at(i)
			}
			mu.Unlock()
			if err := f.WriteChunks(ctx, i, n, s); err != nil {
				mu.Lock()
				errs = errors.Join(errs, err)
				mu.Unlock()
			}
		}
	}
	group.Go(work)
	group.Wait()
	return s.Bytes, errs
}

// timed returns how long the download of an open file takes, by the bubble's clock.
func timed(t *testing.T, client *decode.Client, c caps.Cap, data []byte, at func(chunk int64)) time.Duration {
	t.Helper()
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start := time.Now()
	if got, err := download(t.Context(), f, at); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%v", err)
	}
	return time.Since(start)
}

const farRate = 10e6 // bytes a second, of each server

// TestDistance: all servers are made use of, as far as they are fast, however far away they are.
func TestDistance(t *testing.T) {
	for roundTrip, least := range map[time.Duration]float64{time.Millisecond: 60, 20 * time.Millisecond: 50, 100 * time.Millisecond: 35, 300 * time.Millisecond: 15} {
		synctest.Test(t, func(t *testing.T) {
			servers, _, c, data := farServers(t, roundTrip, farRate)
			took := timed(t, newClient(t, config{Servers: decodetest.Servers(servers)}), c, data, nil)
			rate := farSize / took.Seconds() / 1e6
			t.Logf("round trip %v: %.0f MB/s", roundTrip, rate)
			if rate < least {
				t.Errorf("round trip %v: %.0f MB/s from servers that give 100", roundTrip, rate)
			}
		})
	}
}

// connections are TCP connections to a server: up to sixteen, each of which needs two round trips
// for handshakes and begins with ten packets in a round trip and then twice as many in each, as
// long as it is used.
type connections struct {
	*gridtest.Faulty
	line *line

	mu      sync.Mutex
	made    int
	idle    []*connection // the one used last is the last
	waiting []chan *connection
}

type connection struct {
	window int // bytes in a round trip
	used   time.Time
}

const (
	firstWindow   = 10 * 1448
	largestWindow = 1 << 20
)

func (c *connections) Received() int64 {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	return int64(c.line.bytes)
}

// take returns the idle connection that was used last, or the first one to become idle or to be
// made.
func (c *connections) take() *connection {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		defer c.mu.Unlock()
		conn := c.idle[last]
		c.idle = c.idle[:last]
		if time.Since(conn.used) > 2*c.line.roundTrip+200*time.Millisecond {
			conn.window = firstWindow
		}
		return conn
	}
	if c.made < 16 {
		c.made++
		time.AfterFunc(2*c.line.roundTrip, func() { c.give(&connection{window: firstWindow}) })
	}
	wanted := make(chan *connection, 1)
	c.waiting = append(c.waiting, wanted)
	c.mu.Unlock()
	return <-wanted
}

func (c *connections) give(conn *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn.used = time.Now()
	if len(c.waiting) > 0 {
		c.waiting[0] <- conn
		c.waiting = c.waiting[1:]
		return
	}
	c.idle = append(c.idle, conn)
}

// pass is line's, by a connection. One that is broken off is lost.
func (c *connections) pass(ctx context.Context, bytes int) error {
	conn := c.take()
	for first := true; first || bytes > 0; first = false {
		window := min(bytes, conn.window)
		if err := c.line.pass(ctx, window); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.made--
			return err
		}
		bytes -= window
		if window == conn.window {
			conn.window = min(2*window, largestWindow)
		}
	}
	c.give(conn)
	return nil
}

// TestSlowStart: connections to servers far away begin slowly, so many of them begin early.
func TestSlowStart(t *testing.T) {
	for roundTrip, least := range map[time.Duration]float64{20 * time.Millisecond: 75, 100 * time.Millisecond: 45, 300 * time.Millisecond: 15} {
		synctest.Test(t, func(t *testing.T) {
			servers, lines, c, data := farServers(t, roundTrip, 2*farRate)
			var cfg config
			for i, s := range servers {
				to := &connections{Faulty: s, line: lines[i]}
				s.OnShares = func(ctx context.Context) error { return to.pass(ctx, 0) }
				s.OnBytes = to.pass
				cfg.Servers = append(cfg.Servers, fleet.Server{Server: to})
			}
			client := newClient(t, cfg)
			took := timed(t, client, c, data, nil)
			rate := farSize / took.Seconds() / 1e6
			t.Logf("round trip %v: %.0f MB/s, %d reads hedged", roundTrip, rate, client.Stats().HedgedReads)
			if rate < least {
				t.Errorf("round trip %v: %.0f MB/s from servers that give 200", roundTrip, rate)
			}
		})
	}
}

// TestBreakOffStartup: calls that wait for their turns end with their contexts, and others take
// their turns.
func TestBreakOffStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, lines, c, data := farServers(t, 100*time.Millisecond, farRate)
		var cfg config
		for i, s := range servers {
			cfg.Servers = append(cfg.Servers, fleet.Server{Server: &connections{Faulty: s, line: lines[i]}})
		}
		client := newClient(t, cfg)
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		began := time.Now()
		nowhere := decodetest.NewSink(f.Size())
		var calls sync.WaitGroup
		for i := range int64(90) {
			calls.Go(func() {
				if err := f.WriteChunks(ctx, i, 1, nowhere); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("chunk %d: %v", i, err)
				}
			})
		}
		calls.Wait()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v to break off", took)
		}
		if got, err := download(t.Context(), f, nil); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
	})
}

// TestRun: quick servers are asked for much at once, slow and far ones for little, and memory
// bounds it.
func TestRun(t *testing.T) {
	for _, test := range []struct {
		name        string
		roundTrip   time.Duration
		rate        float64 // bytes a second, of each server
		memory      int64
		least, most int64 // chunks in a run
	}{
		{"quick", 3 * time.Millisecond, 300e6, 128 << 20, 12, 12},
		{"less quick", 3 * time.Millisecond, 15e6, 128 << 20, 3, 7},
		{"slow", 3 * time.Millisecond, 1e6, 128 << 20, 2, 2},
		{"far", 100 * time.Millisecond, 300e6, 128 << 20, 2, 2},
		{"little memory", 3 * time.Millisecond, 300e6, 45 << 20, 4, 4},
		{"so near that requests cost nothing", time.Millisecond, 300e6, 128 << 20, 2, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			servers, _, c, data := farServers(t, test.roundTrip, test.rate)
			client := newClient(t, config{Servers: decodetest.Servers(servers), Memory: test.memory})
			f, err := client.Open(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if n := f.Run(); n != 2 {
				t.Errorf("%s: a run has %d chunks before anything is known", test.name, n)
			}
			got, err := download(t.Context(), f, nil)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s: %v", test.name, err)
			}
			if n := f.Run(); n < test.least || n > test.most {
				t.Errorf("%s: a run has %d chunks, want %d to %d", test.name, n, test.least, test.most)
			}
		})
	}
}

// TestCorruptInRun: of a large run, what has been verified is written, in order and once, before
// and after the segments in which shares turn out to be corrupt.
func TestCorruptInRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first = 60 // chunk, and segment, of the run
		servers, lines, c, data := farServers(t, 3*time.Millisecond, 300e6)
		for num, s := range servers {
			if num >= 7 {
				lines[num].setRate(100e6) // so that the others are read first
				continue
			}
			v, _ := c.Verifier()
			shares := s.Held[v.StorageIndex]
			header, err := chk.ParseHeader(shares[num][:chk.HeaderSize])
			if err != nil {
				t.Fatal(err)
			}
			shares[num] = slices.Clone(shares[num])
			shares[num][header.Data+(first+3+int64(num))*(1<<20+2)/3] ^= 1
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers)})
		f, err := client.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for i := int64(0); f.Run() < 12; i += 2 {
			if err := f.WriteChunks(t.Context(), i, 2, decodetest.NewSink(f.Size())); err != nil || i+2 > first {
				t.Fatalf("runs have %d chunks: %v", f.Run(), err)
			}
		}
		run, size := f.Run(), f.ChunkSize()
		w := &ascending{next: first * size}
		if err := f.WriteChunks(t.Context(), first, run, w); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.bytes, data[first*size:][:run*size]) {
			t.Errorf("%d bytes of %d, or not the right ones", len(w.bytes), run*size)
		}
		if n := client.Stats().CorruptShares; n < 3 {
			t.Errorf("%d shares were found corrupt", n)
		}
	})
}

// ascending is a writer that takes each byte once, in order.
type ascending struct {
	next  int64
	bytes []byte
}

func (a *ascending) WriteAt(p []byte, off int64) (int, error) {
	if off != a.next {
		return 0, fmt.Errorf("%d bytes at %d, after those up to %d", len(p), off, a.next)
	}
	a.next += int64(len(p))
	a.bytes = append(a.bytes, p...)
	return len(p), nil
}

// TestSlowedServers: servers that become slow, or silent, in mid-download are replaced.
func TestSlowedServers(t *testing.T) {
	for _, roundTrip := range []time.Duration{time.Millisecond, 100 * time.Millisecond} {
		var undisturbed time.Duration
		for _, test := range []struct {
			name   string
			rate   float64 // 0: undisturbed
			slowed int
			pause  time.Duration
		}{
			{"undisturbed", 0, 0, 0}, {"one at 1 Mbit/s", 125e3, 1, 2 * time.Second}, {"one silent", 1, 1, 2 * time.Second},
			{"four at 1 Mbit/s", 125e3, 4, 4 * time.Second}, {"four silent", 1, 4, 6 * time.Second},
		} {
			synctest.Test(t, func(t *testing.T) {
				servers, lines, c, data := farServers(t, roundTrip, farRate)
				client := newClient(t, config{Servers: decodetest.Servers(servers)})
				took := timed(t, client, c, data, func(chunk int64) {
					if chunk == 20 && test.slowed > 0 {
						for _, l := range lines[:test.slowed] {
							l.setRate(test.rate)
						}
					}
				})
				if test.slowed == 0 {
					undisturbed = took
				}
				t.Logf("round trip %v, %s: %v, %d reads hedged", roundTrip, test.name, took, client.Stats().HedgedReads)
				if most := undisturbed*10/time.Duration(10-test.slowed) + test.pause; took > most {
					t.Errorf("round trip %v, %s: it took %v, undisturbed %v", roundTrip, test.name, took, undisturbed)
				}
			})
		}
	}
}

// TestSlowServerNeeded: with k servers only, the slowest sets the pace, and nothing times out.
func TestSlowServerNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, lines, c, data := farServers(t, 20*time.Millisecond, farRate)
		lines[1].setRate(125e3)
		client := newClient(t, config{Servers: decodetest.Servers(servers[:3])})
		took := timed(t, client, c, data, nil)
		least := farSize / 3 / 125 * time.Millisecond
		if took > least*5/4 || client.Stats().ServerErrors != 0 {
			t.Errorf("it took %v, %v at least; %d errors", took, least, client.Stats().ServerErrors)
		}
	})
}

// TestServerStartedAnew: a download outlasts a pause of servers that it cannot do without.
func TestServerStartedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, _, c, data := farServers(t, 20*time.Millisecond, farRate)
		var until atomic.Pointer[time.Time]
		for _, s := range servers[:2] {
			s.OnRead = func(context.Context, int, int64) error {
				if then := until.Load(); then != nil && time.Now().Before(*then) {
					return errors.New("connection refused")
				}
				return nil
			}
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers[:3])})
		took := timed(t, client, c, data, func(chunk int64) {
			if chunk == 20 {
				then := time.Now().Add(5 * time.Second)
				until.Store(&then)
			}
		})
		if took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestFilesBesideEachOther: a file that is opened while another one keeps slow servers busy gets
// its first chunk although the other one has requests enough under way for half a minute.
func TestFilesBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, lines, c, data := farServers(t, 20*time.Millisecond, 1e6)
		servers = servers[:3]
		small := gridtest.New(1)
		d := put(t, small, decodetest.Plaintext(3_000_000), putOptions{})
		for i, s := range servers {
			si := decodetest.StorageIndex(t, d)
			s.Held[si] = map[int][]byte{i: small[0].Held[si][i]}
			s.OnBytes = lines[i].pass
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers)})
		var group sync.WaitGroup
		group.Go(func() { timed(t, client, c, data, nil) })
		time.Sleep(20 * time.Second)
		start := time.Now()
		f, err := client.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.WriteChunks(t.Context(), 0, 1, decodetest.NewSink(f.Size())); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("the first chunk took %v", took)
		}
		group.Wait()
	})
}
