package decode

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// chunk is the state of decoding one chunk or a run of them. It is used again for another one,
// with its memory and its goroutines.
type chunk struct {
	file     *File
	taken    int64 // bytes of the Client's memory
	first    int64 // segment
	segments int
	tailLen  int  // block length of the last segment of the chunk
	blockLen int  // of the others
	slotLen  int  // bytes that one share has for the chunk
	apart    bool // blocks are erasure-decoded in scratch, for all segments at once

	out     buffer // crypttext, padded; then plaintext
	scratch buffer // slots: k for blocks that are read, k more for those computed apart

	reads       []*read // running ones and those whose blocks are there
	have        []*read // those whose blocks are there, of distinct share numbers
	spare       []*read // to be used again
	excluded    exclusions
	slow        []*share // given up for being late; tried again when nothing else is left
	ranked      []candidate
	competitors int // reads begun because others were late
	used        [zfec.MaxShares]uint8
	landed      [zfec.MaxShares]bool // a read owns the place of that primary block in out
	slots       []int                // free, in scratch
	pieces      [][]byte             // the places in out, by primary block, then segment
	running     int
	gathering   time.Duration // until the blocks were there for the first time
	results     chan *read
	tick        *time.Timer

	leaves  []hashtree.Hash
	hashes  []hashtree.Hash
	key     []byte
	shards  [][]byte
	segment *hashtree.Hasher
}

func newChunk() *chunk {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &chunk{
		excluded: exclusions{},
		results:  make(chan *read),
		segment:  hashtree.NewHasher(hashtree.SegmentTag),
		tick:     t,
	}
}

// close gives back what a chunk has that will not be used again.
func (c *chunk) close() {
	for _, r := range c.spare {
		r.close()
	}
	c.out.free()
	c.scratch.free()
}

// WriteChunks reads, decodes and verifies the n chunks from i on, n at most what Run ever returned, and
// writes their plaintext into w in ascending order, each byte at its offset in the file. When it fails, what it has written is
// verified all the same. Errors: *NotEnoughSharesError, ErrInconsistent, w's, the context's.
func (f *File) WriteChunks(ctx context.Context, i, n int64, w io.WriterAt) error {
	if err := f.enter(); err != nil {
		return err
	}
	defer f.work.Done()
	f.readsFrom(i)
	load, err := f.begin(ctx, n)
	if err != nil {
		return err
	}
	c, err := f.takeChunk(ctx, i, n)
	if err != nil {
		f.end(load, n, 0, 0, false)
		return err
	}
	defer f.giveChunk(c)
	began := time.Now()
	err = c.decode(ctx, w)
	f.end(load, n, time.Since(began), c.gathering, err == nil)
	if err != nil {
		return c.failed(err)
	}
	f.adjustRun()
	f.endEarly()
	return nil
}

// HoldsChunk tells whether p is exactly the plaintext of chunk i, by its
// encryption and the crypttext hash tree: no block is read. P is not changed. So a
// download can be resumed into a file that somebody may have touched. Errors:
// *NotEnoughSharesError, the context's.
func (f *File) HoldsChunk(ctx context.Context, i int64, p []byte) (bool, error) {
	if err := f.enter(); err != nil {
		return false, err
	}
	defer f.work.Done()
	f.endEarly()
	c, err := f.takeChunk(ctx, i, 1)
	if err != nil {
		return false, err
	}
	defer f.giveChunk(c)
	off := c.first * f.ueb.SegmentSize
	if int64(len(p)) != min(int64(len(c.out)), f.verifier.Size-off) {
		return false, nil
	}
	copy(c.out, p)
	cryptAt(f.key, c.out[:len(p)], off)
	if err := c.loadLeaves(ctx); err != nil {
		return false, c.failed(err)
	}
	return len(c.mismatches(0, c.segments)) == 0, nil
}

// takeChunk waits for memory and begins the n chunks from i on; giveChunk gives both back.
func (f *File) takeChunk(ctx context.Context, i, n int64) (*chunk, error) {
	if chunks := (f.ueb.Segments()-1)/f.chunkSegments + 1; i < 0 || n < 1 || n > f.mostRun || i > chunks-n {
		return nil, errNoChunk(i, n)
	}
	memory := f.memory(max(n, f.leastRun)) // so that buffers are made anew less often
	if err := f.takeMemory(ctx, memory); err != nil {
		return nil, err
	}
	c := f.client.spareChunk(memory)
	c.begin(f, i, n)
	return c, nil
}

func (f *File) giveChunk(c *chunk) {
	taken := c.taken // which is another one's as soon as the chunk is kept
	c.release()
	f.client.keepChunk(c)
	f.giveMemory(taken)
}

func (f *File) takeMemory(ctx context.Context, memory int64) error {
	client := f.client
	tookNear := !f.near || client.near.tryAcquire(f, client.nearPart(memory))
	if tookNear && client.memory.tryAcquire(f, memory) {
		return nil
	}
	f.endEarly() // as nobody who holds memory may wait for it
	ctx, done := joinContexts(ctx, f.ctx)
	defer done()
	if !tookNear {
		if err := client.near.acquire(ctx, f, client.nearPart(memory)); err != nil {
			return err
		}
	}
	err := client.memory.acquire(ctx, f, memory)
	if err != nil && f.near {
		client.near.release(f, client.nearPart(memory))
	}
	return err
}

