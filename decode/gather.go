package decode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// read is the reading of one share's blocks of one chunk. It has a goroutine and
// a context, which it keeps for the next reading of its chunk.
type read struct {
	share *share
	slot  int      // in scratch; -1: the blocks land at their place in out
	bufs  [][]byte // where the bytes go, in their order in the share
	one   [1][]byte
	early *early // the share's beginning, or nil
	data  int64  // where the share's blocks begin, or are supposed to
	err   error

	running   bool
	launched  time.Time
	began     atomic.Int64 // when the server was asked, in Unix nanoseconds; 0: that waits for other requests
	late      time.Time    // when another one is begun in its place
	noted     bool         // that it is late
	slow      bool         // it was late
	abandoned bool         // it was cancelled for that
	last      bool         // there is nothing else left to try, so it may be late

	begin  chan struct{}   // a token begins the reading; closed with the chunk
	ctx    context.Context // of the reading; made anew when it was cancelled
	cancel context.CancelCauseFunc
}

// spareRead returns a read whose goroutine waits, with nothing in it but that.
func (c *chunk) spareRead() *read {
	var r *read
	if last := len(c.spare) - 1; last >= 0 {
		r = c.spare[last]
		c.spare = c.spare[:last]
	} else {
		r = &read{begin: make(chan struct{})}
		c.file.client.readers.Go(func() {
			for range r.begin {
				r.err = c.fill(r)
				c.results <- r
			}
		})
	}
	if r.ctx == nil || r.ctx.Err() != nil {
		r.ctx, r.cancel = context.WithCancelCause(c.file.client.ctx)
	}
	r.err, r.slow, r.abandoned = nil, false, false
	return r
}

// close ends the goroutine of a read that is not running.
func (r *read) close() {
	close(r.begin)
	r.cancel(nil)
}

