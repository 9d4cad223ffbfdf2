package fleet

import (
	"context"
	"slices"
	"sync"
	"time"

	"spillway/decode/grid"
)

// pingRounds is how often a server is asked the same again once it has answered: an odd
// number, so that there is a middle one.
const pingRounds = 3

// PingResult is how a server answered a Ping.
type PingResult struct {
	Server   string        // nickname, or URL without its secret
	Err      error         // why it did not answer, or not all; nil if it did
	Latency  time.Duration // of one request on a connection that is there; 0 if there is none
	Software string        // what it runs, in its own words; "" if it does not tell
	Free     int64         // bytes that it can take; -1 if it does not tell
	// Shares: ascending numbers of the file's shares that it holds; nil if it was not asked or did
	// not answer.
	Shares []int
}

// Ping asks every server at once whether it is well and, unless file is nil, which shares it holds
// of the file of that name. Each has Config.Timeout for all of its answers. They are in the order
// of the servers. The error is ErrClosed or the context's; what is wrong with a server stands in
// its PingResult.
func (f *Fleet) Ping(ctx context.Context, file *grid.StorageIndex) ([]PingResult, error) {
	ctx, done, err := f.life.Join(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	members := f.Join(nil)
	defer f.Leave(members)
	pings := make([]PingResult, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			request, cancel := f.Bounded(ctx)
			defer cancel()
			pings[i] = PingResult{Server: m.String(), Free: -1}
			pings[i].Err = grid.Cause(request, pings[i].ask(request, m.Server.Server, file))
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return pings, nil
}

// ask fills in what the server answers, and returns the first error.
func (p *PingResult) ask(ctx context.Context, s grid.Server, file *grid.StorageIndex) error {
	hello := func() error {
		_, err := s.Shares(ctx, grid.StorageIndex{}) // of which there are none
		return err
	}
	if describer, ok := s.(grid.Describer); ok {
		hello = func() error {
			d, err := describer.Describe(ctx)
			if err == nil {
				p.Software, p.Free = d.Software, d.Free
			}
			return err
		}
	}
	if err := hello(); err != nil { // this one connects
		return err
	}
	var times []time.Duration
	for range pingRounds {
		start := time.Now()
		if err := hello(); err != nil {
			return err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	p.Latency = times[len(times)/2]
	if file == nil {
		return nil
	}
	shares, err := s.Shares(ctx, *file)
	if err != nil {
		return err
	}
	p.Shares = append([]int{}, shares...)
	slices.Sort(p.Shares)
	return nil
}
