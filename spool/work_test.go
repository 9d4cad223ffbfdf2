package spool_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/spool"
)

// pace is a Pace that a test sets.
type pace struct{ run, workers atomic.Int64 }

func (p *pace) Run() int64   { return p.run.Load() }
func (p *pace) Workers() int { return int(p.workers.Load()) }

// As many workers are there as are of use, also when that changes, and all chunks are fetched once.
func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			p       pace
			mu      sync.Mutex
			next    int64
			fetched []int64
			inside  atomic.Int64
		)
		const end = 100
		step := make(chan struct{})
		take := func(workers int, run int64) (c, n int64) {
			mu.Lock()
			defer mu.Unlock()
			if workers != p.Workers() || run != p.Run() {
				t.Errorf("take(%d, %d) at a pace of %d, %d", workers, run, p.Workers(), p.Run())
			}
			c, n = next, min(run, end-next)
			next += n
			return c, n
		}
		fetch := func(c, n int64) bool {
			inside.Add(1)
			<-step
			inside.Add(-1)
			mu.Lock()
			defer mu.Unlock()
			for i := range n {
				fetched = append(fetched, c+i)
			}
			return true
		}
		p.run.Store(3)
		p.workers.Store(4)
		var gone atomic.Bool
		go func() {
			spool.Work(&p, take, fetch)
			gone.Store(true)
		}()
		for _, workers := range []int64{4, 1, 7, 2} {
			p.workers.Store(workers)
			for range 7 { // each of as many as there were looks at the pace
				step <- struct{}{}
				synctest.Wait()
			}
			if n := inside.Load(); n != workers {
				t.Errorf("%d workers, want %d", n, workers)
			}
		}
		close(step)
		synctest.Wait()
		slices.Sort(fetched)
		if !gone.Load() || !slices.Equal(fetched, upTo(end)) {
			t.Errorf("returned %v, fetched %v", gone.Load(), fetched)
		}
	})
}

// When fetch has seen that nothing is worth trying, nothing else is taken; what is under way ends.
func TestWorkEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		p.run.Store(1)
		p.workers.Store(3)
		var taken, fetched atomic.Int64
		spool.Work(&p, func(int, int64) (c, n int64) { return taken.Add(1), 1 }, func(c, n int64) bool {
			time.Sleep(time.Duration(c) * time.Second) // one ends after the other
			fetched.Add(1)
			return false
		})
		if taken.Load() != 3 || fetched.Load() != 3 {
			t.Errorf("%d runs taken, %d fetched", taken.Load(), fetched.Load())
		}
	})
}
