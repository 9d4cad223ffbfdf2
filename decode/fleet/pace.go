package fleet

import (
	"math"
	"math/bits"
	"time"

	"spillway/decode/ranked"
)

// pace is what is known of how quickly a server answers. A read of b bytes while n are
// under way is expected to take latency + b * n / rate: what a server sends in a second is
// shared by its reads. Safe for concurrent use.
type pace struct {
	mu ranked.Mutex[ranked.Leaf] // guards all below
	// chosen: reads of blocks that this server is to answer or answers, whether or not its share is
	// open yet.
	chosen   int
	queued   int           // reads that are to begin
	running  int           // reads under way
	latency  time.Duration // of a request that brings next to nothing; 0: unknown
	rate     float64       // bytes a second; 0: unknown
	measured time.Time     // when the rate was
	spread   float64       // mean deviation from the expected time, as a part of it
	answered time.Time     // last
	failures int           // in a row, one for each time that it was tried again
	until    time.Time     // with failures: when it will be tried again
}

// What follows was tuned with real servers and in virtual time: see decisions
// servers-by-how-quick-they-are and late-reads-and-hedging.
const (
	// SmallRead is how many bytes a read brings at most that says something of the latency; what
	// brings more says something of the rate.
	SmallRead   = 16 << 10
	firstSpread = 0.5 // until a second block tells
	// leastLate: no read is late sooner: less may be the machine's own doing.
	leastLate = 250 * time.Millisecond
	// forgetting: in which an unused server's rate is assumed to have doubled.
	forgetting     = 2 * time.Second
	firstBackoff   = time.Second
	longestBackoff = time.Minute
)

// choose notes that n more reads of blocks are for the server to answer. They count before they are
// queued, lest all that begin at once choose the same servers.
func (p *pace) choose(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chosen += n
}

func (p *pace) othersLocked() int { return max(p.chosen, p.queued+p.running) }

// enqueue notes that a read is to begin, and returns which part of MaxRequests it takes.
func (p *pace) enqueue(bytes int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued++
	if p.rate == 0 {
		return 1
	}
	return int64(min(max(MaxRequests*float64(bytes)/(p.rate*longestQueue.Seconds()), 1), MaxRequests))
}

// begin notes that a read begins that was queued, or is given up, and returns how many are under
// way with it.
func (p *pace) begin(ok bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued--
	if ok {
		p.running++
	}
	return p.running
}

// end notes that a read has ended that brought bytes, n of them under way when it began. A
// read that did not succeed says nothing of the pace; see fail.
func (p *pace) end(n, bytes int, took time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	load := float64(n+p.running) / 2
	p.running--
	if !ok {
		return
	}
	p.failures = 0
	p.answered = time.Now()
	took = max(took, time.Microsecond)
	if bytes > SmallRead {
		if p.rate != 0 {
			expected := float64(p.expectedLocked(bytes, load))
			p.spread += (min(math.Abs(float64(took)-expected)/expected, 2) - p.spread) / 4
		} else {
			p.spread = firstSpread
		}
		sample := float64(bytes) * load / max(took-p.latency, took/8).Seconds()
		if p.rate == 0 {
			p.rate = sample
		} else {
			p.rate += (sample - p.rate) / 4
		}
		p.measured = p.answered
	}
	switch {
	case p.latency == 0 || took < p.latency:
		p.latency = took
	case bytes <= SmallRead:
		p.latency += (took - p.latency) / 8
	}
}

// fail notes that the server failed, and returns when it may be tried again: after a time that
// doubles, save for what was under way already when that was noted before.
func (p *pace) fail(now time.Time) (until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failLocked(now)
	return p.until
}

func (p *pace) failLocked(now time.Time) {
	if p.failures > 0 && now.Before(p.until) {
		return
	}
	p.until = now.Add(min(firstBackoff<<min(p.failures, 10), longestBackoff))
	p.failures++
}

// isLate notes that a read is late that began then, which is a failure if the server has answered
// nothing for half of that time. It returns how often it has failed in a row, 0 if this changes
// nothing.
func (p *pace) isLate(now, began time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before := p.failures; now.Sub(p.answered) > now.Sub(began)/2 {
		if p.failLocked(now); p.failures > before {
			return p.failures
		}
	}
	return 0
}

// next returns when the server may be tried again, the past if it has not failed.
func (p *pace) next() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures == 0 {
		return time.Time{}
	}
	return p.until
}

// isInUse tells whether the server has answered since then, or has failed and is not to be tried
// again yet.
func (p *pace) isInUse(now, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered.After(since) || p.failures > 0 && now.Before(p.until)
}

func (p *pace) expectedLocked(bytes int, load float64) time.Duration {
	return expected(p.latency, p.rate, bytes, load)
}

// expected returns how long a read of so many bytes takes while so many are under way.
func expected(latency time.Duration, rate float64, bytes int, load float64) time.Duration {
	if rate != 0 {
		latency += time.Duration(float64(bytes) * load / rate * float64(time.Second))
	}
	return max(latency, time.Microsecond)
}

// expected returns how long a read of so many bytes takes that has the server to itself, as far as
// is known.
func (p *pace) expected(bytes int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expectedLocked(bytes, 1)
}

// lateNext returns after what time a read of so many bytes that begins now is late compared with
// what the server usually needs; most at the latest, as for a server of which nothing is known.
func (p *pace) lateNext(bytes int, most time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.latency == 0 || (p.rate == 0 && bytes > SmallRead) {
		return most
	}
	expected := float64(p.expectedLocked(bytes, float64(max(p.chosen, p.queued+p.running+1))))
	spread := p.spread
	if bytes <= SmallRead {
		spread = max(spread, firstSpread)
	}
	return min(max(time.Duration(expected*(1.5+4*spread)), leastLate), most)
}

// roundTrip returns the time of a request that brings next to nothing, 0 if it is unknown.
func (p *pace) roundTrip() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latency
}

// throughput returns how many bytes a second the server sends, 0 if it is unknown.
func (p *pace) throughput() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

const (
	untriedClass = 32 // of servers that have yet to bring their first block
	lastClass    = 64 // of servers that are to be tried again later only
)

// Outlook is what a server promises at one moment, so that its shares are ranked alike whatever
// goes on meanwhile.
type Outlook struct {
	others  int // reads that are under way or chosen
	latency time.Duration
	rate    float64       // bytes a second; 0: unknown
	idle    time.Duration // since the rate was measured
	failed  bool          // and has not answered since
	barred  bool          // and is not to be tried again yet
}

func (p *pace) outlook(now time.Time) Outlook {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Outlook{
		others: p.othersLocked(), latency: p.latency, rate: p.rate, idle: now.Sub(p.measured),
		failed: p.failures > 0, barred: p.failures > 0 && now.Before(p.until),
	}
}

// Class ranks the server for a read of so many bytes beside more others, as it may be: less is
// quicker, by factors of the square root of two. Sure leaves it to others to find out whether a
// server has recovered. Below some milliseconds nothing is gained by preferring one to another.
func (o Outlook) Class(bytes, more int, sure bool) int {
	others := o.others + more
	if o.failed && (sure || o.others > 0 || o.barred) {
		return lastClass
	}
	if o.rate == 0 && others > 0 {
		// one read is enough to find out
		return untriedClass + min(others, lastClass-untriedClass-1)
	}
	load := float64(others + 1)
	if o.idle > time.Second {
		load *= math.Exp2(-float64(o.idle) / float64(forgetting))
	}
	quanta := uint64(expected(o.latency, o.rate, bytes, load) / (4 * time.Millisecond))
	return min(bits.Len64(quanta*quanta), untriedClass-1)
}
