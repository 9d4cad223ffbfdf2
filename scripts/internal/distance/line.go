//go:build linux

package distance

import (
	"container/heap"
	"sync"
	"time"
)

// lineBytes bounds what is on its way in one direction: a gigabyte a second over 300 ms there and back. What
// would be more is lost.
const lineBytes = 160 << 20

// line delivers packets when they are due.
type line struct {
	deliver func(packet)  // called by run alone
	wake    chan struct{} // holds one token: something is due earlier, or the line is closed

	mu     sync.Mutex
	queue  arrivals
	next   uint64 // number of the next packet
	bytes  int
	closed bool
}

// arrival is a packet on its way.
type arrival struct {
	due    time.Time
	number uint64 // packets due at the same time arrive in the order in which they were sent
	packet packet
}

func newLine(deliver func(packet)) *line {
	return &line{deliver: deliver, wake: make(chan struct{}, 1)}
}

// push sends a packet that arrives when it is due. The line owns it from then on.
func (l *line) push(due time.Time, p packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+len(p) > lineBytes {
		return
	}
	l.bytes += len(p)
	heap.Push(&l.queue, arrival{due, l.next, p})
	l.next++
	if l.queue[0].number == l.next-1 {
		l.signal()
	}
}

// close ends run. What is on its way never arrives.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.signal()
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // it will be woken anyway
	}
}

// run delivers until the line is closed.
func (l *line) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p, wait, ok := l.take(time.Now())
		switch {
		case !ok:
			return
		case p != nil:
			l.deliver(p)
		case wait > 0:
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-l.wake:
			}
		default:
			<-l.wake
		}
	}
}

// take returns a packet that is due, else how long it is until the next one is, 0 if there is none; ok is
// false when the line is closed.
func (l *line) take(now time.Time) (p packet, wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, 0, false
	case len(l.queue) == 0:
		return nil, 0, true
	}
	if wait = l.queue[0].due.Sub(now); wait > 0 {
		return nil, wait, true
	}
	p = heap.Pop(&l.queue).(arrival).packet
	l.bytes -= len(p)
	return p, 0, true
}

// arrivals is a heap whose first is due first.
type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	return a[i].due.Before(a[j].due) || a[i].due.Equal(a[j].due) && a[i].number < a[j].number
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = arrival{} // lets go of the packet
	*a = (*a)[:last]
	return x
}
