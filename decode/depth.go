package decode

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"spillway/decode/grid"
)

// depth finds out how many calls of WriteChunks at a time keep the processors and the servers busy: as many
// as there are processors, and twice what arrives in the time that the servers need when nothing is in
// the way (Little's law). More would only wait in queues. So that this time stays true, now and then
// it goes back to few calls for a moment, as BBR does (draft-ietf-ccwg-bbr, ProbeRTT).
type depth struct {
	mu       sync.Mutex
	running  int
	rate     float64       // chunks a second; 0: unknown
	least    time.Duration // that gathering the blocks of a call took
	measured time.Time     // when it did
}

const (
	nearby     = 2 * time.Millisecond // up to which gathering takes no time worth hiding: local disks
	leastHolds = 20 * time.Second
	// mostAtFirst is how many calls more than processors there are before it is known how far the servers are.
	// With more, the first byte would have to share the way with what is not wanted yet.
	mostAtFirst = 4
)

// begin notes that a call begins and returns how many are under way with it.
func (d *depth) begin() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running++
	return d.running
}

// end notes a call for n chunks that took so long, so long of it for gathering blocks, load of them under way
// when it began.
func (d *depth) end(load int, n int64, took, gathering time.Duration, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	rate := float64(d.running) * float64(n) / max(took, time.Microsecond).Seconds()
	d.running--
	if !ok {
		return
	}
	if rate > d.rate {
		d.rate += (rate - d.rate) / 2
	} else {
		d.rate += (rate - d.rate) / 8
	}
	if d.least == 0 || gathering < d.least || d.isOldLocked(now) && load <= runtime.GOMAXPROCS(0) {
		d.least, d.measured = gathering, now
	}
}

func (d *depth) isOldLocked(now time.Time) bool { return now.Sub(d.measured) > leastHolds }

// isNew tells whether nothing has been read yet.
func (d *depth) isNew() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rate == 0
}

// want returns how many calls for n chunks each should be under way. As long as nothing has been read, latency says
// how far away the servers are.
func (d *depth) want(n int64, latency time.Duration) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := runtime.GOMAXPROCS(0)
	switch {
	case d.rate == 0:
		calls += int(min(latency/(10*time.Millisecond), mostAtFirst))
	case d.least > nearby && !d.isOldLocked(time.Now()):
		calls += int(2 * d.rate / float64(n) * d.least.Seconds())
	}
	return calls
}

// Workers returns how many calls of WriteChunks at a time keep the servers busy, at present and
// within the memory that one File may take. It does not block.
func (f *File) Workers() int {
	var latency time.Duration
	if f.depth.isNew() {
		latency = f.latency()
	}
	run := f.Run()
	memory := f.memory(run)
	most := f.client.memory.most(memory)
	if f.near {
		most = min(most, f.client.near.most(memory))
	}
	return max(1, min(f.depth.want(run, latency), int(most/memory)))
}

// latency returns that of the quickest server.
func (f *File) latency() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	least := time.Duration(0)
	for _, m := range f.members {
		if l := m.pace.roundTrip(); l != 0 && (least == 0 || l < least) {
			least = l
		}
	}
	return least
}

// isConnected tells whether a server is reached by connections.
func (f *File) isConnected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.members, func(m *member) bool {
		_, ok := m.Server.Server.(grid.Connector)
		return ok
	})
}

// usualRate returns the throughput of the k-th quickest server, in bytes a second; 0 if fewer are known.
func (f *File) usualRate() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	rates := make([]float64, len(f.members))
	for i, m := range f.members {
		rates[i] = m.pace.throughput()
	}
	slices.Sort(rates)
	return rates[max(0, len(rates)-f.cap.k)]
}
