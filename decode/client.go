package decode

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"spillway/decode/allowance"
	"spillway/decode/fleet"
	"spillway/decode/lifetime"
	"spillway/decode/ranked"
)

// Config configures a Client. The zero value of every field but Fleet works.
type Config struct {
	Fleet  *fleet.Fleet // the storage servers; closed by the caller, after the Client
	Memory int64        // bytes for chunks being decoded; 0 means 128 MiB
	Log    *slog.Logger // nil discards
}

// Client reads files from a grid; safe for concurrent use.
type Client struct {
	fleet    *fleet.Fleet
	memory   *allowance.Allowance
	near     *allowance.Allowance // of memory, for Files whose servers are local
	metadata *metadataCache
	log      *slog.Logger
	life     *lifetime.Lifetime // of Files
	readers  sync.WaitGroup     // goroutines of gatherings; they end when the last File closes

	mu    ranked.Mutex[ranked.Client]
	files map[*File]struct{} // guarded by mu
	spare []*chunk           // guarded by mu; to be used again, while files are open

	corruptShares                atomic.Int64
	metadataHits, metadataMisses atomic.Int64
}

const (
	usualMemory = 128 << 20
	// localMemory is how many bytes of memory all Files together take whose servers are local.
	// There the processors are what is short, and more would only be held by more files.
	localMemory = 16 << 20
	// metadataMemory is how many bytes of verified metadata are kept.
	metadataMemory = 4 << 20
)

// New returns a Client that reads from the configured fleet.
func New(cfg Config) (*Client, error) {
	if cfg.Memory == 0 {
		cfg.Memory = usualMemory
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	metadata, err := newMetadataCache(metadataMemory)
	if err != nil {
		return nil, err
	}
	return &Client{
		fleet:    cfg.Fleet,
		memory:   allowance.New(cfg.Memory),
		near:     allowance.New(min(cfg.Memory, localMemory)),
		metadata: metadata,
		log:      cfg.Log,
		life:     lifetime.New(context.Background(), ErrClosed),
		files:    map[*File]struct{}{},
	}, nil
}

// Close cancels every call in progress, closes every File and waits for all of them.
func (c *Client) Close() error {
	first := c.life.Stop()
	c.mu.Lock()
	files := make([]*File, 0, len(c.files))
	for f := range c.files {
		files = append(files, f)
	}
	c.mu.Unlock()
	for _, f := range files {
		f.Close()
	}
	c.life.End()
	c.readers.Wait()
	if first {
		c.metadata.close()
	}
	return nil
}

// nearPart is how much of the memory for local servers so much memory is.
func (c *Client) nearPart(memory int64) int64 { return min(memory, c.near.Limit()) }

// spareChunk returns a chunk that was kept, or another one. A sync.Pool would drop buffers at every
// collection and have them made again beside the old ones, which shows in what a long decode
// takes. So much memory has been taken for it; those of another size are given up, as far as all
// would be more than the limit.
func (c *Client) spareChunk(taken int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ch *chunk
	if best := len(c.spare) - 1; best >= 0 {
		for i, s := range c.spare {
			if s.taken == taken {
				best = i
			}
		}
		ch = c.spare[best]
		c.spare = slices.Delete(c.spare, best, best+1)
	} else {
		ch = newChunk(c)
	}
	for len(c.spare) > 0 && c.memory.InUse()+c.keptLocked() > c.memory.Limit() {
		c.spare[0].close()
		c.spare = slices.Delete(c.spare, 0, 1)
	}
	ch.taken = taken
	return ch
}

// keepChunk keeps ch for the next one who needs memory: little more than is in use, within the
// limit.
func (c *Client) keepChunk(ch *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inUse := c.memory.InUse() - ch.taken
	kept := c.keptLocked() + ch.memory()
	if len(c.files) > 0 && inUse+kept <= c.memory.Limit() && kept <= inUse+c.near.Limit() {
		c.spare = append(c.spare, ch)
	} else {
		ch.close()
	}
}

// keptLocked is how much memory chunks have that nobody uses.
func (c *Client) keptLocked() (kept int64) {
	for _, s := range c.spare {
		kept += s.memory()
	}
	return kept
}

// Stats are totals since New.
type Stats struct {
	fleet.Stats
	CorruptShares  int64 // shares found corrupt, once for each opening of the file
	MetadataHits   int64 // Opens that asked no server
	MetadataMisses int64
	MemoryInUse    int64 // bytes of chunks being decoded now
}

// Stats returns the totals.
func (c *Client) Stats() Stats {
	return Stats{
		Stats:          c.fleet.Stats(),
		CorruptShares:  c.corruptShares.Load(),
		MetadataHits:   c.metadataHits.Load(),
		MetadataMisses: c.metadataMisses.Load(),
		MemoryInUse:    c.memory.InUse(),
	}
}