// gather reads until the blocks of k distinct shares are there. It begins with as
// many as are wanted, from the quickest servers; a read that fails is replaced, and
// one that is late gets a competitor. Servers that failed are tried again for a
// while when there is nothing else. When it returns no read is running.
func (c *chunk) gather(ctx context.Context) error {
	f := c.file
	defer c.stopReads()
	var short shortage
	for len(c.have) < f.verifier.K {
		changed := f.watch()
		wake := time.Now().Add(time.Hour)
		// A share may come between the look and the question, so look again.
		if c.launch() > 0 && !f.moreToCome() && c.launch() > 0 {
			if c.launchSlow() > 0 && c.running == 0 {
				var ok bool
				if wake, ok = short.end(f, c.excluded); !ok {
					return f.notEnough(c.excluded.has)
				}
			}
		}
		c.tick.Reset(time.Until(c.nextTick(wake)))
		select {
		case r := <-c.results:
			c.finish(r)
			if r.err != nil && ctx.Err() == nil && !r.abandoned {
				c.excluded[r.share] = r.share.report(r.err)
			}
		case now := <-c.tick.C:
			c.expireReads(now)
			c.hedge(now)
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
	}
	return nil
}

// stopReads ends the reads that nobody needs any more, and waits for them.
func (c *chunk) stopReads() {
	c.tick.Stop()
	for _, r := range c.reads {
		if r.running {
			r.cancel(nil)
		}
	}
	for c.running > 0 {
		c.finish(<-c.results)
	}
}

// nextTick returns when a read is late or has had its time, or wake if that comes first.
func (c *chunk) nextTick(wake time.Time) time.Time {
	for _, r := range c.reads {
		if !r.running || r.ctx.Err() != nil {
			continue
		}
		if end := c.expiry(r); end.Before(wake) {
			wake = end
		}
		if !r.slow && !r.last && r.late.Before(wake) {
			wake = r.late
		}
	}
	return wake
}

// expireReads ends the reads that take longer than a request may.
func (c *chunk) expireReads(now time.Time) {
	for _, r := range c.reads {
		if r.running && !now.Before(c.expiry(r)) {
			r.cancel(errTimeout)
		}
	}
}

// expiry returns when a read has had its time; what waits for other requests, which have theirs, is looked
// at again then.
func (c *chunk) expiry(r *read) time.Time {
	began := r.began.Load()
	if began == 0 {
		return time.Now().Add(c.file.client.timeout)
	}
	return time.Unix(0, began).Add(c.file.client.allowed(c.slotLen))
}

// hedge lets the reads that are late have competitors.
func (c *chunk) hedge(now time.Time) {
	for _, r := range c.reads {
		if !r.running || r.slow || r.last || now.Before(r.late) {
			continue
		}
		if !r.noted {
			r.noted = true
			r.share.isLate(now, r.launched)
		}
		if patience := c.file.client.patience; !c.file.client.hedges.take() && now.Sub(r.launched) < patience {
			r.late = r.launched.Add(patience)
			continue
		}
		r.slow = true
		c.used[r.share.num]--
		c.competitors++
		c.file.client.hedged.Add(1)
	}
}

// wanted returns how many reads are to be begun.
func (c *chunk) wanted() int {
	n := c.file.verifier.K - len(c.have)
	for _, r := range c.reads {
		if r.running && !r.slow {
			n--
		}
	}
	return n
}

// launch begins the wanted reads and returns how many more are wanted.
func (c *chunk) launch() int {
	n := c.wanted()
	if n <= 0 {
		return 0
	}
	c.ranked = c.file.rank(c.ranked[:0], c.slotLen, c.competitors > 0, c.first == 0)
	for _, candidate := range c.ranked {
		s := candidate.share
		if c.excluded.has(s) || c.used[s.num] != 0 || c.tried(s) {
			continue
		}
		if !c.start(s, false) {
			c.makeRoom()
		} else if n--; n == 0 {
			break
		}
	}
	if c.first == 0 {
		c.joinEarly()
	}
	return n
}

// joinEarly takes part in what is being read early of further shares: of all those the first k count.
func (c *chunk) joinEarly() {
	for _, s := range c.file.earlyShares() {
		if !c.excluded.has(s) && c.used[s.num] == 0 && !c.tried(s) && c.start(s, false) {
			c.reads[len(c.reads)-1].slow = true // nobody counts on it
			c.used[s.num]--
		}
	}
}

// makeRoom gives up a late read that takes a slot, so that another one can be begun when it has ended.
func (c *chunk) makeRoom() {
	for _, r := range c.reads {
		if r.running && r.abandoned {
			return // there will be room soon
		}
	}
	for _, r := range c.reads {
		if r.running && r.slow && r.slot >= 0 {
			r.abandoned = true
			r.cancel(nil)
			return
		}
	}
}

// launchSlow is launch for the shares that were given up.
func (c *chunk) launchSlow() int {
	n := c.wanted()
	for i := 0; i < len(c.slow) && n > 0; {
		if s := c.slow[i]; c.used[s.num] == 0 && c.start(s, true) {
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
func (c *chunk) start(s *share, last bool) bool {
	slot := -1
	switch {
	case s.num < c.file.verifier.K && !c.landed[s.num] && !c.apart:
		c.landed[s.num] = true
	case len(c.slots) > 0:
		slot = c.slots[len(c.slots)-1]
		c.slots = c.slots[:len(c.slots)-1]
	default:
		return false
	}
	r := c.spareRead()
	r.share, r.slot, r.last = s, slot, last
	if slot < 0 {
		r.bufs = c.pieces[s.num*c.segments:][:0:c.segments]
		for i := range c.segments {
			r.bufs = append(r.bufs, c.primary(i, s.num))
		}
	} else {
		c.scratch = c.scratch.resized(c.scratchLen(), int(c.taken)-c.outRoom(), 0)
		r.one[0] = c.slot(slot)
		r.bufs = r.one[:]
	}
	c.used[s.num]++
	c.reads = append(c.reads, r)
	c.running++
	c.file.client.hedges.earn()
	now := time.Now()
	r.running, r.launched, r.noted = true, now, false
	r.began.Store(0)
	if c.first == 0 {
		r.early = c.file.takeEarly(s)
	}
	s.member.pace.choose(1)
	r.late = now.Add(c.file.client.lateNext(s.member, c.slotLen, c.competitors))
	r.begin <- struct{}{}
	return true
}

// fill reads the blocks: at once, if the share is laid out as supposed.
func (c *chunk) fill(r *read) error {
	o, err := r.share.open(r.ctx)
	if e := r.early; e != nil {
		r.early = nil
		if o == nil {
			c.file.dropEarly(e)
		} else if r.began.Store(e.began.UnixNano()); c.file.useEarly(r.ctx, e, o.header.Data, r.bufs) {
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
		group.Go(func() error { return c.readPart(ctx, r, o, off+int64(from), cut(r.bufs, from, to)) })
	}
	return group.Wait()
}

// cut returns the bytes [from, to) of bufs.
func cut(bufs [][]byte, from, to int) (part [][]byte) {
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
		return o.blame(c.blockNames(), timeoutCause(ctx, err))
	}
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
	c.running--
	r.share.member.pace.choose(-1)
	if !r.slow {
		c.used[r.share.num]--
	}
	if r.err != nil || len(c.have) == c.file.verifier.K || slices.ContainsFunc(c.have, func(h *read) bool { return h.share.num == r.share.num }) {
		if r.abandoned {
			c.slow = append(c.slow, r.share)
		}
		c.forget(r)
		return
	}
	c.used[r.share.num]++
	c.have = append(c.have, r)
}

// drop takes back a read whose blocks are there.
func (c *chunk) drop(r *read) {
	c.have = slices.DeleteFunc(c.have, func(h *read) bool { return h == r })
	c.used[r.share.num]--
	c.forget(r)
}

// forget frees the room of a read that has ended, and the read itself for another one.
func (c *chunk) forget(r *read) {
	c.reads = slices.DeleteFunc(c.reads, func(h *read) bool { return h == r })
	c.spare = append(c.spare, r)
	if r.slot >= 0 {
		c.slots = append(c.slots, r.slot)
	} else {
		c.landed[r.share.num] = false
	}
}
