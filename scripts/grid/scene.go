//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"spillway/scripts/internal/distance"
	"spillway/scripts/internal/process"
	"spillway/scripts/internal/sink"
	"spillway/scripts/internal/tahoe"
)

// scene is a running grid with all files' shares.
type scene struct {
	*lab
	dir   string
	net   *distance.Network // nil on loopback
	grid  *tahoe.Grid
	urls  []string // of the storage nodes
	alive int      // the first so many storage nodes
}

func (s *scene) close() {
	if s.grid != nil {
		s.grid.Close()
	}
	if s.net != nil {
		s.net.Close()
	}
	os.RemoveAll(s.dir)
}

// prefix is what programs are started by: at their usual priority, where the gateways are.
func (s *scene) prefix() []string {
	args := []string{"nice", "-n", strconv.Itoa(ahead)}
	if s.net != nil {
		args = append(args, "nsenter", "--net="+s.net.Near.Path())
	}
	return args
}

// near calls f where the gateways are.
func (s *scene) near(f func() error) error {
	if s.net == nil {
		return f()
	}
	return s.net.Near.Do(f)
}

// dial connects to a gateway.
func (s *scene) dial(ctx context.Context, address string) (c *sink.Client, err error) {
	err = s.near(func() error {
		c, err = sink.Dial(ctx, address)
		return err
	})
	return c, err
}

// setLinks makes all storage nodes as far away as link says, the introducer not.
func (s *scene) setLinks(link distance.Link) {
	for i := range s.nodes {
		s.net.SetLink(i, link)
	}
}

// keep kills all storage nodes but the first few.
func (s *scene) keep(servers int) (err error) {
	for ; err == nil && s.alive > servers; s.alive-- {
		err = s.signal(s.alive-1, syscall.SIGKILL)
	}
	return err
}

// gateway is a running gateway.
type gateway struct {
	address string // host:port
	admin   string // likewise; "" for Tahoe-LAFS's
	pid     int

	*process.Process // nil for one that ends with the scene
	spool            string
}

// close ends a gateway, unless it ends with the scene.
func (g *gateway) close() {
	if g.Process != nil {
		g.Stop()
		os.RemoveAll(g.spool)
	}
}

// theirs returns the gateways of Tahoe-LAFS.
func (s *scene) theirs() []*gateway {
	var all []*gateway
	for _, of := range []struct {
		url string
		pid int
	}{{s.grid.NodeURL, s.grid.ClientPID}, {s.grid.FoolscapURL, s.grid.FoolscapPID}} {
		if address, err := tahoe.Address(of.url); err == nil {
			all = append(all, &gateway{address: address, pid: of.pid})
		}
	}
	return all
}

// open returns a gateway that has read a small file; the caller closes it.
type open func(ctx context.Context, s *scene) (*gateway, error)

// ourGateway is Spillway, started anew, on all storage nodes that are alive.
func ourGateway(ctx context.Context, s *scene) (*gateway, error) { return s.startSpillway(ctx) }

