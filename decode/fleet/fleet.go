package fleet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"spillway/decode/grid"
	"spillway/decode/lifetime"
	"spillway/decode/ranked"
)

// ErrClosed: the Fleet is closed.
var ErrClosed = errors.New("fleet: closed")

var errNoServers = errors.New("fleet: no servers")

// Server is one storage server of a grid, and what is known of it beside what its kind knows.
type Server struct {
	grid.Server
	Nickname string // names it in messages and logs; "": its URL without secrets does
	// Seed: by which clients permute the servers for each file; nil: what its kind knows itself by.
	Seed []byte
	URL  string // by which SetServers knows it again, with its secrets; "" for one that is always new
}

// String names the server in messages and logs. It holds no secret.
func (s Server) String() string {
	if s.Nickname != "" || s.Server == nil {
		return s.Nickname
	}
	return s.Server.String()
}

// GoString is String.
func (s Server) GoString() string { return s.String() }

// same tells whether both are the same server, known in the same way.
func (s Server) same(other Server) bool {
	return s.URL != "" && s.URL == other.URL && s.Nickname == other.Nickname && bytes.Equal(s.Seed, other.Seed)
}

// Config configures a Fleet. The zero value of every field but Servers works.
type Config struct {
	Servers []Server // in order of preference; the Fleet closes them
	// Timeout: how long a server may take to answer one request, besides a second for each 32 KiB;
	// 0 means 30 s.
	Timeout time.Duration
	Log     *slog.Logger // nil discards
}

// Fleet is the storage servers of one grid.
type Fleet struct {
	timeout time.Duration
	log     *slog.Logger
	hedges  hedges
	life    *lifetime.Lifetime // of calls

	// Telling servers of corrupt shares goes on for a while when life is over.
	adviceCtx    context.Context
	cancelAdvice context.CancelCauseFunc
	advising     sync.WaitGroup

	mu      ranked.Mutex[ranked.Fleet]
	closed  bool      // guarded by mu
	members []*Member // guarded by mu; in order of preference

	serverErrors, hedged atomic.Int64
}

// New returns a Fleet of the configured servers.
func New(cfg Config) (*Fleet, error) {
	if len(cfg.Servers) == 0 {
		return nil, errNoServers
	}
	f := &Fleet{timeout: cfg.Timeout, log: cfg.Log, life: lifetime.New(context.Background(), ErrClosed)}
	if f.timeout == 0 {
		f.timeout = 30 * time.Second
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range cfg.Servers {
		f.members = append(f.members, newMember(f, s))
	}
	f.adviceCtx, f.cancelAdvice = context.WithCancelCause(context.Background())
	return f, nil
}

// Close cancels every call in progress, waits for it and closes the servers, which nobody uses any
// more: Files and uploads have ended. Servers that are being told of corrupt shares get two
// seconds more.
func (f *Fleet) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	f.life.End()
	if !first {
		return nil
	}
	f.endAdvice()
	var errs []error
	for _, m := range f.members { // which does not change any more
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// SetServers replaces the servers, in order of preference. Those that were there with the same
// URL, nickname and seed stay, with their connections; the Fleet closes the others when the last
// one who uses them has left. Files that are open ask the new servers when they need more shares.
// The Fleet closes the new servers also when it fails, which it does with none at all and when it
// is closed (ErrClosed).
func (f *Fleet) SetServers(servers []Server) error {
	f.mu.Lock()
	unused, err := f.setServersLocked(servers)
	f.mu.Unlock()
	f.closeServers(unused)
	return err
}

// setServersLocked returns what is to be closed.
func (f *Fleet) setServersLocked(servers []Server) (unused []Server, _ error) {
	if f.closed {
		return servers, ErrClosed
	}
	if len(servers) == 0 {
		return servers, errNoServers
	}
	before := slices.Clone(f.members)
	f.members = nil
	for _, s := range servers {
		i := slices.IndexFunc(before, func(m *Member) bool { return m.same(s) })
		if i < 0 {
			f.members = append(f.members, newMember(f, s))
			continue
		}
		f.members = append(f.members, before[i])
		before = slices.Delete(before, i, i+1)
		unused = append(unused, s)
	}
	return append(unused, f.leaveLocked(before)...), nil
}

// Join adds to the members that the caller uses already those that came meanwhile, in order of
// preference. They stay until Leave.
func (f *Fleet) Join(members []*Member) []*Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		if !slices.Contains(members, m) {
			m.users++
			members = append(members, m)
		}
	}
	return members
}

// Leave ends the use of members that Join gave.
func (f *Fleet) Leave(members []*Member) {
	f.mu.Lock()
	unused := f.leaveLocked(members)
	f.mu.Unlock()
	f.closeServers(unused)
}

// leaveLocked returns those of the members that nobody uses any more, to be closed.
func (f *Fleet) leaveLocked(members []*Member) (unused []Server) {
	for _, m := range members {
		if m.users--; m.users == 0 {
			unused = append(unused, m.Server)
		}
	}
	return unused
}

// closeServers closes servers that nobody uses. What goes wrong with that concerns nobody but the
// log.
func (f *Fleet) closeServers(servers []Server) {
	for _, s := range servers {
		if err := s.Close(); err != nil {
			f.log.Warn("closing a server failed", "server", s.String(), "error", err.Error())
		}
	}
}

// slowest is the throughput, in bytes a second, below which a request is given up after a time.
const slowest = 32 << 10

// Allowed returns how long a request for so many bytes may take once the server has been asked.
func (f *Fleet) Allowed(bytes int) time.Duration {
	return f.timeout + time.Duration(bytes)*time.Second/slowest
}

// Bounded returns a context that ends after the time that a request for next to nothing may take,
// with grid.ErrTimeout for its cause.
func (f *Fleet) Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, f.timeout, grid.ErrTimeout)
}

// Stats are totals since New.
type Stats struct {
	ServerErrors int64 // requests that servers failed
	HedgedReads  int64 // reads that were late, so that another share was read as well
}

// Stats returns the totals.
func (f *Fleet) Stats() Stats {
	return Stats{ServerErrors: f.serverErrors.Load(), HedgedReads: f.hedged.Load()}
}

// Failed counts a request that a server failed and, if there is something to be said, logs it with
// what is known of what was asked for (alternating names and values, as slog takes them).
func (f *Fleet) Failed(m *Member, err error, log bool, of ...any) {
	f.serverErrors.Add(1)
	if log {
		f.log.Warn("server failed", append(of, "server", m.String(), "error", err.Error())...)
	}
}
