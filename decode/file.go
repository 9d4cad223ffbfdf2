package decode

import (
	"context"
	"crypto/cipher"
	"errors"
	"sync/atomic"

	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/hashtree"
	"spillway/decode/lifetime"
	"spillway/decode/memory"
	"spillway/decode/ranked"
	"spillway/decode/zfec"
)

// File is one open CHK file. Safe for concurrent use. It is a spool.Source.
//
// Its parts own their state, each under a lock of its own; see package ranked for their order.
type File struct {
	client   *Client
	id       string // names it in the cache and the log
	verifier caps.Verifier
	key      cipher.Block // nil when the file is only checked
	life     *lifetime.Lifetime
	bell     *bell // rung when there are more shares, or a server has answered

	roster   roster     // who has which share
	search   uebSearch  // for the UEB
	early    earlyReads // of the beginnings of shares
	pages    pages      // of the crypttext hash tree
	flow     flow       // how much is under way
	decoders decoders

	cut    cut         // set once, before Open returns
	near   bool        // set with cut: waiting for the servers takes no time worth hiding
	usable atomic.Bool // Open has returned it
}

// newFile returns a File that knows no shares yet. Id names it in the cache and the log.
func (c *Client) newFile(v caps.Verifier, id string) (*File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.life.Enter(); err != nil {
		return nil, err
	}
	f := &File{
		client: c, id: id, verifier: v,
		life: lifetime.New(c.life.Context(), ErrClosed),
		bell: newBell(),
	}
	f.roster.file, f.early.file, f.pages.file = f, f, f
	f.decoders.code = zfec.New(v.K, v.N)
	f.roster.members = c.fleet.Join(nil)
	f.roster.unasked = append(f.roster.unasked, f.roster.members...)
	c.files[f] = struct{}{}
	return f, nil
}

// Open finds the shares of a CHK cap and verifies the metadata. The context bounds only the
// opening. It returns as soon as k distinct shares are known and one has proven the metadata;
// servers that answer later add to the shares. Errors: *NotEnoughSharesError, *memory.Error,
// ErrInconsistent, the context's.
func (c *Client) Open(ctx context.Context, file caps.Cap) (*File, error) {
	v, ok := file.Verifier()
	if !ok {
		return nil, errors.New("decode: a LIT cap has no shares to open")
	}
	f, err := c.newFile(v, file.ID())
	if err != nil {
		return nil, err
	}
	f.key = file.Key().Cipher()
	if m, ok := c.metadata.file(f.id); ok {
		c.metadataHits.Add(1)
		f.adopt(m)
	} else {
		c.metadataMisses.Add(1)
		f.early.allow()
		err = f.discover(ctx, v.K)
	}
	if err == nil {
		ueb, _ := f.search.result()
		err = f.setCut(ueb)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	f.usable.Store(true)
	f.remember()
	return f, nil
}

// setCut derives from the verified UEB how the file is read and whether that fits the memory.
func (f *File) setCut(ueb *chk.UEB) error {
	limit := f.client.memory.Limit()
	roundTrip := f.roster.roundTrip()
	f.cut = newCut(ueb, f.verifier.K)
	f.near = fleet.DistanceOf(roundTrip) <= fleet.Local && !rosterHas[grid.Connector](&f.roster)
	if roots := f.cut.tree.pages * hashtree.Size; roots > limit {
		return &memory.Error{What: "hash trees", Needed: roots, Limit: limit}
	}
	f.flow.leastRun = f.cut.leastRun(limit)
	f.flow.mostRun = f.flow.leastRun
	if !f.near {
		f.flow.mostRun = max(f.flow.leastRun, f.cut.quickRun(quickRead, limit))
	}
	f.flow.run.Store(f.flow.leastRun)
	f.flow.startup = newStartup(roundTrip, rosterHas[grid.Meter](&f.roster))
	if needed := f.cut.memory(1); needed > limit {
		return &memory.Error{What: "segments", Needed: needed, Limit: limit}
	}
	return nil
}

// remember keeps what is verified for the next Open, unless that would fail.
func (f *File) remember() {
	if !f.usable.Load() {
		return
	}
	places, distinct, askedAll := f.roster.places()
	if distinct < f.verifier.K {
		f.client.metadata.dropFile(f.id)
		return
	}
	m := &fileMetadata{id: f.id, places: places, askedAll: askedAll}
	m.ueb, m.unusual = f.search.result()
	m.roots, _ = f.pages.roots.result()
	f.client.metadata.setFile(m)
}

// adopt begins with what is remembered.
func (f *File) adopt(m *fileMetadata) {
	f.search.adopt(m.ueb, m.unusual)
	if m.roots != nil {
		f.pages.roots.set(m.roots)
	}
	f.roster.adopt(m.places, m.askedAll)
}

// Size returns the length of the plaintext in bytes.
func (f *File) Size() int64 { return f.verifier.Size }

// ChunkSize returns the length in bytes of every chunk but the last.
func (f *File) ChunkSize() int64 { return f.cut.chunkSize() }

// Run returns how many consecutive chunks are decoded fastest when they are decoded at once: they
// fill the lanes in which segments are hashed, and take more where the servers are quick, who are
// asked less often then. It does not block.
func (f *File) Run() int64 { return f.flow.run.Load() }

// Workers returns how many calls of WriteChunks at a time keep the servers busy, at present and
// within the memory that one File may take. It does not block.
func (f *File) Workers() int { return f.flow.workers(f.mostCalls()) }

// mostCalls returns how many calls of WriteChunks there is memory for, at least one.
func (f *File) mostCalls() int {
	needed := f.cut.memory(f.Run())
	most := f.client.memory.Most(needed)
	if f.near {
		most = min(most, f.client.near.Most(needed))
	}
	return max(1, int(most/needed))
}

// traffic is what a File's flow is told; it wants to know only while a startup governs it.
func (f *File) traffic() traffic {
	if !f.flow.startup.governs() {
		return traffic{}
	}
	return traffic{received: f.roster.received(), most: f.mostCalls()}
}

// Close cancels what is in progress, waits for it and closes the shares.
func (f *File) Close() error {
	if !f.life.End() {
		return nil
	}
	f.early.end()
	f.remember()
	err := f.roster.close()
	c := f.client
	c.mu.Lock()
	delete(c.files, f)
	if len(c.files) == 0 {
		for _, s := range c.spare {
			s.close()
		}
		c.spare = nil
	}
	c.mu.Unlock()
	c.life.Leave()
	return err
}

// maxDecoders bounds the decoders that a File holds.
const maxDecoders = 16

// decoders are the erasure decoders of a File, one for each choice of shares.
type decoders struct {
	code *zfec.Code

	mu ranked.Mutex[ranked.Leaf]
	by map[string]*zfec.Decoder // guarded by mu; by the share numbers, ascending
}

// of returns the decoder of a choice of shares.
func (d *decoders) of(nums []byte) (*zfec.Decoder, error) {
	d.mu.Lock()
	decoder := d.by[string(nums)]
	d.mu.Unlock()
	if decoder != nil {
		return decoder, nil
	}
	have := make([]int, len(nums))
	for i, num := range nums {
		have[i] = int(num)
	}
	decoder, err := d.code.Decoder(have)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil || len(d.by) == maxDecoders {
		d.by = map[string]*zfec.Decoder{}
	}
	d.by[string(nums)] = decoder
	return decoder, nil
}
