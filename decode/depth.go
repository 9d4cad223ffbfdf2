package decode

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

// depth finds out how many calls of WriteChunks at a time keep the processors and the servers busy: as many
// as there are processors, and twice what arrives in the time that the servers need when nothing is in
// the way, or four times where they are far (Little's law). More would only wait in queues. So that this time stays true, now and then
// it goes back to few calls for a moment, as BBR does (draft-ietf-ccwg-bbr, ProbeRTT).
type depth struct {
	mu       sync.Mutex
	running  int
	rate     float64       // chunks a second; 0: unknown
	least    time.Duration // that gathering the blocks of a call took
	measured time.Time     // when it did
	startup  startup
	waiting  []*turn // in the order in which they came
}

const (
	nearby     = 2 * time.Millisecond // up to which gathering takes no time worth hiding: local disks
	leastHolds = 20 * time.Second     // the time is measured again then, or after a hundred times as long as it is
)

// endLocked notes a call for n chunks that took so long, so long of it for gathering blocks, load of them under way
// when it began.
func (d *depth) endLocked(load int, n int64, took, gathering time.Duration, ok bool) {
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

func (d *depth) isOldLocked(now time.Time) bool {
	return now.Sub(d.measured) > max(leastHolds, 100*d.least)
}

// wantLocked returns how many calls for n chunks each should be under way.
func (d *depth) wantLocked(n int64) int {
	calls := runtime.GOMAXPROCS(0)
	switch {
	case d.rate == 0:
		calls = max(calls, d.startup.calls)
	case d.least > nearby && !d.isOldLocked(time.Now()):
		ahead := 2.0
		if d.startup.roundTrip != 0 {
			ahead = 4 // as the ways of several servers are not all as quick, and each is to be full
		}
		calls += int(ahead * d.rate / float64(n) * d.least.Seconds())
	}
	return calls
}

// Workers returns how many calls of WriteChunks at a time keep the servers busy, at present and
// within the memory that one File may take. It does not block.
func (f *File) Workers() int {
	d := &f.depth
	most := f.mostCalls()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.startup.grows() {
		return most // which wait for their turns
	}
	return min(d.wantLocked(f.Run()), most)
}

// mostCalls returns how many calls of WriteChunks there is memory for, at least one.
func (f *File) mostCalls() int {
	memory := f.memory(f.Run())
	most := f.client.memory.most(memory)
	if f.near {
		most = min(most, f.client.near.most(memory))
	}
	return max(1, int(most/memory))
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

// hasServer tells whether a server of the file is of a kind, such as grid.Connector.
func hasServer[Kind any](f *File) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.members, func(m *member) bool {
		_, ok := m.Server.Server.(Kind)
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
	return rates[max(0, len(rates)-f.verifier.K)]
}
