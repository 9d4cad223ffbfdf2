package decode

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/hashtree"
	"spillway/decode/lifetime"
	"spillway/decode/memory"
	"spillway/decode/zfec"
)

// chunk is the state of decoding one chunk or a run of them. It is used again for another one, with
// its memory and its goroutines. It belongs to the goroutine that took it.
type chunk struct {
	gathering // of the blocks

	taken    int64 // bytes of the Client's memory
	first    int64 // segment
	segments int
	tailLen  int  // block length of the last segment of the chunk
	blockLen int  // of the others
	slotLen  int  // bytes that one share has for the chunk
	apart    bool // blocks are erasure-decoded in scratch, for all segments at once

	out     memory.Buffer // crypttext, padded; then plaintext
	scratch memory.Buffer // slots: k for blocks that are read, k more for those computed apart

	landed    [zfec.MaxShares]bool // a read owns the place of that primary block in out
	slots     []int                // free, in scratch
	pieces    [][]byte             // the places in out, by primary block, then segment
	gatherFor time.Duration        // until the blocks were there for the first time

	leaves  []hashtree.Hash
	hashes  []hashtree.Hash
	key     []byte
	shards  [][]byte
	segment *hashtree.Hasher
}

func newChunk(c *Client) *chunk {
	ch := &chunk{gathering: newGathering(c), segment: hashtree.NewHasher(hashtree.SegmentTag)}
	ch.fill, ch.place, ch.leave = ch.fillBlocks, ch.placeBlocks, ch.leaveBlocks
	return ch
}

// close gives back what a chunk has that will not be used again.
func (c *chunk) close() {
	c.gathering.close()
	c.out.Free()
	c.scratch.Free()
}

// WriteChunks reads, decodes and verifies the n chunks from i on, n at most what Run ever returned,
// and writes their plaintext into w in ascending order, each byte at its offset in the file. When
// it fails, what it has written is verified all the same. Errors: *NotEnoughSharesError,
// ErrInconsistent, w's, the context's.
func (f *File) WriteChunks(ctx context.Context, i, n int64, w io.WriterAt) error {
	if err := f.life.Enter(); err != nil {
		return err
	}
	defer f.life.Leave()
	f.early.want(i)
	t, err := f.takeTurn(ctx, n)
	if err != nil {
		return err
	}
	c, err := f.takeChunk(ctx, i, n)
	if err != nil {
		f.flow.end(t, 0, 0, false, f.traffic())
		return err
	}
	defer f.giveChunk(c)
	began := time.Now()
	err = c.decode(ctx, w)
	f.flow.end(t, time.Since(began), c.gatherFor, err == nil, f.traffic())
	if err != nil {
		return c.failed(err)
	}
	f.adjustRun()
	f.early.end()
	return nil
}

// adjustRun makes runs as large as suits the servers.
func (f *File) adjustRun() {
	if f.flow.mostRun == f.flow.leastRun {
		return
	}
	rate := 0.0 // those further away are read in the least runs
	if fleet.DistanceOf(f.roster.roundTrip()) <= fleet.AtHand {
		rate = f.roster.usualRate(f.verifier.K)
	}
	f.flow.adjustRun(rate, f.cut.shareBytes())
}

// HoldsChunk tells whether p is exactly the plaintext of chunk i, by its
// encryption and the crypttext hash tree: no block is read. P is not changed. So a
// download can be resumed into a file that somebody may have touched. Errors:
// *NotEnoughSharesError, the context's.
func (f *File) HoldsChunk(ctx context.Context, i int64, p []byte) (bool, error) {
	if err := f.life.Enter(); err != nil {
		return false, err
	}
	defer f.life.Leave()
	f.early.end()
	c, err := f.takeChunk(ctx, i, 1)
	if err != nil {
		return false, err
	}
	defer f.giveChunk(c)
	off := c.first * f.cut.ueb.SegmentSize
	if int64(len(p)) != min(int64(len(c.out)), f.verifier.Size-off) {
		return false, nil
	}
	copy(c.out, p)
	chk.Crypt(f.key, c.out[:len(p)], off)
	if err := c.loadLeaves(ctx); err != nil {
		return false, c.failed(err)
	}
	return len(c.mismatches(0, c.segments)) == 0, nil
}

