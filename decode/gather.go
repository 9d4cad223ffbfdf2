package decode

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/zfec"
)

// gathering reads one thing from shares until enough distinct ones have brought it: the blocks of a
// chunk from k of them, or a part of a hash tree from one. It begins with as many as are needed,
// from the quickest servers; a read that fails is replaced, and one that is late gets a competitor
// (fleet.Watch). Servers that failed are tried again for a while when there is nothing else.
//
// It belongs to one goroutine, which calls gather. Each read has a goroutine and a context of its
// own, which are kept for the next read until close.
type gathering struct {
	client  *Client
	results chan *read
	tick    *time.Timer
	spare   []*read // to be used again

	// What is done with each read; set once.
	fill  func(r *read) error       // reads r's share, in r's goroutine
	place func(r *read) (room bool) // finds a place for what r will bring
	leave func(r *read)             // gives that back

	// Of what is gathered now; see reset.
	file      *File
	need      int
	bytes     int  // that each read brings
	beginning bool // it is the file's first chunk, of which shares may be read early

	reads       []*read // running ones and those that have brought it
	have        []*read // those that have brought it, of distinct share numbers
	excluded    exclusions
	slow        []*share // given up for being late; tried again when nothing else is left
	ranked      []candidate
	competitors int // reads begun because others were late
	used        [zfec.MaxShares]uint8
	running     int
}

// read is the reading of one share.
type read struct {
	share *share
	slot  int      // of a chunk, in scratch; -1: the blocks land at their place in out
	bufs  [][]byte // of a chunk: where the bytes go, in their order in the share
	one   [1][]byte
	early *early // of a chunk: the share's beginning, or nil
	data  int64  // of a chunk: where the share's blocks begin, or are supposed to
	value any    // of a part of a hash tree
	err   error

	running bool
	// began: when the server was asked, in Unix nanoseconds; 0: that waits for other requests.
	began     atomic.Int64
	watch     fleet.Watch
	slow      bool // it was late, and nobody counts on it
	abandoned bool // it was cancelled for that
	last      bool // there is nothing else left to try, so it may be late

	begin  chan struct{}   // a token begins the reading; closed with the gathering
	ctx    context.Context // of the reading; made anew when it was cancelled
	cancel context.CancelCauseFunc
}

// exclusions are shares that are left out for a while, or for good.
type exclusions map[*share]time.Time // when they may be tried again; the zero time: never

// has tells whether the share is left out now.
func (e exclusions) has(s *share) bool {
	again, out := e[s]
	return out && (again.IsZero() || time.Now().Before(again))
}

// persistence is how long somebody waits for servers that failed, where no others have enough, so
// that a server that is started anew ends no download.
const persistence = 10 * time.Second

// shortage is a time in which there are too few shares.
type shortage struct{ since time.Time }

// end returns when a server that failed may be tried again, false if that is not worth waiting for.
// Servers that did not say which shares they hold are asked again meanwhile.
func (s *shortage) end(f *File, left exclusions) (time.Time, bool) {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	next := f.roster.askAgain()
	for _, again := range left {
		if !again.IsZero() && again.Before(next) {
			next = again
		}
	}
	return next, next.Before(s.since.Add(persistence))
}

func newGathering(c *Client) gathering {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return gathering{client: c, results: make(chan *read), tick: t, excluded: exclusions{}}
}

// reset forgets the file, the shares and what they brought, and keeps the goroutines. No read is
// running.
func (g *gathering) reset() {
	g.spare = append(g.spare, g.reads...)
	for _, r := range g.spare {
		r.share, r.bufs, r.one[0], r.value = nil, nil, nil, nil
	}
	clear(g.reads)
	clear(g.have)
	clear(g.slow)
	clear(g.excluded)
	clear(g.ranked[:cap(g.ranked)])
	g.reads, g.have, g.slow, g.file = g.reads[:0], g.have[:0], g.slow[:0], nil
	g.competitors = 0
	g.used = [zfec.MaxShares]uint8{}
}

// close ends the goroutines. Nothing is gathered.
func (g *gathering) close() {
	for _, r := range g.spare {
		close(r.begin)
		r.cancel(nil)
	}
}

