//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"spillway/decode/grid/gbs"
	"spillway/scripts/internal/compare"
	"spillway/scripts/internal/distance"
	"spillway/scripts/internal/sink"
)

// row is one comparison: the same workload on several sides, measured in turn.
type row struct {
	name       string // what --run matches, such as loopback/whole-file
	what       string // a sentence for the report
	far        bool   // the storage nodes are far away
	quantities []compare.Quantity
	sides      []side
	targets    []compare.Target
	separate   bool // the sides are not there to be compared with each other
}

// side is one of the gateways that a row compares, or one way of treating it.
type side struct {
	name string
	// prepare: prepare, if there is one, makes the scene what the side wants. A side that has one
	// is measured in all rounds before the next side is.
	prepare func(context.Context, *scene) error
	// measure returns one value for each of the row's quantities.
	measure func(context.Context, *scene) ([]float64, error)
}

const (
	ours     = "Spillway"
	gbsSide  = "Tahoe-LAFS, GBS"
	foolscap = "Tahoe-LAFS, Foolscap"
)

// rows returns every row, in the order of the report.
func rows(s scale) []row {
	return append(loopbackRows(s), faultRow(s), distanceRow(s), longRow(s), lossRow(s), serversRow(s))
}

// each is a side for each gateway.
func each(measure func(open) func(context.Context, *scene) ([]float64, error)) []side {
	return []side{{name: ours, measure: measure(ourGateway)}, {name: gbsSide, measure: measure(theirGBS)}, {name: foolscap, measure: measure(theirFoolscap)}}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func loopbackRows(s scale) []row {
	raw := func(servers int) side {
		name := fmt.Sprintf("raw GBS reads, %d servers at once", servers)
		if servers == 1 {
			name = "raw GBS reads, one server"
		}
		return side{name: name, measure: rawReads(servers)}
	}
	return []row{
		{
			name: "loopback/whole-file",
			what: fmt.Sprintf("One client gets a cold file of %.0f MB. Raw GBS reads are the shares' blocks, as %d and as one storage node brings them: each is asked for a MiB by "+
				"four at once, which nobody decodes.", float64(s.large)/1e6, k),
			quantities: []compare.Quantity{{Name: "throughput", Unit: "MB/s"}, {Name: "CPU, gateway", Unit: "s/GB"}, {Name: "CPU, storage nodes", Unit: "s/GB"}, {Name: "peak RSS", Unit: "MiB"}},
			sides:      append(each(wholeFile), raw(k), raw(1)),
			targets: []compare.Target{
				{Side: ours, Over: gbsSide, Least: 8},
				{Quantity: 1, Side: ours, Over: gbsSide, Most: 0.1},
			},
		},
		{
			name: "loopback/first-byte",
			what: fmt.Sprintf("Time from before connecting to the first byte of the body of a Range of 1 KB at the start of a file of %.0f MB, in a running gateway that has not opened it before; of %d files.",
				float64(s.small)/1e6, s.opens),
			quantities: []compare.Quantity{{Name: "median", Unit: "ms"}, {Name: "worst", Unit: "ms"}},
			sides:      each(firstBytes),
			targets:    []compare.Target{{Side: ours, Most: 30}},
		},
		{
			name: "loopback/range",
			what: fmt.Sprintf("A Range of 1 MiB in the middle of a file of %.0f MB, in a running gateway that has not opened it before; the mean of %d files. "+
				"Spillway goes on spooling the file, so that some of its CPU time is for what comes next.", float64(s.small)/1e6, s.opens),
			quantities: []compare.Quantity{{Name: "CPU, gateway and storage nodes", Unit: "ms"}, {Name: "CPU, gateway", Unit: "ms"}, {Name: "time", Unit: "ms"}},
			sides:      each(coldRanges),
		},
	}
}

// wholeFile gets the large file.
func wholeFile(start open) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		got, costs, err := getLarge(ctx, s, start)
		return append([]float64{got.throughput(false)}, costs...), err
	}
}

