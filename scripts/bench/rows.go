//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"spillway/scripts/internal/compare"
	"spillway/scripts/internal/sink"
)

var throughput = []compare.Quantity{{Name: "throughput", Unit: "MB/s"}}

// rows returns every row, in the order of the report.
func rows(s scale) []row {
	return slices.Concat(decodeRows(s), serveRows(s), stalledRows(s))
}

// file is the usual recipe: one file, 3-of-10.
func file(size, segment int64) recipe {
	return recipe{size: size, files: 1, k: 3, n: 10, segment: segment}
}

// manyFiles is many different files, each larger than what socket buffers hold.
var manyFiles = recipe{size: 4 << 20, files: 500, k: 3, n: 10, segment: 1 << 20}

func segmentName(segment int64) string {
	if segment >= 1<<20 {
		return fmt.Sprintf("%d-MiB-segments", segment>>20)
	}
	return fmt.Sprintf("%d-KiB-segments", segment>>10)
}

// gateway is a side that is Spillway on a grid.
func gateway(name string, r recipe, p placement, cores int) side {
	return side{name: name, start: func(ctx context.Context, l *lab) (*instance, error) {
		g, err := l.grid(ctx, r, p)
		if err != nil {
			return nil, err
		}
		return l.spillwayOn(ctx, g, cores)
	}}
}

// cold is a gateway that is started anew for every measurement.
func cold(name string, r recipe, p placement, cores int, measure func(context.Context, *lab, *instance) (compare.Sample, error)) side {
	s := gateway(name, r, p, cores)
	s.fresh = true
	s.measure = func(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
		if err := l.touchMemory(in.size); err != nil {
			return compare.Sample{}, err
		}
		return measure(ctx, l, in)
	}
	return s
}