// takeChunk waits for memory and begins the n chunks from i on; giveChunk gives both back.
func (f *File) takeChunk(ctx context.Context, i, n int64) (*chunk, error) {
	if i < 0 || n < 1 || n > f.flow.mostRun || i > f.cut.chunks()-n {
		return nil, errNoChunk(i, n)
	}
	needed := f.cut.memory(max(n, f.flow.leastRun)) // so that buffers are made anew less often
	if err := f.takeMemory(ctx, needed); err != nil {
		return nil, err
	}
	c := f.client.spareChunk(needed)
	c.prepareFor(f, i, n)
	return c, nil
}

func (f *File) giveChunk(c *chunk) {
	taken := c.taken // which is another one's as soon as the chunk is kept
	c.release()
	f.client.keepChunk(c)
	f.giveMemory(taken)
}

func (f *File) takeMemory(ctx context.Context, n int64) error {
	client := f.client
	tookNear := !f.near || client.near.TryAcquire(f, client.nearPart(n))
	if tookNear && client.memory.TryAcquire(f, n) {
		return nil
	}
	f.early.end() // as nobody who holds memory may wait for it
	ctx, done := lifetime.Joined(ctx, f.life.Context())
	defer done()
	if !tookNear {
		if err := client.near.Acquire(ctx, f, client.nearPart(n)); err != nil {
			return err
		}
	}
	err := client.memory.Acquire(ctx, f, n)
	if err != nil && f.near {
		client.near.Release(f, client.nearPart(n))
	}
	return err
}

func (f *File) giveMemory(n int64) {
	client := f.client
	client.memory.Release(f, n)
	if f.near {
		client.near.Release(f, client.nearPart(n))
	}
}

// memory is how many bytes the chunk's buffers hold.
func (c *chunk) memory() int64 { return int64(cap(c.out)) + int64(cap(c.scratch)) }

// prepareFor sizes everything for the n chunks from i on of f.
func (c *chunk) prepareFor(f *File, i, n int64) {
	g := f.cut.ueb
	c.first = i * f.cut.chunkSegments
	c.segments = int(min(n*f.cut.chunkSegments, g.Segments()-c.first))
	c.blockLen = int(g.BlockSize())
	c.tailLen = int(g.BlockLen(c.first + int64(c.segments) - 1))
	c.slotLen = (c.segments-1)*c.blockLen + c.tailLen
	c.apart = f.cut.decodesApart(int64(c.segments))
	c.file, c.need, c.bytes, c.beginning = f, f.verifier.K, c.slotLen, c.first == 0
	c.out = c.out.Resized(c.slotLen*c.need, c.outRoom(), true)
	c.pieces = slices.Grow(c.pieces[:0], c.segments*c.need)[:c.segments*c.need]
	c.slots = c.slots[:0]
	for slot := range c.need {
		c.slots = append(c.slots, slot)
	}
}

// release forgets the file and keeps the memory.
func (c *chunk) release() {
	c.reset()
	clear(c.shards[:cap(c.shards)])
	clear(c.pieces)
	c.leaves = c.leaves[:0]
	c.landed = [zfec.MaxShares]bool{}
}

// failed adds which segments could not be had.
func (c *chunk) failed(err error) error {
	if c.segments == 1 {
		return fmt.Errorf("segment %d: %w", c.first, err)
	}
	return fmt.Errorf("segments %d to %d: %w", c.first, c.first+int64(c.segments)-1, err)
}

// len returns the length of each block of segment i of the chunk.
func (c *chunk) blockLenOf(i int) int {
	if i == c.segments-1 {
		return c.tailLen
	}
	return c.blockLen
}