// getLarge gets the large file. Costs are the CPU of the gateway and of the storage nodes, in
// seconds a gigabyte, and the gateway's peak RSS in MiB.
func getLarge(ctx context.Context, s *scene, start open) (got fetched, costs []float64, err error) {
	g, err := start(ctx, s)
	if err != nil {
		return fetched{}, nil, err
	}
	defer g.close()
	u, err := s.measuring(g, func() error {
		got, err = s.fetch(ctx, g, s.lab.large, download{})
		return err
	})
	gigabytes := float64(got.bytes) / 1e9
	return got, []float64{u.gateway.Seconds() / gigabytes, u.servers.Seconds() / gigabytes, float64(u.peak) / (1 << 20)}, err
}

// rawReads reads the large file's shares of so many servers.
func rawReads(servers int) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		before, err := s.serversCPU()
		if err != nil {
			return nil, err
		}
		var total atomic.Int64
		start := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for _, url := range s.urls[:servers] {
			group.Go(func() error {
				bytes, err := rawShare(ctx, url, s.lab.large)
				total.Add(bytes)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		took := time.Since(start)
		after, err := s.serversCPU()
		megabytes := float64(total.Load()) / 1e6
		return []float64{megabytes / took.Seconds(), math.NaN(), (after - before).Seconds() / megabytes * 1e3, math.NaN()}, err
	}
}

// rawShare reads the one share of a file that a server has, and returns its length.
func rawShare(ctx context.Context, url string, f *file) (int64, error) {
	server, err := gbs.Parse(url)
	if err != nil {
		return 0, err
	}
	defer server.Close()
	numbers, err := server.Shares(ctx, f.si)
	if err != nil {
		return 0, err
	}
	if len(numbers) != 1 {
		return 0, fmt.Errorf("a server has %d shares", len(numbers))
	}
	share, err := server.Open(ctx, f.si, numbers[0])
	if err != nil {
		return 0, err
	}
	defer share.Close()
	const readers, piece = 4, 1 << 20
	var next, total atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range readers {
		group.Go(func() error {
			buf := make([]byte, piece)
			for {
				got, err := share.ReadAt(ctx, (next.Add(1)-1)*piece, buf)
				total.Add(int64(got))
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
			}
		})
	}
	err = group.Wait()
	return total.Load(), err
}

// firstBytes opens the small files one after the other.
func firstBytes(start open) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		var latencies []float64
		_, _, err := s.openSmall(ctx, start, sink.Span{Length: 1000}, func(got fetched) { latencies = append(latencies, milliseconds(got.first)) })
		return []float64{compare.Median(latencies), compare.Quantile(latencies, 1)}, err
	}
}

// coldRanges gets a MiB of each of the small files.
func coldRanges(start open) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		var took time.Duration
		gateway, servers, err := s.openSmall(ctx, start, sink.Span{Offset: s.scale.small / 2, Length: 1 << 20}, func(got fetched) { took += got.took })
		mean := func(d time.Duration) float64 { return milliseconds(d) / float64(s.opens) }
		return []float64{mean(gateway + servers), mean(gateway), mean(took)}, err
	}
}

// openSmall gets a span of each of the small files and returns what the answers cost the gateway
// and the storage nodes.
func (s *scene) openSmall(ctx context.Context, start open, span sink.Span, took func(fetched)) (gateway, servers time.Duration, err error) {
	g, err := start(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	defer g.close()
	for _, f := range s.small[1:] {
		u, err := s.measuring(g, func() error {
			got, err := s.fetch(ctx, g, f, download{span: span})
			took(got)
			return err
		})
		if err == nil {
			err = s.purge(ctx, g)
		}
		if err != nil {
			return 0, 0, err
		}
		gateway += u.gateway
		servers += u.servers
		// What a gateway has asked for beyond the answer comes to its end.
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return gateway, servers, nil
}

// both is what the two gateways are compared by where there are many distances.
var both = []compare.Quantity{
	{Name: ours, Unit: "MB/s"}, {Name: gbsSide, Unit: "MB/s"}, {Name: "Spillway / Tahoe-LAFS", Unit: "times"},
	{Name: "first byte, Spillway", Unit: "ms"}, {Name: "first byte, Tahoe-LAFS", Unit: "ms"},
}

const quotient = 2 // of both

// compareBoth gets the medium file through Spillway and then through Tahoe-LAFS. It ends Spillway's
// download early if cut says so.
func compareBoth(cut bool) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		g, err := ourGateway(ctx, s)
		if err != nil {
			return nil, err
		}
		defer g.close()
		var d download
		if cut {
			d.cut = s.cut
		}
		mine, err := s.fetch(ctx, g, s.lab.medium, d)
		if err != nil {
			return nil, fmt.Errorf("reading through Spillway: %w", err)
		}
		g.close()
		theirs, err := s.fetch(ctx, s.theirs()[0], s.lab.medium, download{cut: s.cut})
		if err != nil {
			return nil, fmt.Errorf("reading through Tahoe-LAFS: %w", err)
		}
		a, b := mine.throughput(cut), theirs.throughput(true)
		return []float64{a, b, a / b, milliseconds(mine.first), milliseconds(theirs.first)}, nil
	}
}