func decodeRows(s scale) []row {
	const bound, one, two = "sum of the stages alone, one core", "Spillway, one core", "Spillway, two cores"
	segments := []int64{128 << 10, 1 << 20}
	var rows []row
	against := func(name, what string, r recipe, p placement) row {
		return row{
			name: name, what: what, quantities: throughput,
			sides: []side{cold(one, r, p, 1, wholeOnce), cold(two, r, p, 2, wholeOnce), boundSide(r, p)},
		}
	}
	for _, segment := range segments {
		for _, p := range []placement{primary, parity} {
			r := against(fmt.Sprintf("decode/cold/%s/%s", segmentName(segment), p),
				fmt.Sprintf("One client gets a cold file whose %s shares lie in the page cache, 3-of-10, against the raw bound.", p),
				file(s.large, segment), p)
			r.targets = []compare.Target{{Side: one, Over: bound, Least: 0.95}, {Side: two, Over: bound, Least: 1.8}}
			rows = append(rows, r)
		}
	}
	for _, shape := range []recipe{
		{size: s.tahoe, files: 1, k: 71, n: 255, segment: 1 << 20},
		{size: s.tahoe, files: 1, k: 100, n: 256, segment: 1 << 20},
	} {
		rows = append(rows, against(fmt.Sprintf("decode/high-k/%d-of-%d", shape.k, shape.n),
			"The same where erasure decoding is the cost: all of many shares are parity (for 71-of-255 and 100-of-256), 1 MiB segments.", shape, parity))
	}

	tahoe := file(s.tahoe, 1<<20)
	rows = append(rows, row{
		name:       "decode/tahoe",
		what:       "One client gets a cold 3-of-10 file with 1 MiB segments whose primary shares are there. Tahoe-LAFS fetches them from its own storage nodes, whose CPU time and memory count.",
		quantities: throughput,
		sides: []side{
			cold("Spillway", tahoe, primary, 2, wholeOnce),
			{name: "Tahoe-LAFS, force_foolscap", needs: []tool{toolTahoe}, start: startTahoe(tahoe, true), measure: wholeOnce},
			{name: "Tahoe-LAFS, GBS", needs: []tool{toolTahoe}, start: startTahoe(tahoe, false), measure: wholeOnce},
		},
		targets: []compare.Target{
			{Side: "Spillway", Over: "Tahoe-LAFS, force_foolscap", Least: 20},
			{Side: "Spillway", Over: "Tahoe-LAFS, GBS", Least: 20},
		},
	})

	first := row{
		name: "decode/first-byte", what: fmt.Sprintf("Time from before connecting to the first byte of the body, over %d requests for a sample: of a cold 3-of-10 file "+
			"(parity shares), each time in a gateway just started; of one cold file of %d MiB after the other in a running gateway; and of a spooled file.", s.opens, manyFiles.size>>20),
		quantities: []compare.Quantity{{Name: "median", Unit: "ms"}, {Name: "99th percentile", Unit: "ms"}},
		separate:   true,
		sides: []side{
			{name: "cold, 128 KiB segments", measure: coldFirstBytes(file(s.large, 128<<10))},
			{name: "cold, 1 MiB segments", measure: coldFirstBytes(file(s.large, 1<<20))},
			cold("cold, 1 MiB segments, gateway running", manyFiles, parity, 2, nextFirstBytes),
			spooled("spooled", file(s.large, 1<<20), 1, firstBytes),
			{name: "nginx", needs: []tool{toolNginx}, start: startNginx("off"), measure: firstBytes},
		},
		targets: []compare.Target{
			{Quantity: 1, Side: "cold, 128 KiB segments", Most: 5},
			{Quantity: 1, Side: "cold, 1 MiB segments", Most: 10},
			{Quantity: 1, Side: "cold, 1 MiB segments, gateway running", Most: 10},
			{Quantity: 1, Side: "spooled", Most: 1},
		},
	}
	ninety := row{
		name: "decode/range-at-90-percent", what: "A Range of 1 MiB at 90 % of a cold 3-of-10 file (parity shares): time, and chunks written when the metric is read right after the answer. " +
			"The file goes on filling, so the count is an upper bound.",
		quantities: []compare.Quantity{{Name: "time", Unit: "ms"}, {Name: "written", Unit: "chunks"}},
		separate:   true,
	}
	memory := row{
		name:       "decode/memory",
		what:       "Greatest resident memory of a gateway while it decodes a cold 3-of-10 file (parity shares) for one client, beyond what it has when idle.",
		quantities: []compare.Quantity{{Name: "growth", Unit: "MB"}},
		separate:   true,
	}
	for _, segment := range segments {
		name := segmentName(segment)
		ninety.sides = append(ninety.sides, cold(name, file(s.large, segment), parity, 2, rangeAtNinety))
		ninety.targets = append(ninety.targets, compare.Target{Quantity: 1, Side: name, Most: 2})
		memory.sides = append(memory.sides, cold(name, file(s.large, segment), parity, 2, coldMemory))
		memory.targets = append(memory.targets, compare.Target{Side: name, Most: 16})
	}

	crowd := row{
		name: "decode/crowd", what: "Some clients get one cold 3-of-10 file (parity shares, 1 MiB segments) at once; their throughput together.",
		quantities: throughput,
	}
	const alone = "1 client"
	for _, clients := range []int{1, 8, 64, 512} {
		name := fmt.Sprintf("%d clients", clients)
		if clients == 1 {
			name = alone
		}
		crowd.sides = append(crowd.sides, cold(name, file(s.crowd, 1<<20), parity, 2, crowdOnce(clients)))
		if clients > 1 {
			crowd.targets = append(crowd.targets, compare.Target{Side: name, Over: alone, Least: 1})
		}
	}
	return append(rows, first, ninety, memory, crowd)
}

// spooled is a gateway whose files, the first few, are spooled before anything is measured.
func spooled(name string, r recipe, files int, measure func(context.Context, *lab, *instance) (compare.Sample, error)) side {
	return side{name: name, measure: measure, start: func(ctx context.Context, l *lab) (*instance, error) {
		in, err := gateway(name, r, primary, 2).start(ctx, l)
		if err != nil {
			return nil, err
		}
		in.files = in.files[:files]
		for _, path := range in.files {
			if _, err := sink.FetchOnce(ctx, in.address, path, sink.Span{}); err != nil {
				in.close()
				return nil, err
			}
		}
		return in, nil
	}}
}

// percentiles makes a sample of latencies.
func percentiles(latencies []float64) compare.Sample {
	return compare.Sample{Values: []float64{compare.Median(latencies), compare.Quantile(latencies, 0.99)}}
}

// firstBytes asks a running program again and again.
func firstBytes(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
	var latencies []float64
	for range l.opens {
		took, err := sink.FirstByte(ctx, in.address, in.path)
		if err != nil {
			return compare.Sample{}, err
		}
		latencies = append(latencies, milliseconds(took))
	}
	return percentiles(latencies), nil
}

