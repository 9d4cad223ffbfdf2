//go:build linux

package distance

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Link is what lies between the clients and a server. The zero value is a link that takes no time.
type Link struct {
	Delay time.Duration // each way, so half a round trip
	Loss  float64       // the share of segments that are lost, 0 to 1, each way
	Rate  int64         // bytes a second, headers included, each way; 0: as fast as the machine
}

// Before a slow link, packets wait in a queue that holds what the link sends in queueTime, but at
// least queueLeast bytes. One that finds it full is lost.
const (
	queueTime  = 100 * time.Millisecond
	queueLeast = 64 << 10
)

// bundleTime is how much of a slow link's time a bundle may take: more, and what would come as a
// stream comes in heaps.
const bundleTime = time.Millisecond

// way is one direction of a link.
type way struct {
	mu     sync.Mutex
	link   Link
	random *rand.Rand
	free   time.Time // when a slow link will have sent all that is waiting for it
	last   time.Time // when the last packet arrives; none overtakes another
	passed Traffic
}

func (w *way) set(l Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link = l
	w.free = time.Time{}
}

func (w *way) traffic() Traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.passed
}

// admit decides what becomes of a packet that is sent now: it calls push, in order, for each part
// that arrives, with a packet that is push's until it returns, and the time of its arrival.
func (w *way) admit(now time.Time, p packet, push func(arrival time.Time, p packet)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	segments := p.segments()
	each := p.size() / segments
	bundle := segments
	if w.link.Rate > 0 {
		bundle = max(1, int(time.Duration(w.link.Rate)*bundleTime/time.Second)/each)
	}
	if w.free.Before(now) {
		w.free = now
	}
	pass := func(from, to int) {
		if from == to {
			return
		}
		part := p.slice(from, to)
		w.passed.Bytes += int64(part.size())
		if arrival := w.free.Add(w.link.Delay); arrival.After(w.last) {
			w.last = arrival
		}
		push(w.last, part)
	}
	from := 0
	for i := range segments {
		lost := w.link.Loss > 0 && w.random.Float64() < w.link.Loss
		if !lost && w.link.Rate > 0 {
			if lost = w.free.Sub(now) > w.queue(); !lost {
				w.free = w.free.Add(time.Duration(each) * time.Second / time.Duration(w.link.Rate))
			}
		}
		switch {
		case lost:
			w.passed.Lost++
			pass(from, i)
			from = i + 1
		case i+1-from == bundle:
			pass(from, i+1)
			from = i + 1
		}
	}
	pass(from, segments)
}

// queue is how long the last packet of a full queue waits.
func (w *way) queue() time.Duration {
	return max(queueTime, queueLeast*time.Second/time.Duration(w.link.Rate))
}