// spareRead returns a read whose goroutine waits, with nothing in it but that.
func (g *gathering) spareRead() *read {
	var r *read
	if last := len(g.spare) - 1; last >= 0 {
		r = g.spare[last]
		g.spare = g.spare[:last]
	} else {
		r = &read{begin: make(chan struct{})}
		g.client.readers.Go(func() {
			for range r.begin {
				r.err = g.fill(r)
				g.results <- r
			}
		})
	}
	if r.ctx == nil || r.ctx.Err() != nil {
		r.ctx, r.cancel = context.WithCancelCause(g.client.life.Context())
	}
	r.err, r.slow, r.abandoned = nil, false, false
	return r
}

// gather reads until enough have brought it. When it returns no read is running. If too few can,
// the error is *NotEnoughSharesError; otherwise the context's, or ErrClosed.
func (g *gathering) gather(ctx context.Context) error {
	f := g.file
	defer g.stopReads()
	closing := f.life.Context()
	var short shortage
	for len(g.have) < g.need {
		rung := f.bell.next()
		wake := time.Now().Add(time.Hour)
		// A share may come between the look and the question, so look again.
		if g.launch() > 0 && !f.roster.moreToCome() && g.launch() > 0 {
			if g.launchSlow() > 0 && g.running == 0 {
				var ok bool
				if wake, ok = short.end(f, g.excluded); !ok {
					return f.notEnough(g.excluded.has)
				}
			}
		}
		g.tick.Reset(time.Until(g.nextTick(wake)))
		select {
		case r := <-g.results:
			g.finish(r)
			if r.err != nil && ctx.Err() == nil && !r.abandoned {
				g.excluded[r.share] = r.share.report(r.err)
			}
		case now := <-g.tick.C:
			g.expireReads(now)
			g.hedge(now)
		case <-rung:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-closing.Done():
			return context.Cause(closing)
		}
	}
	return nil
}

// stopReads ends the reads that nobody needs any more, and waits for them.
func (g *gathering) stopReads() {
	g.tick.Stop()
	for _, r := range g.reads {
		if r.running {
			r.cancel(nil)
		}
	}
	for g.running > 0 {
		g.finish(<-g.results)
	}
}

// nextTick returns when a read is late or has had its time, or wake if that comes first.
func (g *gathering) nextTick(wake time.Time) time.Time {
	for _, r := range g.reads {
		if !r.running || r.ctx.Err() != nil {
			continue
		}
		if end := g.expiry(r); end.Before(wake) {
			wake = end
		}
		if due, ok := r.watch.Due(); ok && !r.slow && !r.last && due.Before(wake) {
			wake = due
		}
	}
	return wake
}

// expireReads ends the reads that take longer than a request may.
func (g *gathering) expireReads(now time.Time) {
	for _, r := range g.reads {
		if r.running && !now.Before(g.expiry(r)) {
			r.cancel(grid.ErrTimeout)
		}
	}
}

// expiry returns when a read has had its time; what waits for other requests, which have theirs, is
// looked at again then.
func (g *gathering) expiry(r *read) time.Time {
	began := r.began.Load()
	if began == 0 {
		return time.Now().Add(g.client.fleet.Allowed(0))
	}
	return time.Unix(0, began).Add(g.client.fleet.Allowed(g.bytes))
}

// hedge lets the reads that are late have competitors.
func (g *gathering) hedge(now time.Time) {
	for _, r := range g.reads {
		if r.running && !r.slow && !r.last && r.watch.Late(now, g.file.id) {
			r.slow = true
			g.used[r.share.num]--
			g.competitors++
		}
	}
}

// wanted returns how many reads are to be begun.
func (g *gathering) wanted() int {
	n := g.need - len(g.have)
	for _, r := range g.reads {
		if r.running && !r.slow {
			n--
		}
	}
	return n
}

// launch begins the wanted reads and returns how many more are wanted.
func (g *gathering) launch() int {
	n := g.wanted()
	if n <= 0 {
		return 0
	}
	g.ranked = g.file.roster.rank(g.ranked[:0], g.bytes, g.competitors > 0, g.beginning)
	for _, candidate := range g.ranked {
		s := candidate.share
		if g.excluded.has(s) || g.used[s.num] != 0 || g.tried(s) {
			continue
		}
		if !g.start(s, false) {
			g.makeRoom()
		} else if n--; n == 0 {
			break
		}
	}
	if g.beginning {
		g.joinEarly()
	}
	return n
}

