// Package decode turns a capability into verified plaintext.
//
// A Client asks its servers which shares of a file they hold: all at once, or if
// they are at hand first those where Tahoe-LAFS's clients place shares. A File
// reads k of them, a chunk at a time: erasure-decodes, verifies the crypttext
// against the hash tree under the cap, decrypts. Only when that verification fails
// are the blocks verified one by one, to find the share that is bad and to take
// another.
package decode

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config configures a Client. The zero value of every field but Servers works.
type Config struct {
	Servers       []Server      // in order of preference; the Client closes them
	Memory        int64         // bytes for chunks being decoded; 0 means 128 MiB
	MetadataBytes int64         // bytes of verified metadata kept; 0 means 4 MiB
	Patience      time.Duration // how long a share may at most keep a reader waiting before another is read as well, unless its server is some 150 ms away or more; 0 means 1.5 s
	Timeout       time.Duration // how long a server may take to answer one request, besides a second for each 32 KiB; 0 means 30 s
	Log           *slog.Logger  // nil discards
}

// Client reads files from a grid and writes them; safe for concurrent use.
type Client struct {
	memory   *allowance
	near     *allowance // of memory, for Files whose servers are near
	hedges   hedges
	metadata *metadataCache
	patience time.Duration
	timeout  time.Duration
	log      *slog.Logger

	ctx    context.Context // ends with Close, its cause ErrClosed
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // calls in progress and Files

	adviceCtx    context.Context // ends some time after ctx
	cancelAdvice context.CancelCauseFunc
	advising     sync.WaitGroup

	readers sync.WaitGroup // goroutines of chunks; they end when the last File closes

	mu      sync.Mutex
	closed  bool
	members []*member // in order of preference
	files   map[*File]struct{}
	spare   []*chunk // to be used again, while files are open

	corruptShares, serverErrors  atomic.Int64
	metadataHits, metadataMisses atomic.Int64
	hedged                       atomic.Int64
}

var errNoServers = errors.New("decode: no servers")

// New returns a Client of the configured servers.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 {
		return nil, errNoServers
	}
	c := &Client{
		memory:   newAllowance(orDefault(cfg.Memory, 128<<20)),
		near:     newAllowance(min(orDefault(cfg.Memory, nearMemory), nearMemory)),
		patience: orDefault(cfg.Patience, 1500*time.Millisecond),
		timeout:  orDefault(cfg.Timeout, 30*time.Second),
		log:      cfg.Log,
		files:    map[*File]struct{}{},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range cfg.Servers {
		c.members = append(c.members, newMember(s))
	}
	var err error
	if c.metadata, err = newMetadataCache(orDefault(cfg.MetadataBytes, 4<<20)); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.adviceCtx, c.cancelAdvice = context.WithCancelCause(context.Background())
	return c, nil
}

// nearMemory is how many bytes of memory all Files together take whose servers are near. There the processors
// are what is short, and more would only be held by more files.
const nearMemory = 16 << 20

// slowest is the throughput, in bytes a second, below which a read is given up after a time.
const slowest = 32 << 10

// allowed returns how long a request for so many bytes may take.
func (c *Client) allowed(bytes int) time.Duration {
	return c.timeout + time.Duration(bytes)*time.Second/slowest
}

const (
	// A connection begins so slowly that the first blocks take this many round trips, handshakes included.
	slowStart   = 10
	mostPatient = 4 * time.Second // with servers however far away
)

// lateNext returns after what time a read of the member is late that begins now: twice as late for each
// competitor that others have had already, up to what patience there is.
func (c *Client) lateNext(m *member, bytes, competitors int) time.Duration {
	patience := max(c.patience, min(slowStart*m.pace.roundTrip(), mostPatient))
	return min(m.pace.lateNext(bytes, patience)<<min(competitors, 8), patience)
}

func orDefault[T int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Close cancels every call in progress, closes every File, waits for all of
// them and closes the servers. Servers that are being told of corrupt shares get two seconds more.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	files := make([]*File, 0, len(c.files))
	for f := range c.files {
		files = append(files, f)
	}
	c.mu.Unlock()
	c.cancel(ErrClosed)
	for _, f := range files {
		f.Close()
	}
	c.work.Wait()
	c.readers.Wait()
	c.endAdvice()
	c.metadata.close()
	var err error
	for _, m := range c.members { // which nobody else uses any more
		err = errors.Join(err, m.Close())
	}
	return err
}

// enter begins a call of the Client: the context that it returns ends with the
// Client too. Done ends the call.
func (c *Client) enter(ctx context.Context) (_ context.Context, done func(), _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.work.Add(1)
	ctx, cancel := joinContexts(ctx, c.ctx)
	return ctx, func() { cancel(); c.work.Done() }, nil
}

// joinContexts returns a context that ends with the first of two and has its cause.
func joinContexts(ctx, owner context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(owner, func() { cancel(context.Cause(owner)) })
	return ctx, func() { stop(); cancel(nil) }
}

// Stats are totals since New.
type Stats struct {
	CorruptShares  int64 // shares found corrupt, once for each opening of the file
	ServerErrors   int64 // requests that servers failed
	MetadataHits   int64 // Opens that asked no server
	MetadataMisses int64
	HedgedReads    int64 // reads that were late, so that another share was read as well
	MemoryInUse    int64 // bytes of chunks being decoded now
}

// Stats returns the totals.
func (c *Client) Stats() Stats {
	return Stats{
		CorruptShares:  c.corruptShares.Load(),
		ServerErrors:   c.serverErrors.Load(),
		MetadataHits:   c.metadataHits.Load(),
		MetadataMisses: c.metadataMisses.Load(),
		HedgedReads:    c.hedged.Load(),
		MemoryInUse:    c.memory.inUse(),
	}
}
