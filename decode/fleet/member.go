package fleet

import (
	"context"
	"time"

	"spillway/decode/allowance"
)

// Member is a Server of a Fleet, and what has been learned of it.
type Member struct {
	Server
	fleet    *Fleet
	pace     pace
	requests *allowance.Allowance

	// Guarded by Fleet.mu.
	// the Fleet, each who has joined, and who tells it something; at 0 it is closed
	users   int
	untold  []advice         // what it is still to be told
	telling bool             // a goroutine does so
	advised map[advised]bool // what it was told, or is to be
}

const (
	// MaxRequests is how many requests one server is asked at a time, of a slow one fewer: no more
	// than it can answer in longestQueue, so that nobody waits for longer who comes next
	// (see decision nobody-starves).
	MaxRequests  = 16
	longestQueue = 5 * time.Second
)

func newMember(f *Fleet, s Server) *Member {
	return &Member{Server: s, fleet: f, requests: allowance.New(MaxRequests), users: 1}
}

// Request is a request to a server under way.
type Request struct {
	member *Member
	holder allowance.Holder
	load   int   // requests under way with it, itself included
	cost   int64 // of the member's requests
	began  time.Time
}

// Begin waits until the server may be asked for so many bytes, which End follows, also when it
// fails. The error is the cause of the context's end.
func (m *Member) Begin(ctx context.Context, holder allowance.Holder, bytes int) (Request, error) {
	r := Request{member: m, holder: holder, cost: m.pace.enqueue(bytes)}
	err := m.requests.Acquire(ctx, holder, r.cost)
	r.load, r.began = m.pace.begin(err == nil), time.Now()
	return r, err
}

// Began returns when the server was asked.
func (r Request) Began() time.Time { return r.began }

// End learns from a request how quick the server is: one that brought bytes, or one that did not
// succeed for whatever reason. It is not called for a request whose Begin failed.
func (r Request) End(bytes int, ok bool) {
	r.member.pace.end(r.load, bytes, time.Since(r.began), ok)
	r.member.requests.Release(r.holder, r.cost)
}

// RoundTrip returns the time of a request that brings next to nothing, 0 if it is unknown.
func (m *Member) RoundTrip() time.Duration { return m.pace.roundTrip() }

// Distance returns how far away the server is.
func (m *Member) Distance() Distance { return DistanceOf(m.pace.roundTrip()) }

// IsAtHand tells whether the server is known to be at hand.
func (m *Member) IsAtHand() bool { d := m.Distance(); return d == Local || d == AtHand }

// Throughput returns how many bytes a second the server sends, 0 if it is unknown.
func (m *Member) Throughput() float64 { return m.pace.throughput() }

// IsPrompt tells whether the server, as far as is known, answers a request for so many bytes
// before it counts as late, and need not be left in peace because it failed.
func (m *Member) IsPrompt(now time.Time, bytes int) bool {
	return !m.pace.next().After(now) && m.pace.expected(bytes) < leastLate
}

// Choose notes that n more reads of blocks are for the server to answer; -1 when one has ended.
// They count before they begin, lest all that begin at once choose the same servers.
func (m *Member) Choose(n int) { m.pace.choose(n) }

// Outlook returns what the server promises at this moment, to rank its shares by.
func (m *Member) Outlook(now time.Time) Outlook { return m.pace.outlook(now) }

// Fail notes that the server failed, and returns when it may be tried again.
func (m *Member) Fail(now time.Time) (again time.Time) { return m.pace.fail(now) }

// Again returns when a server that failed may be tried again; the zero time for one that has not.
func (m *Member) Again() time.Time { return m.pace.next() }