// linked makes the distance what link says.
func linked(link distance.Link) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		s.setLinks(link)
		// Tahoe-LAFS's gateway keeps its connections, which are to have found out about the new
		// distance.
		_, err := s.fetch(ctx, s.theirs()[0], s.small[0], download{cut: time.Second})
		return err
	}
}

// roundTrip names a link by it.
func roundTrip(link distance.Link) string { return fmt.Sprintf("%d ms", 2*link.Delay/time.Millisecond) }

func distanceRow(s scale) row {
	r := row{
		name: "distance/round-trip",
		what: fmt.Sprintf("One client gets a cold file of %.0f MB from storage nodes far away, whose links are as fast as the machine. Tahoe-LAFS's downloads are cut %v after the first byte "+
			"and their throughput is of what came from then on; Spillway's is of the whole download, with the wait for the first byte.", float64(s.medium)/1e6, s.cut),
		far: true, quantities: both, separate: true,
	}
	for _, link := range links {
		r.sides = append(r.sides, side{roundTrip(link), linked(link), compareBoth(false)})
	}
	r.targets = []compare.Target{{Quantity: quotient, Side: "100 ms", Least: 20}}
	return r
}

// links are those between which the round trip is all that differs.
var links = []distance.Link{{}, {Delay: 10 * time.Millisecond}, {Delay: 50 * time.Millisecond}, {Delay: 150 * time.Millisecond}}

// longRow is of a file so long that how connections begin does not matter much.
func longRow(s scale) row {
	const memory = "512MiB"
	r := row{
		name: "distance/long",
		what: fmt.Sprintf("Spillway gets a cold file of %.0f MB from the same storage nodes, all of it. In the second half connections have found out how fast they can be. "+
			"What is on its way at a time is bounded by memory, `--decode-memory`, which is 128 MiB where nothing else is said.", float64(s.large)/1e6),
		far: true, separate: true,
		quantities: []compare.Quantity{{Name: "throughput", Unit: "MB/s"}, {Name: "second half", Unit: "MB/s"}, {Name: "CPU, gateway", Unit: "s/GB"},
			{Name: "CPU, storage nodes", Unit: "s/GB"}, {Name: "peak RSS", Unit: "MiB"}},
	}
	at := func(name string, link distance.Link, flags ...string) side {
		prepare := func(_ context.Context, s *scene) error { s.setLinks(link); return nil }
		return side{name, prepare, longFile(flags...)}
	}
	for _, link := range links {
		r.sides = append(r.sides, at(roundTrip(link), link))
	}
	farthest := links[len(links)-1]
	r.sides = append(r.sides, at(roundTrip(farthest)+", "+memory, farthest, "--decode-memory", memory))
	return r
}

// longFile gets the large file through Spillway with these flags.
func longFile(flags ...string) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		got, costs, err := getLarge(ctx, s, func(ctx context.Context, s *scene) (*gateway, error) { return s.startSpillway(ctx, flags...) })
		secondHalf := float64(got.bytes) / 2e6 / (got.took - got.half).Seconds()
		return append([]float64{got.throughput(false), secondHalf}, costs...), err
	}
}

func lossRow(s scale) row {
	r := row{
		name: "distance/loss",
		what: fmt.Sprintf("The same with packets of 1500 bytes lost at random, in both directions. All downloads are cut %v after the first byte, and the throughput is of what came from then on.", s.cut),
		far:  true, quantities: both, separate: true,
	}
	for _, link := range []distance.Link{
		{Delay: 10 * time.Millisecond, Loss: 0.001}, {Delay: 10 * time.Millisecond, Loss: 0.02}, {Delay: 50 * time.Millisecond, Loss: 0.001},
	} {
		r.sides = append(r.sides, side{fmt.Sprintf("%s, %g %%", roundTrip(link), 100*link.Loss), linked(link), compareBoth(true)})
	}
	return r
}