// primary returns the place in out of primary block num of segment i of the chunk.
func (c *chunk) primary(i, num int) []byte {
	off := i*c.blockLen*c.file.verifier.K + num*c.blockLenOf(i)
	return c.out[off:][:c.blockLenOf(i)]
}

// block returns the block of segment i of the chunk that a read brought.
func (c *chunk) block(r *read, i int) []byte {
	if r.slot < 0 {
		return c.primary(i, r.share.num)
	}
	return c.slot(r.slot)[i*c.blockLen:][:c.blockLenOf(i)]
}

// decode decodes, verifies, decrypts and writes a few segments after the other: as many as are
// hashed fastest at once, because they are still in the processor's caches at the end.
func (c *chunk) decode(ctx context.Context, w io.WriterAt) error {
	began := time.Now()
	if err := c.gatherAndLoad(ctx); err != nil {
		return err
	}
	c.gatherFor = time.Since(began)
	decoder, err := c.prepare()
	if err != nil {
		return err
	}
	group := int(c.file.flow.leastRun * c.file.cut.chunkSegments)
	for i := 0; i < c.segments; {
		end := min(i+group, c.segments)
		if err := c.reconstruct(decoder, i, end); err != nil {
			return err
		}
		bad := c.mismatches(i, end)
		if len(bad) == 0 {
			if err := c.write(w, i, end); err != nil {
				return err
			}
			i = end
			continue
		}
		if err := c.excludeCulprits(ctx, bad); err != nil {
			return err
		}
		if err := c.gather(ctx); err != nil {
			return err
		}
		if decoder, err = c.prepare(); err != nil {
			return err
		}
	}
	return nil
}

// write decrypts the segments [from, end) of the chunk and writes them.
func (c *chunk) write(w io.WriterAt, from, end int) error {
	f := c.file
	off := (c.first + int64(from)) * f.cut.ueb.SegmentSize
	plain := c.out[from*c.blockLen*f.verifier.K:]
	plain = plain[:min(int64(end-from)*f.cut.ueb.SegmentSize, f.verifier.Size-off)]
	chk.Crypt(f.key, plain, off)
	_, err := w.WriteAt(plain, off)
	return err
}