// coldFirstBytes asks a gateway of its own each time.
func coldFirstBytes(r recipe) func(context.Context, *lab, *instance) (compare.Sample, error) {
	return func(ctx context.Context, l *lab, _ *instance) (compare.Sample, error) {
		g, err := l.grid(ctx, r, parity)
		if err != nil {
			return compare.Sample{}, err
		}
		var latencies []float64
		for range l.opens {
			in, err := l.spillwayOn(ctx, g, 2)
			if err != nil {
				return compare.Sample{}, err
			}
			took, err := sink.FirstByte(ctx, in.address, in.path)
			in.close()
			if err != nil {
				return compare.Sample{}, err
			}
			latencies = append(latencies, milliseconds(took))
		}
		return percentiles(latencies), nil
	}
}

// nextFirstBytes asks for one file after the other.
func nextFirstBytes(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
	var latencies []float64
	for _, path := range in.files[:l.opens] {
		took, err := sink.FirstByte(ctx, in.address, path)
		if err != nil {
			return compare.Sample{}, err
		}
		latencies = append(latencies, milliseconds(took))
		// Nothing is being decoded any more when the next one is asked for.
		if _, err := sink.FetchOnce(ctx, in.address, path, sink.Span{}); err != nil {
			return compare.Sample{}, err
		}
	}
	return percentiles(latencies), nil
}

func rangeAtNinety(ctx context.Context, _ *lab, in *instance) (compare.Sample, error) {
	const chunks = "spillway_spool_written_chunks_total"
	// The connection for the metric, and all that a first request needs, are there before it
	// matters.
	if _, err := in.metric(ctx, chunks); err != nil {
		return compare.Sample{}, err
	}
	c, err := sink.Dial(ctx, in.address)
	if err != nil {
		return compare.Sample{}, err
	}
	defer c.Close()
	start := time.Now()
	_, err = c.Fetch(in.path, sink.Span{Offset: in.size / 10 * 9, Length: 1 << 20})
	took := time.Since(start)
	if err != nil {
		return compare.Sample{}, err
	}
	written, err := in.metric(ctx, chunks)
	return compare.Sample{Values: []float64{milliseconds(took), written}}, err
}

func coldMemory(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
	idle, err := in.Usage()
	if err != nil {
		return compare.Sample{}, err
	}
	s, err := wholeOnce(ctx, l, in)
	if err != nil {
		return compare.Sample{}, err
	}
	used, err := in.Usage()
	s.Values = []float64{float64(used.Peak-idle.Resident) / 1e6}
	return s, err
}

func serveRows(s scale) []row {
	const best = "Spillway"
	var rows []row
	for _, w := range []struct {
		name, what string
		quantities []compare.Quantity
		needs      []tool
		least      float64 // of nginx
		measure    func(context.Context, *lab, *instance) (compare.Sample, error)
	}{
		{"serve/whole-file", "One client gets a whole file, again and again.", throughput, nil, 1.1, wholeAgain},
		{"serve/ranges-8MiB", "64 clients get random Ranges of 8 MiB.", throughput, nil, 1.1, ranges(64, 8<<20)},
		{"serve/ranges-64KiB", "wrk gets random Ranges of 64 KiB on 64 keep-alive connections (it copies what it receives).",
			[]compare.Quantity{{Name: "rate", Unit: "requests/s"}}, []tool{toolWrk}, 0.75, wrkRanges(64, 64<<10)},
	} {
		r := row{
			name: w.name, what: w.what + " Spillway's file is spooled, the others' is in the page cache or their own.", quantities: w.quantities,
			targets: []compare.Target{{Side: best, Over: "nginx", Least: w.least}},
		}
		add := func(peer side, needs ...tool) {
			peer.measure, peer.needs = w.measure, slices.Concat(needs, w.needs)
			r.sides = append(r.sides, peer)
		}
		add(spooled(best, file(s.large, 1<<20), 1, nil))
		add(side{name: "nginx", start: startNginx("off")}, toolNginx)
		add(side{name: "nginx, tcp_nopush", start: startNginx("on")}, toolNginx)
		add(side{name: "Apache", start: startApache}, toolApache)
		add(side{name: "rclone", start: startRclone}, toolRclone)
		add(side{name: "MinIO", start: startMinIO}, toolMinIO)
		rows = append(rows, r)
	}
	return rows
}