// joinEarly takes part in what is being read early of further shares: of all those the first ones
// count.
func (g *gathering) joinEarly() {
	for _, s := range g.file.early.shares() {
		if !g.excluded.has(s) && g.used[s.num] == 0 && !g.tried(s) && g.start(s, false) {
			g.reads[len(g.reads)-1].slow = true // nobody counts on it
			g.used[s.num]--
		}
	}
}

// makeRoom gives up a late read that takes a slot, so that another one can be begun when it has
// ended.
func (g *gathering) makeRoom() {
	for _, r := range g.reads {
		if r.running && r.abandoned {
			return // there will be room soon
		}
	}
	for _, r := range g.reads {
		if r.running && r.slow && r.slot >= 0 {
			r.abandoned = true
			r.cancel(nil)
			return
		}
	}
}

// launchSlow is launch for the shares that were given up.
func (g *gathering) launchSlow() int {
	n := g.wanted()
	for i := 0; i < len(g.slow) && n > 0; {
		if s := g.slow[i]; g.used[s.num] == 0 && g.start(s, true) {
			g.slow = slices.Delete(g.slow, i, i+1)
			n--
		} else {
			i++
		}
	}
	return n
}

// tried tells whether s is being read, or was and may be again.
func (g *gathering) tried(s *share) bool {
	return slices.Contains(g.slow, s) || slices.ContainsFunc(g.reads, func(r *read) bool { return r.share == s })
}

// start begins to read the share; it returns false when there is no room.
func (g *gathering) start(s *share, last bool) bool {
	r := g.spareRead()
	r.share, r.last = s, last
	if !g.place(r) {
		g.spare = append(g.spare, r)
		return false
	}
	g.used[s.num]++
	g.reads = append(g.reads, r)
	g.running++
	r.running = true
	r.began.Store(0)
	if g.beginning {
		r.early = g.file.early.take(s)
	}
	s.member.Choose(1)
	r.watch = s.member.Watch(time.Now(), g.bytes, g.competitors)
	r.begin <- struct{}{}
	return true
}

// finish takes a read that has ended. Of two of one share number the first counts.
func (g *gathering) finish(r *read) {
	r.running = false
	g.running--
	r.share.member.Choose(-1)
	if !r.slow {
		g.used[r.share.num]--
	}
	if r.err != nil || len(g.have) == g.need || slices.ContainsFunc(g.have, func(h *read) bool { return h.share.num == r.share.num }) {
		if r.abandoned {
			g.slow = append(g.slow, r.share)
		}
		g.forget(r)
		return
	}
	g.used[r.share.num]++
	g.have = append(g.have, r)
}

// drop takes back a read that has brought it.
func (g *gathering) drop(r *read) {
	g.have = slices.DeleteFunc(g.have, func(h *read) bool { return h == r })
	g.used[r.share.num]--
	g.forget(r)
}

// forget frees the room of a read that has ended, and the read itself for another one.
func (g *gathering) forget(r *read) {
	g.reads = slices.DeleteFunc(g.reads, func(h *read) bool { return h == r })
	g.spare = append(g.spare, r)
	g.leave(r)
}

// fromAny returns what get makes of one share, which it reads by requests that bring next to
// nothing. All calls of get have returned when it returns. If every share fails, the error is
// *NotEnoughSharesError.
func fromAny[V any](ctx context.Context, f *File, get func(ctx context.Context, o *openShare) (V, error)) (V, error) {
	g := newGathering(f.client)
	g.file, g.need, g.bytes = f, 1, fleet.SmallRead
	g.place = func(r *read) bool { r.slot = -1; return true }
	g.leave = func(*read) {}
	g.fill = func(r *read) error {
		return r.share.use(r.ctx, func(o *openShare) error {
			value, err := get(r.ctx, o)
			r.value = value
			return err
		})
	}
	var value V
	err := g.gather(ctx)
	if err == nil {
		value = g.have[0].value.(V)
	}
	g.reset()
	g.close()
	return value, err
}