// gatherAndLoad gets the blocks and the hashes of the segments, both at once if the hashes
// are still to be read.
func (c *chunk) gatherAndLoad(ctx context.Context) error {
	if c.knownLeaves() {
		return c.gather(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	loaded := make(chan error, 1)
	go func() {
		err := c.loadLeaves(ctx)
		if err != nil {
			cancel(err)
		}
		loaded <- err
	}()
	err := c.gather(ctx)
	if err != nil {
		cancel(err)
	}
	return cmp.Or(<-loaded, err)
}

// knownLeaves is loadLeaves without waiting for anything; false if that cannot be.
func (c *chunk) knownLeaves() bool {
	t := c.file.cut.tree
	for i := c.first; i < c.first+int64(c.segments); {
		p := c.file.pages.known(i / t.leaves)
		if p == nil {
			c.leaves = c.leaves[:0]
			return false
		}
		i = c.takeLeaves(p, i)
	}
	return true
}

// takeLeaves appends what the page has of the hashes from segment i on, and returns the next
// segment.
func (c *chunk) takeLeaves(p *page, i int64) int64 {
	leaves := p.leaves[i%c.file.cut.tree.leaves:]
	leaves = leaves[:min(int64(len(leaves)), c.first+int64(c.segments)-i)]
	c.leaves = append(c.leaves, leaves...)
	return i + int64(len(leaves))
}

// loadLeaves gets the hashes of the segments.
func (c *chunk) loadLeaves(ctx context.Context) error {
	t := c.file.cut.tree
	for i := c.first; i < c.first+int64(c.segments); {
		p, err := c.file.pages.get(ctx, i/t.leaves)
		if err != nil {
			return fmt.Errorf("%s: %w", crypttextPart, err)
		}
		i = c.takeLeaves(p, i)
	}
	return nil
}

// prepare returns the decoder for the blocks that are there, which they are in the order for then;
// nil if they are the primary ones.
func (c *chunk) prepare() (*zfec.Decoder, error) {
	slices.SortFunc(c.have, func(a, b *read) int { return a.share.num - b.share.num })
	k := c.file.verifier.K
	c.key = c.key[:0]
	for _, r := range c.have {
		c.key = append(c.key, byte(r.share.num))
	}
	if c.have[len(c.have)-1].share.num < k {
		return nil, nil
	}
	decoder, err := c.file.decoders.of(c.key)
	if err == nil && c.apart {
		err = c.decodeApart(decoder)
	}
	return decoder, err
}

// reconstruct fills out with the segments [from, end) of the chunk.
func (c *chunk) reconstruct(decoder *zfec.Decoder, from, end int) error {
	k := c.file.verifier.K
	for _, r := range c.have {
		if r.share.num < k && r.slot >= 0 {
			c.copyBlocks(r.share.num, r.slot, from, end)
		}
	}
	if decoder == nil {
		return nil
	}
	if c.apart {
		for i, num := range decoder.Missing() {
			c.copyBlocks(num, k+i, from, end)
		}
		return nil
	}
	for i := from; i < end; i++ {
		c.shards = c.shards[:0]
		for _, r := range c.have {
			c.shards = append(c.shards, c.block(r, i))
		}
		for _, num := range decoder.Missing() {
			c.shards = append(c.shards, c.primary(i, num))
		}
		if err := decode(decoder, c.shards); err != nil {
			return err
		}
	}
	return nil
}

// decodeApart decodes many small blocks: with one call of the decoder
// for all segments, whose blocks of one share lie side by side in a slot. What
// each call costs by itself grows with k times k.
func (c *chunk) decodeApart(decoder *zfec.Decoder) error {
	k := c.file.verifier.K
	c.shards = c.shards[:0]
	for _, r := range c.have {
		c.shards = append(c.shards, c.slot(r.slot))
	}
	for i := range decoder.Missing() {
		c.shards = append(c.shards, c.slot(k+i))
	}
	return decode(decoder, c.shards)
}

func decode(decoder *zfec.Decoder, blocks [][]byte) error {
	if err := decoder.Decode(blocks); err != nil {
		return fmt.Errorf("erasure decoding: %w", err)
	}
	return nil
}

// outRoom returns how much of the memory that was taken is for out; the rest is for scratch.
func (c *chunk) outRoom() int {
	if c.apart {
		return int(c.taken) / 3
	}
	return int(c.taken) / 2
}

// scratchLen returns how long scratch must be for the chunk.
func (c *chunk) scratchLen() int {
	if c.apart {
		return 2 * c.file.verifier.K * c.slotLen
	}
	return c.file.verifier.K * c.slotLen
}

// slot returns slot i of scratch.
func (c *chunk) slot(i int) []byte { return c.scratch[i*c.slotLen:][:c.slotLen] }

// copyBlocks copies the blocks in a slot to where primary block num of each of the segments [from,
// end) stands.
func (c *chunk) copyBlocks(num, slot, from, end int) {
	blocks := c.slot(slot)
	for i := from; i < end; i++ {
		copy(c.primary(i, num), blocks[i*c.blockLen:])
	}
}

// mismatches returns which of the segments [from, end) of the chunk are not what the uploader said.
func (c *chunk) mismatches(from, end int) (bad []int) {
	c.shards = c.shards[:0]
	for i := from; i < end; i++ {
		segment := c.out[i*c.blockLen*c.file.verifier.K:][:c.file.cut.ueb.SegmentLen(c.first+int64(i))]
		c.shards = append(c.shards, segment)
	}
	c.hashes = slices.Grow(c.hashes[:0], end-from)[:end-from]
	c.segment.OfEach(c.hashes, c.shards)
	for i, h := range c.hashes {
		if h != c.leaves[from+i] {
			bad = append(bad, from+i)
		}
	}
	return bad
}
