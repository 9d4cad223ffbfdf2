package spool

import "sync"

// Pace is how a Source is best used just now. Its methods are asked often, by several goroutines,
// and must not block.
type Pace interface {
	Run() int64   // how many consecutive chunks one call of WriteChunks writes fastest, at least one
	Workers() int // how many calls of WriteChunks at a time are of use, at least one
}

// Work fetches chunks, run after run, by as many workers as pace has use for. It returns when all
// of them have gone.
//
//  1. One worker begins.
//  2. A worker goes if there are more than pace has use for now, or if fetch has returned false.
//  3. It calls take, which is told how many workers are of use and the greatest run. Take chooses
//     a run, the n chunks from c on, and may wait for one. The worker goes if n is 0.
//  4. It begins another worker if there are fewer than pace had use for.
//  5. It calls fetch and goes on with 2. Fetch returns false when no other run is worth trying.
//
// Several workers call take and fetch at the same time.
func Work(pace Pace, take func(workers int, run int64) (c, n int64), fetch func(c, n int64) bool) {
	crew := crew{size: 1}
	var all sync.WaitGroup
	var work func()
	work = func() {
		for {
			wanted := pace.Workers()
			if !crew.keeps(wanted) {
				return
			}
			c, n := take(wanted, pace.Run())
			if n == 0 {
				crew.keeps(0)
				return
			}
			if crew.grows(wanted) {
				all.Go(work)
			}
			if !fetch(c, n) {
				crew.disband()
			}
		}
	}
	all.Go(work)
	all.Wait()
}

// crew counts the workers of one call of Work.
type crew struct {
	mu        sync.Mutex // guards what follows
	size      int
	disbanded bool // every worker goes after what it is at
}

// keeps tells whether a worker stays, as no more than wanted are there. If not, it is counted off.
func (c *crew) keeps(wanted int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size <= wanted && !c.disbanded {
		return true
	}
	c.size--
	return false
}

// grows tells whether another worker is wanted. If so, it is counted in.
func (c *crew) grows(wanted int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size >= wanted || c.disbanded {
		return false
	}
	c.size++
	return true
}

func (c *crew) disband() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disbanded = true
}