func (f *File) giveMemory(memory int64) {
	client := f.client
	client.memory.release(f, memory)
	if f.near {
		client.near.release(f, client.nearPart(memory))
	}
}

// nearPart is how much of the memory for near servers so much memory is.
func (c *Client) nearPart(memory int64) int64 { return min(memory, c.near.limit) }

// spareChunk returns a chunk that was kept, or a new one. A sync.Pool would drop
// buffers at every collection and have them made again beside the old ones,
// which shows in what a long decode takes. So much memory has been taken for it; those of another size are
// given up, as far as all would be more than the limit.
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
		ch = newChunk()
	}
	for len(c.spare) > 0 && c.memory.inUse()+c.keptLocked() > c.memory.limit {
		c.spare[0].close()
		c.spare = slices.Delete(c.spare, 0, 1)
	}
	ch.taken = taken
	return ch
}

// keepChunk keeps ch for the next one who needs memory: little more than is in use, within the limit.
func (c *Client) keepChunk(ch *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inUse := c.memory.inUse() - ch.taken
	kept := c.keptLocked() + ch.memory()
	if len(c.files) > 0 && inUse+kept <= c.memory.limit && kept <= inUse+c.near.limit {
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

// memory is how many bytes the chunk's buffers hold.
func (c *chunk) memory() int64 { return int64(cap(c.out)) + int64(cap(c.scratch)) }

// begin sizes everything for the n chunks from i on of f.
func (c *chunk) begin(f *File, i, n int64) {
	c.file, c.first = f, i*f.chunkSegments
	c.segments = int(min(n*f.chunkSegments, f.ueb.Segments()-c.first))
	c.blockLen = int(f.ueb.BlockSize())
	c.tailLen = int(f.ueb.BlockLen(c.first + int64(c.segments) - 1))
	c.slotLen = (c.segments-1)*c.blockLen + c.tailLen
	c.apart = f.decodesApart(int64(c.segments))
	c.out = c.out.resized(c.slotLen*f.verifier.K, c.outRoom(), unix.MAP_POPULATE)
	c.pieces = slices.Grow(c.pieces[:0], c.segments*f.verifier.K)[:c.segments*f.verifier.K]
	c.slots = c.slots[:0]
	for slot := range f.verifier.K {
		c.slots = append(c.slots, slot)
	}
}

// release forgets the file and keeps the memory.
func (c *chunk) release() {
	c.spare = append(c.spare, c.reads...)
	for _, r := range c.spare {
		r.share, r.bufs, r.one[0] = nil, nil, nil
	}
	clear(c.reads)
	clear(c.have)
	clear(c.slow)
	clear(c.excluded)
	clear(c.ranked[:cap(c.ranked)])
	clear(c.shards[:cap(c.shards)])
	clear(c.pieces)
	c.reads, c.have, c.slow, c.leaves, c.file = c.reads[:0], c.have[:0], c.slow[:0], c.leaves[:0], nil
	c.competitors = 0
	c.used, c.landed = [zfec.MaxShares]uint8{}, [zfec.MaxShares]bool{}
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

// decode decodes, verifies, decrypts and writes a few segments after the other: as many as are hashed fastest at once,
// because they are still in the processor's caches at the end.
func (c *chunk) decode(ctx context.Context, w io.WriterAt) error {
	began := time.Now()
	if err := c.gatherAndLoad(ctx); err != nil {
		return err
	}
	c.gathering = time.Since(began)
	decoder, err := c.prepare()
	if err != nil {
		return err
	}
	group := int(c.file.leastRun * c.file.chunkSegments)
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
	off := (c.first + int64(from)) * f.ueb.SegmentSize
	plain := c.out[from*c.blockLen*f.verifier.K:]
	plain = plain[:min(int64(end-from)*f.ueb.SegmentSize, f.verifier.Size-off)]
	cryptAt(f.key, plain, off)
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
	t := c.file.tree
	for i := c.first; i < c.first+int64(c.segments); {
		p := c.file.recentPage(i / t.leaves)
		if p == nil {
			c.leaves = c.leaves[:0]
			return false
		}
		i = c.takeLeaves(p, i)
	}
	return true
}

// takeLeaves appends what the page has of the hashes from segment i on, and returns the next segment.
func (c *chunk) takeLeaves(p *page, i int64) int64 {
	leaves := p.leaves[i%c.file.tree.leaves:]
	leaves = leaves[:min(int64(len(leaves)), c.first+int64(c.segments)-i)]
	c.leaves = append(c.leaves, leaves...)
	return i + int64(len(leaves))
}

// loadLeaves gets the hashes of the segments.
func (c *chunk) loadLeaves(ctx context.Context) error {
	t := c.file.tree
	for i := c.first; i < c.first+int64(c.segments); {
		p, err := c.file.crypttextPage(ctx, i/t.leaves)
		if err != nil {
			return fmt.Errorf("%s: %w", crypttextPart, err)
		}
		i = c.takeLeaves(p, i)
	}
	return nil
}

// prepare returns the decoder for the blocks that are there, which they are in the order for then; nil if they
// are the primary ones.
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
	decoder, err := c.file.decoder(c.key)
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
			c.place(r.share.num, r.slot, from, end)
		}
	}
	if decoder == nil {
		return nil
	}
	if c.apart {
		for i, num := range decoder.Missing() {
			c.place(num, k+i, from, end)
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

// place copies the blocks in a slot to where primary block num of each of the segments [from, end) stands.
func (c *chunk) place(num, slot, from, end int) {
	blocks := c.slot(slot)
	for i := from; i < end; i++ {
		copy(c.primary(i, num), blocks[i*c.blockLen:])
	}
}

// maxDecoders bounds the decoders that a File holds.
const maxDecoders = 16

// decoder returns the decoder of a choice of shares.
func (f *File) decoder(nums []byte) (*zfec.Decoder, error) {
	f.mu.Lock()
	d := f.decoders[string(nums)]
	f.mu.Unlock()
	if d != nil {
		return d, nil
	}
	have := make([]int, len(nums))
	for i, num := range nums {
		have[i] = int(num)
	}
	d, err := f.code.Decoder(have)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.decoders) == maxDecoders {
		clear(f.decoders)
	}
	f.decoders[string(nums)] = d
	return d, nil
}

// mismatches returns which of the segments [from, end) of the chunk are not what the uploader said.
func (c *chunk) mismatches(from, end int) (bad []int) {
	c.shards = c.shards[:0]
	for i := from; i < end; i++ {
		segment := c.out[i*c.blockLen*c.file.verifier.K:][:c.file.ueb.SegmentLen(c.first+int64(i))]
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

// cryptAt encrypts or decrypts b, which stands at off in the file: AES-128-CTR,
// one stream over the whole file from a counter of 0.
func cryptAt(key cipher.Block, b []byte, off int64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(off/aes.BlockSize))
	stream := cipher.NewCTR(key, counter[:])
	if skip := off % aes.BlockSize; skip != 0 {
		var discard [aes.BlockSize]byte
		stream.XORKeyStream(discard[:skip], discard[:skip])
	}
	stream.XORKeyStream(b, b)
}

// excludeCulprits verifies the blocks that were used for the bad segments and
// drops the shares that gave wrong ones. Shares that cannot be proven right or
// wrong are dropped only when no other is proven wrong. Blocks that were read where a share has none
// are only to be read again.
func (c *chunk) excludeCulprits(ctx context.Context, bad []int) error {
	ctx, done := joinContexts(ctx, c.file.ctx)
	defer done()
	verdicts := make([]error, len(c.have))
	var verifiers errgroup.Group
	verifiers.SetLimit(4)
	for i, r := range c.have {
		verifiers.Go(func() error {
			verdicts[i] = c.verifyBlocks(ctx, r, bad)
			return nil
		})
	}
	verifiers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var wrong, unproven, elsewhere []*read
	for i, r := range c.have {
		var corrupt *CorruptShareError
		switch err := verdicts[i]; {
		case err == nil:
			continue
		case errors.Is(err, errElsewhere):
			elsewhere = append(elsewhere, r)
			continue
		case errors.As(err, &corrupt) && corrupt.Part != blockTreePart && corrupt.Part != chainPart:
			wrong = append(wrong, r)
		default:
			unproven = append(unproven, r)
		}
		r.share.report(verdicts[i])
	}
	for _, r := range elsewhere {
		c.drop(r)
	}
	if len(wrong)+len(elsewhere) == 0 {
		wrong = unproven
	}
	if len(wrong)+len(elsewhere) == 0 {
		return ErrInconsistent
	}
	for _, r := range wrong {
		c.excluded[r.share] = time.Time{}
		c.drop(r)
	}
	return nil
}

// errElsewhere: blocks were read where the share has none.
var errElsewhere = errors.New("the share is not laid out as supposed")

// verifyBlocks verifies what a read brought for the bad segments against the
// share's own block hash tree.
func (c *chunk) verifyBlocks(ctx context.Context, r *read, bad []int) error {
	return r.share.use(ctx, func(o *openShare) error {
		if o.header.Data != r.data {
			return errElsewhere
		}
		hasher := hashtree.NewHasher(hashtree.BlockTag)
		var leaves []hashtree.Hash
		loaded := int64(-1)
		for _, i := range bad {
			number := c.first + int64(i)
			if page := number / c.file.tree.leaves; page != loaded {
				var err error
				if leaves, err = o.blockLeaves(ctx, page); err != nil {
					return err
				}
				loaded = page
			}
			got, want := hasher.Of(c.block(r, i)), leaves[number%c.file.tree.leaves]
			if !bytes.Equal(got[:], want[:]) {
				return o.blame(fmt.Sprintf("block %d", number), errHash)
			}
		}
		return nil
	})
}
