package decode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"spillway/decode/grid"
	"spillway/decode/hashtree"
	"spillway/decode/lifetime"
	"time"

	"golang.org/x/sync/errgroup"
)

// excludeCulprits verifies the blocks that were used for the bad segments and drops the shares that
// gave wrong ones. Shares that cannot be proven right or wrong are dropped only when no other is
// proven wrong. Blocks that were read where a share has none are only to be read again.
func (c *chunk) excludeCulprits(ctx context.Context, bad []int) error {
	ctx, done := lifetime.Joined(ctx, c.file.life.Context())
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
		return fmt.Errorf("%w: its blocks are right and its segment is not", ErrInconsistent)
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
			if page := number / c.file.cut.tree.leaves; page != loaded {
				var err error
				if leaves, err = o.blockLeaves(ctx, page); err != nil {
					return err
				}
				loaded = page
			}
			got, want := hasher.Of(c.block(r, i)), leaves[number%c.file.cut.tree.leaves]
			if !bytes.Equal(got[:], want[:]) {
				return o.blame(fmt.Sprintf("block %d", number), errHash)
			}
		}
		return nil
	})
}

// placeBlocks finds a place for a share's blocks: where they belong in out if they are primary
// ones, and else a slot of scratch.
func (c *chunk) placeBlocks(r *read) bool {
	num := r.share.num
	if num < c.need && !c.landed[num] && !c.apart {
		c.landed[num] = true
		r.slot = -1
		r.bufs = c.pieces[num*c.segments:][:0:c.segments]
		for i := range c.segments {
			r.bufs = append(r.bufs, c.primary(i, num))
		}
		return true
	}
	last := len(c.slots) - 1
	if last < 0 {
		return false
	}
	r.slot = c.slots[last]
	c.slots = c.slots[:last]
	c.scratch = c.scratch.Resized(c.scratchLen(), int(c.taken)-c.outRoom(), false)
	r.one[0] = c.slot(r.slot)
	r.bufs = r.one[:]
	return true
}

// leaveBlocks frees the place of a read that has ended.
func (c *chunk) leaveBlocks(r *read) {
	if r.slot >= 0 {
		c.slots = append(c.slots, r.slot)
	} else {
		c.landed[r.share.num] = false
	}
}

// fillBlocks reads the blocks: at once, if the share is laid out as supposed.
func (c *chunk) fillBlocks(r *read) error {
	o, err := r.share.open(r.ctx)
	if e := r.early; e != nil {
		r.early = nil
		if o == nil {
			c.file.early.drop(e)
		} else if r.began.Store(e.began.UnixNano()); c.file.early.use(r.ctx, e, o.header.Data, r.bufs) {
			r.data = o.header.Data
			return nil
		}
	}
	for o != nil {
		o, err = o.again(r.ctx, c.fillFrom(r, o))
	}
	return err
}

func (c *chunk) fillFrom(r *read, o *openShare) error {
	r.data = o.header.Data
	off := r.data + c.first*int64(c.blockLen)
	parts := c.file.parts(r.share.member, c.slotLen)
	if parts == 1 {
		return c.readPart(r.ctx, r, o, off, r.bufs)
	}
	group, ctx := errgroup.WithContext(r.ctx)
	for i := range parts {
		from, to := c.slotLen*i/parts, c.slotLen*(i+1)/parts
		group.Go(func() error { return c.readPart(ctx, r, o, off+int64(from), between(r.bufs, from, to)) })
	}
	return group.Wait()
}

// between returns the bytes [from, to) of bufs.
func between(bufs [][]byte, from, to int) (part [][]byte) {
	for _, b := range bufs {
		if from, to := max(from, 0), min(to, len(b)); from < to {
			part = append(part, b[from:to])
		}
		from -= len(b)
		to -= len(b)
	}
	return part
}

// readPart fills bufs with one request.
func (c *chunk) readPart(ctx context.Context, r *read, o *openShare, off int64, bufs [][]byte) error {
	want := 0
	for _, b := range bufs {
		want += len(b)
	}
	switch n, err := o.readAt(ctx, &r.began, off, bufs...); {
	case n == want:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return o.blame(c.blockNames(), io.ErrUnexpectedEOF)
	default:
		return o.blame(c.blockNames(), grid.Cause(ctx, err))
	}
}

// blockNames names the blocks that each share has for the chunk.
func (c *chunk) blockNames() string {
	if c.segments == 1 {
		return fmt.Sprintf("block %d", c.first)
	}
	return fmt.Sprintf("blocks %d to %d", c.first, c.first+int64(c.segments)-1)
}