// startSpillway starts Spillway with these flags beside those that say where it listens and reads.
func (s *scene) startSpillway(ctx context.Context, flags ...string) (*gateway, error) {
	g := &gateway{}
	var err error
	if g.spool, err = os.MkdirTemp(s.dir, "spool-"); err != nil {
		return nil, err
	}
	var addresses []string
	if err := s.near(func() error {
		addresses, err = process.FreeAddresses(2)
		return err
	}); err != nil {
		return nil, err
	}
	g.address, g.admin = addresses[0], addresses[1]
	args := append(s.prefix(), s.spillway, "serve", "--listen", g.address, "--admin-listen", g.admin, "--spool-dir", g.spool)
	args = append(args, flags...)
	for _, url := range s.urls[:s.alive] {
		args = append(args, "--server", url)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = process.CleanEnvironment()
	if g.Process, err = process.Start(g.spool, cmd); err != nil {
		return nil, err
	}
	g.pid = g.PID()
	for _, address := range addresses {
		listens := func() (ok bool) {
			s.near(func() error { ok = process.Listens(address); return nil })
			return ok
		}
		if err := g.Await(ctx, "listener", listens); err != nil {
			g.close()
			return nil, err
		}
	}
	if err := s.warm(ctx, g); err != nil {
		err = fmt.Errorf("%w\n%s", err, g.Tail())
		g.close()
		return nil, err
	}
	return g, nil
}

// theirGBS is Tahoe-LAFS's gateway that speaks GBS.
func theirGBS(_ context.Context, s *scene) (*gateway, error) { return s.theirs()[0], nil }

// theirFoolscap is the one that speaks Foolscap.
func theirFoolscap(_ context.Context, s *scene) (*gateway, error) { return s.theirs()[1], nil }

// warm makes a gateway read a file that is not used for anything else.
func (s *scene) warm(ctx context.Context, g *gateway) error {
	_, err := s.fetch(ctx, g, s.small[0], download{})
	return err
}

// purge makes Spillway forget what is spooled, and stop spooling.
func (s *scene) purge(ctx context.Context, g *gateway) error {
	if g.admin == "" {
		return nil
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = s.near(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://"+g.admin+"/admin/spool", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("purging: %s", resp.Status)
	}
	return nil
}

// download says how to get a file. The zero value is all of it.
type download struct {
	span sink.Span
	cut  time.Duration // ends the download so long after the first byte; 0: never
	half func()        // called when half of the body is there; may be nil
}

// fetched is what a download was like.
type fetched struct {
	bytes int64         // of the body
	took  time.Duration // from before connecting
	first time.Duration // until the first byte
	half  time.Duration // until half of the body
	pause time.Duration // the longest between two pieces of the body
}

// throughput is in MB/s: of the whole download, or of what came after the first byte if it was cut.
func (f fetched) throughput(cut bool) float64 {
	if cut {
		return float64(f.bytes) / 1e6 / (f.took - f.first).Seconds()
	}
	return float64(f.bytes) / 1e6 / f.took.Seconds()
}

// patience is how long a download may take.
const patience = 2 * time.Minute

// fetch downloads a file and throws it away.
func (s *scene) fetch(ctx context.Context, g *gateway, f *file, d download) (got fetched, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	c, err := s.dial(ctx, g.address)
	if err != nil {
		return fetched{}, err
	}
	defer c.Close()
	length, err := c.Get(f.path(), d.span)
	if err != nil {
		return fetched{}, err
	}
	if err := c.Discard(1); err != nil {
		return fetched{}, err
	}
	got.first = time.Since(start)
	// A slow download comes in small pieces, so that little is missed where it is cut.
	piece := int64(sink.HighMark)
	if d.cut > 0 {
		piece = 64 << 10
		defer time.AfterFunc(d.cut, cancel).Stop()
	}
	half := length / 2
	last := time.Now()
	for got.bytes = 1; got.bytes < length; {
		m := min(piece, length-got.bytes)
		if err := c.Discard(m); err != nil {
			if d.cut > 0 && time.Since(start)-got.first >= d.cut {
				break
			}
			return fetched{}, fmt.Errorf("after %d bytes of %d: %w", got.bytes, length, err)
		}
		got.bytes += m
		now := time.Now()
		got.pause, last = max(got.pause, now.Sub(last)), now
		if got.half == 0 && got.bytes >= half {
			got.half = now.Sub(start)
			if d.half != nil {
				d.half()
			}
		}
	}
	got.took = time.Since(start)
	return got, nil
}

// serversCPU is the CPU time of all storage nodes so far.
func (s *scene) serversCPU() (sum time.Duration, err error) {
	for _, pid := range s.grid.PIDs[:s.alive] {
		used, err := process.CPU(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// used is what a gateway and the storage nodes used while f ran.
type used struct {
	gateway, servers time.Duration
	peak             int64 // bytes of the gateway's resident memory
}

func (s *scene) measuring(g *gateway, f func() error) (u used, err error) {
	process.ResetPeak(g.pid)
	gateway, err := process.CPU(g.pid)
	if err != nil {
		return used{}, err
	}
	servers, err := s.serversCPU()
	if err != nil {
		return used{}, err
	}
	if err := f(); err != nil {
		return used{}, err
	}
	if u.servers, err = s.serversCPU(); err != nil {
		return used{}, err
	}
	if u.gateway, err = process.CPU(g.pid); err != nil {
		return used{}, err
	}
	u.gateway -= gateway
	u.servers -= servers
	now, err := process.UsageOf(g.pid)
	u.peak = now.Peak
	return u, err
}

// inUse returns the storage node that has sent most since traffic was taken, and how many have sent
// a twentieth of all or more.
func (s *scene) inUse(before []int64) (busiest, used int) {
	now := s.traffic()
	var total int64
	for i := range now {
		now[i] -= before[i]
		total += now[i]
		if now[i] > now[busiest] {
			busiest = i
		}
	}
	for _, sent := range now {
		if sent > 0 && sent >= total/20 {
			used++
		}
	}
	return busiest, used
}

// traffic returns what each storage node has sent so far, in bytes.
func (s *scene) traffic() []int64 {
	sent := make([]int64, s.nodes)
	for i := range sent {
		sent[i] = s.net.Traffic(i).Bytes
	}
	return sent
}

func (s *scene) signal(server int, sig syscall.Signal) error {
	return syscall.Kill(s.grid.PIDs[server], sig)
}
