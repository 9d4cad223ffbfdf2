//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"spillway/scripts/internal/compare"
	"spillway/scripts/internal/sink"

	"golang.org/x/sync/errgroup"
)

// megabytes is a throughput in MB/s.
func megabytes(n int64, took time.Duration) float64 { return float64(n) / 1e6 / took.Seconds() }

// milliseconds converts a duration for a report.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// wholeOnce is one GET of the file.
func wholeOnce(ctx context.Context, _ *lab, in *instance) (compare.Sample, error) {
	start := time.Now()
	n, err := sink.FetchOnce(ctx, in.address, in.path, sink.Span{})
	took := time.Since(start)
	if err == nil && n != in.size {
		err = fmt.Errorf("got %d bytes of %d", n, in.size)
	}
	return compare.Sample{Values: []float64{megabytes(n, took)}, Delivered: n}, err
}

// wholeAgain is one client that gets the file again and again.
func wholeAgain(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
	return ranges(1, 0)(ctx, l, in)
}

// ranges is some clients that each get random spans of so many bytes of the file, or, if length is
// 0, all of it, one after the other on one connection.
func ranges(clients int, length int64) func(context.Context, *lab, *instance) (compare.Sample, error) {
	return func(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
		var delivered atomic.Int64
		start := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for i := range clients {
			group.Go(func() error {
				c, err := sink.Dial(ctx, in.address)
				if err != nil {
					return err
				}
				defer c.Close()
				random := rand.New(rand.NewPCG(uint64(i), 0))
				for time.Since(start) < l.interval {
					var s sink.Span
					if length > 0 {
						s = sink.Span{Offset: random.Int64N(in.size - length + 1), Length: length}
					}
					n, err := c.Fetch(in.path, s)
					if err != nil {
						return err
					}
					delivered.Add(n)
				}
				return nil
			})
		}
		err := group.Wait()
		return compare.Sample{Values: []float64{megabytes(delivered.Load(), time.Since(start))}, Delivered: delivered.Load()}, err
	}
}

// crowdOnce is so many clients that get the whole file at once.
func crowdOnce(clients int) func(context.Context, *lab, *instance) (compare.Sample, error) {
	return func(ctx context.Context, _ *lab, in *instance) (compare.Sample, error) {
		start := time.Now()
		group, ctx := errgroup.WithContext(ctx)
		for range clients {
			group.Go(func() error {
				_, err := sink.FetchOnce(ctx, in.address, in.path, sink.Span{})
				return err
			})
		}
		err := group.Wait()
		n := int64(clients) * in.size
		return compare.Sample{Values: []float64{megabytes(n, time.Since(start))}, Delivered: n}, err
	}
}

// wrkScript asks for random spans; the verdict is on a line of its own.
const wrkScript = `
local threads = 0
function setup(thread)
	threads = threads + 1
	thread:set("number", threads)
end
function init(args)
	math.randomseed(number)
end
function request()
	local from = math.random(0, %[1]d - %[2]d)
	wrk.headers["Range"] = string.format("bytes=%%d-%%d", from, from + %[2]d - 1)
	return wrk.format(nil)
end
function done(summary, latency, requests)
	local e = summary.errors
	print(string.format("verdict %%d %%d %%d %%d", summary.requests, summary.bytes, summary.duration,
		e.connect + e.read + e.write + e.status + e.timeout))
end
`

var wrkVerdict = regexp.MustCompile(`(?m)^verdict (\d+) (\d+) (\d+) (\d+)$`)

// wrkRanges is wrk with so many keep-alive connections, each asking for random spans of so many
// bytes. The quantity is requests for each second.
func wrkRanges(connections int, length int64) func(context.Context, *lab, *instance) (compare.Sample, error) {
	return func(ctx context.Context, l *lab, in *instance) (compare.Sample, error) {
		program, err := toolWrk.find(l)
		if err != nil {
			return compare.Sample{}, err
		}
		script := filepath.Join(l.work, "ranges.lua")
		if err := os.WriteFile(script, fmt.Appendf(nil, wrkScript, in.size, length), 0o644); err != nil {
			return compare.Sample{}, err
		}
		seconds := max(1, int(l.interval.Seconds()+0.5))
		out, err := exec.CommandContext(ctx, program, "--threads", "1", "--connections", strconv.Itoa(connections), "--duration", fmt.Sprint(seconds, "s"),
			"--script", script, "http://"+in.address+in.path).CombinedOutput()
		if err != nil {
			return compare.Sample{}, fmt.Errorf("wrk: %w\n%s", err, out)
		}
		return wrkSample(out, length)
	}
}

// wrkSample reads what wrk printed in the end.
func wrkSample(out []byte, length int64) (compare.Sample, error) {
	found := wrkVerdict.FindSubmatch(out)
	if found == nil {
		return compare.Sample{}, fmt.Errorf("wrk gave no verdict:\n%s", out)
	}
	var figures [4]int64 // requests, bytes, microseconds, errors
	for i := range figures {
		n, err := strconv.ParseInt(string(found[i+1]), 10, 64)
		if err != nil {
			return compare.Sample{}, err
		}
		figures[i] = n
	}
	requests, bytes, took, failed := figures[0], figures[1], time.Duration(figures[2])*time.Microsecond, figures[3]
	if failed > 0 || bytes < requests*length {
		return compare.Sample{}, fmt.Errorf("wrk: %d requests of %d bytes brought %d bytes and %d errors", requests, length, bytes, failed)
	}
	return compare.Sample{Values: []float64{float64(requests) / took.Seconds()}, Delivered: requests * length}, nil
}

// metric returns a metric of a gateway that has no labels.
func (in *instance) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(body)
	if found == nil {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
