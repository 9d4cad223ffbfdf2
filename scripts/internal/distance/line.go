//go:build linux

package distance

import (
	"container/heap"
	"math/bits"
	"sync"
	"time"
)

// lineBytes bounds what is on its way in one direction: a gigabyte a second over 300 ms there and
// back. What would be more is lost.
const lineBytes = 160 << 20

// line delivers packets when they are due.
type line struct {
	deliver func(packet)  // called with the mutex held, so that packets stay in order
	wake    chan struct{} // holds one token: something is due earlier, or the line is closed

	mu     sync.Mutex
	queue  arrivals
	next   uint64 // number of the next packet
	bytes  int
	free   [32][]packet // used again: free[i] are of 1<<i bytes
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

// push sends a packet that arrives when it is due: at once, if that is now. The line keeps a copy
// if it must.
func (l *line) push(now, due time.Time, p packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 && !due.After(now) && !l.closed {
		l.deliver(p)
		return
	}
	if l.bytes+len(p) > lineBytes {
		return
	}
	l.bytes += len(p)
	heap.Push(&l.queue, arrival{due, l.next, l.copyLocked(p)})
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
		wait, ok := l.arrive(time.Now())
		switch {
		case !ok:
			return
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

// arrive delivers what is due and returns how long it is until something else is, 0 if there is
// nothing; ok is false when the line is closed.
func (l *line) arrive(now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && len(l.queue) > 0 {
		if wait := l.queue[0].due.Sub(now); wait > 0 {
			return wait, true
		}
		p := heap.Pop(&l.queue).(arrival).packet
		l.bytes -= len(p)
		l.deliver(p)
		class := sizeClass(p)
		l.free[class] = append(l.free[class], p)
	}
	return 0, !l.closed
}

// copyLocked copies a packet into memory that has been used before, if there is some.
func (l *line) copyLocked(p packet) packet {
	class := sizeClass(p)
	var kept packet
	if last := len(l.free[class]) - 1; last >= 0 {
		kept, l.free[class] = l.free[class][last], l.free[class][:last]
	} else {
		kept = make(packet, 1<<class)
	}
	return append(kept[:0], p...)
}

// sizeClass is the logarithm of the memory that a packet is kept in.
func sizeClass(p packet) int { return bits.Len(uint(len(p) - 1)) }

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
