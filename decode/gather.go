package decode

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// read is the reading of one share's blocks of one chunk.
type read struct {
	share  *share
	slot   int      // in scratch; -1: the blocks land at their place in out
	bufs   [][]byte // where the bytes go, in their order in the share
	cancel context.CancelFunc
	err    error

	running   bool
	slow      bool // it has kept us waiting, so another one was begun
	abandoned bool // it was cancelled for that
	last      bool // there is nothing else left to try, so it may be slow
}

// errSlow is why a share is demoted that answered too late.
var errSlow = errors.New("slow to answer")

// gather reads until the blocks of k distinct shares are there. It begins with as
// many as are wanted, the preferred first; one that fails is replaced, and
// one that is slow gets a competitor. When it returns no read is running.
func (c *chunk) gather(ctx context.Context) error {
	f := c.file
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		c.patience.Stop()
		for c.running > 0 {
			c.finish(<-c.results)
		}
	}()
	c.patience.Reset(f.client.patience)
	for len(c.have) < f.cap.k {
		changed := f.watch()
		// A share may come between the look and the question, so look again.
		if c.launch(ctx) > 0 && !f.moreToCome() && c.launch(ctx) > 0 {
			if c.launchSlow(ctx) > 0 && c.running == 0 {
				return f.notEnough(func(s *share) bool { return c.excluded[s] })
			}
		}
		select {
		case r := <-c.results:
			c.finish(r)
			if r.err != nil && ctx.Err() == nil && !r.abandoned {
				c.excluded[r.share] = true
				r.share.report(r.err)
			}
		case <-c.patience.C:
			c.loseCalm()
			c.patience.Reset(f.client.patience)
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// wanted returns how many reads are to be begun.
func (c *chunk) wanted() int {
	n := c.file.cap.k - len(c.have)
	for _, r := range c.reads {
		if r.running && !r.slow {
			n--
		}
	}
	return n
}

// launch begins the wanted reads and returns how many more are wanted.
func (c *chunk) launch(ctx context.Context) int {
	n := c.wanted()
	if n <= 0 {
		return 0
	}
	for _, s := range c.file.candidates() {
		if !c.excluded[s] && c.used[s.num] == 0 && !c.tried(s) && c.start(ctx, s, false) {
			if n--; n == 0 {
				break
			}
		}
	}
	return n
}

// launchSlow is launch for the shares that were given up.
func (c *chunk) launchSlow(ctx context.Context) int {
	n := c.wanted()
	for i := 0; i < len(c.slow) && n > 0; {
		if s := c.slow[i]; c.used[s.num] == 0 && c.start(ctx, s, true) {
			c.slow = slices.Delete(c.slow, i, i+1)
			n--
		} else {
			i++
		}
	}
	return n
}

// tried tells whether s is being read, or was and may be again.
func (c *chunk) tried(s *share) bool {
	return slices.Contains(c.slow, s) || slices.ContainsFunc(c.reads, func(r *read) bool { return r.share == s })
}

// start begins to read the share's blocks, in place if they are primary ones and
// else into a slot of scratch; it returns false when there is no room.
func (c *chunk) start(ctx context.Context, s *share, last bool) bool {
	r := &read{share: s, slot: -1, running: true, last: last}
	switch k := c.file.cap.k; {
	case s.num < k && !c.landed[s.num]:
		c.landed[s.num] = true
		r.bufs = c.pieces[s.num*c.segments:][:0:c.segments]
		for i := range c.segments {
			r.bufs = append(r.bufs, c.primary(i, s.num))
		}
	case len(c.slots) > 0:
		r.slot = c.slots[len(c.slots)-1]
		c.slots = c.slots[:len(c.slots)-1]
		c.scratch = resize(c.scratch, c.slotLen*k)
		r.bufs = [][]byte{c.scratch[r.slot*c.slotLen:][:c.slotLen]}
	default:
		return false
	}
	c.used[s.num]++
	c.reads = append(c.reads, r)
	c.running++
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		r.err = c.fill(ctx, r)
		c.results <- r
	}()
	return true
}

// fill reads the blocks: one request.
func (c *chunk) fill(ctx context.Context, r *read) error {
	o, err := r.share.open(ctx)
	if err != nil {
		return err
	}
	if err := o.read(ctx, o.header.Data+c.first*int64(c.blockLen), r.bufs...); err != nil {
		return o.blame(c.blockNames(), err)
	}
	return nil
}

// blockNames names the blocks that each share has for the chunk.
func (c *chunk) blockNames() string {
	if c.segments == 1 {
		return fmt.Sprintf("block %d", c.first)
	}
	return fmt.Sprintf("blocks %d to %d", c.first, c.first+int64(c.segments)-1)
}

// finish takes a read that has ended. Of two of one share number the first counts.
func (c *chunk) finish(r *read) {
	r.running = false
	r.cancel()
	c.running--
	if !r.slow {
		c.used[r.share.num]--
	}
	if r.err != nil || len(c.have) == c.file.cap.k || slices.ContainsFunc(c.have, func(h *read) bool { return h.share.num == r.share.num }) {
		if r.abandoned {
			c.slow = append(c.slow, r.share)
		}
		c.forget(r)
		return
	}
	c.used[r.share.num]++
	c.have = append(c.have, r)
}

// loseCalm lets the reads that are running have competitors. One that lands in
// place may go on; one that takes a slot makes room.
func (c *chunk) loseCalm() {
	for _, r := range c.reads {
		if !r.running || r.slow || r.last {
			continue
		}
		r.slow = true
		c.used[r.share.num]--
		r.share.report(ServerError{Server: r.share.server.String(), Err: errSlow})
		if r.slot >= 0 {
			r.abandoned = true
			r.cancel()
		}
	}
}

// drop takes back a read whose blocks are there.
func (c *chunk) drop(r *read) {
	c.have = slices.DeleteFunc(c.have, func(h *read) bool { return h == r })
	c.used[r.share.num]--
	c.forget(r)
}

// forget frees the room of a read that has ended.
func (c *chunk) forget(r *read) {
	c.reads = slices.DeleteFunc(c.reads, func(h *read) bool { return h == r })
	if r.slot >= 0 {
		c.slots = append(c.slots, r.slot)
	} else {
		c.landed[r.share.num] = false
	}
}