// serversRow kills storage nodes.
func serversRow(s scale) row {
	link := distance.Link{Delay: 10 * time.Millisecond, Rate: 100e6 / 8}
	r := row{
		name: "distance/servers",
		what: fmt.Sprintf("The same from so many storage nodes with a share each, any %d of which make the file, each %s away behind a link of %d Mbit/s; no losses but what a full queue loses. "+
			"Tahoe-LAFS's downloads are cut.", k, roundTrip(link), link.Rate*8/1e6),
		far: true, quantities: both, separate: true,
	}
	for servers := s.nodes; servers >= k; servers = max(servers/2, min(k, servers-1)) {
		r.sides = append(r.sides, side{
			name: fmt.Sprintf("%d storage nodes", servers),
			prepare: func(ctx context.Context, s *scene) error {
				if err := s.keep(servers); err != nil {
					return err
				}
				return linked(link)(ctx, s)
			},
			measure: compareBoth(false),
		})
	}
	return r
}

func faultRow(s scale) row {
	const undisturbed, slow, killed, stopped = "undisturbed", "one at 1 Mbit/s", "one killed (SIGKILL)", "one stopped (SIGSTOP)"
	link := distance.Link{Delay: 10 * time.Millisecond}
	slowLink := link
	slowLink.Rate = 1e6 / 8
	return row{
		name: "fault",
		what: fmt.Sprintf("Spillway gets a cold file of %.0f MB from storage nodes %s away. When half of it has come, something happens to the node that has sent most of it. "+
			"The pause is the longest that the client sees, from the first byte on; nodes in use have sent a twentieth of all bytes or more until then.", float64(s.large)/1e6, roundTrip(link)),
		far:        true,
		quantities: []compare.Quantity{{Name: "throughput", Unit: "MB/s"}, {Name: "longest pause", Unit: "ms"}, {Name: "in use", Unit: "nodes"}},
		separate:   true,
		sides: []side{
			{name: undisturbed, measure: disturbed(link, func(context.Context, *scene, int) error { return nil }, func(context.Context, *scene, int) error { return nil })},
			{name: slow, measure: disturbed(link,
				func(_ context.Context, s *scene, server int) error { s.net.SetLink(server, slowLink); return nil },
				func(_ context.Context, s *scene, server int) error { s.net.SetLink(server, link); return nil })},
			{name: killed, measure: disturbed(link,
				func(_ context.Context, s *scene, server int) error { return s.signal(server, syscall.SIGKILL) },
				func(ctx context.Context, s *scene, server int) error { return s.grid.Revive(ctx, server) })},
			{name: stopped, measure: disturbed(link,
				func(_ context.Context, s *scene, server int) error { return s.signal(server, syscall.SIGSTOP) },
				func(_ context.Context, s *scene, server int) error { return s.signal(server, syscall.SIGCONT) })},
		},
		targets: []compare.Target{
			{Side: slow, Over: undisturbed, Least: 0.8},
			{Quantity: 1, Side: slow, Most: 2000},
			{Quantity: 1, Side: killed, Most: 2000},
			{Quantity: 1, Side: stopped, Most: 2000},
		},
	}
}

// disturbed gets the large file while something happens to a storage node that is in use, and heals
// it afterwards.
func disturbed(link distance.Link, happen, heal func(ctx context.Context, s *scene, server int) error) func(context.Context, *scene) ([]float64, error) {
	return func(ctx context.Context, s *scene) ([]float64, error) {
		s.setLinks(link)
		g, err := ourGateway(ctx, s)
		if err != nil {
			return nil, err
		}
		defer g.close()
		before := s.traffic()
		server, used := -1, 0
		var happened error
		got, err := s.fetch(ctx, g, s.lab.large, download{half: func() {
			server, used = s.inUse(before)
			happened = happen(ctx, s, server)
		}})
		err = errors.Join(err, happened)
		if server >= 0 {
			err = errors.Join(err, heal(ctx, s, server))
		}
		return []float64{got.throughput(false), milliseconds(got.pause), float64(used)}, err
	}
}
