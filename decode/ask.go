package decode

import (
	"context"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"time"
)

// restAfter is when the other servers are asked as well, where those at hand are asked first (see
// decision first-byte-at-hand).
const restAfter = 50 * time.Millisecond

// discover asks the servers and waits until enough distinct shares are known and the UEB is
// verified.
func (f *File) discover(ctx context.Context, enough int) error {
	ctx, done, err := f.life.Join(ctx)
	if err != nil {
		return err
	}
	defer done()
	f.roster.askFirst()
	for {
		rung := f.bell.next()
		ueb, fatal, idle := f.search.state()
		ready := ueb != nil && f.roster.distinct() >= enough
		if !ready && idle {
			// Those who ask after some time may have asked the last ones just now. So look again.
			f.roster.ask(1 << 30)
			ueb, fatal, idle = f.search.state()
			ready = ueb != nil && f.roster.distinct() >= enough
		}
		switch {
		case fatal != nil:
			return fatal
		case ready:
			return nil
		case idle:
			return f.notEnough(func(s *share) bool { return s.corrupt != nil || s.failure != nil })
		}
		select {
		case <-rung:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// moreToCome tells whether shares that are not known yet may become known. Servers that have not
// been asked, because shares were remembered or the servers are new, are asked now.
func (r *roster) moreToCome() bool {
	r.askRest()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listing > 0
}

// askFirst asks as many servers as shares are needed, if so many are at hand, in the order in which
// Tahoe-LAFS's clients place shares. For each one that adds none the next one is asked, and all
// others after some time. Servers far away, or slow, are all asked at once.
func (r *roster) askFirst() {
	now := time.Now()
	v := r.file.verifier
	block := int(min(v.Size, chunkTarget)) / v.K
	r.mu.Lock()
	defer r.mu.Unlock()
	var first, later []*fleet.Member
	for _, m := range r.unasked {
		if m.IsAtHand() && m.IsPrompt(now, block) {
			first = append(first, m)
		} else {
			later = append(later, m)
		}
	}
	if len(first) < v.K {
		r.askLocked(len(r.unasked))
		return
	}
	r.unasked = append(fleet.Permute(first, v.StorageIndex), later...)
	r.askLocked(v.K)
	r.askLater()
}

// askLater asks all servers that have not been asked, after some time.
func (r *roster) askLater() {
	_ = r.file.life.Go(func(ctx context.Context) { // nobody needs them when the File is closed
		wait := time.NewTimer(restAfter)
		defer wait.Stop()
		select {
		case <-wait.C:
			r.askRest()
		case <-ctx.Done():
		}
	})
}

// askRest asks every server that has not been asked, once in the life of the File.
func (r *roster) askRest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file.life.Context().Err() != nil {
		return
	}
	members := r.file.client.fleet.Join(r.members)
	r.unasked = append(r.unasked, members[len(r.members):]...)
	r.members = members
	r.askLocked(len(r.unasked))
}

// ask asks the next so many servers, if there are as many, and returns how many.
func (r *roster) ask(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.askLocked(n)
}

func (r *roster) askLocked(n int) (asked int) {
	f := r.file
	for asked < min(n, len(r.unasked)) {
		q := &inquiry{member: r.unasked[asked], asking: true, since: time.Now()}
		f.search.join()
		err := f.life.Go(func(ctx context.Context) {
			shares := r.list(ctx, q)
			r.mu.Lock()
			r.listing--
			r.mu.Unlock()
			f.bell.ring()
			if len(shares) > 0 {
				f.early.begin(shares)
				f.seekUEB(ctx, shares)
			}
			f.search.leave()
			f.bell.ring()
		})
		if err != nil {
			f.search.leave()
			break
		}
		r.inquiries = append(r.inquiries, q)
		r.listing++
		asked++
	}
	r.unasked = r.unasked[asked:]
	r.askedAll = len(r.unasked) == 0
	return asked
}

// soon is how long somebody waits for a server that is asked again, before it looks again.
const soon = time.Second

// askAgain asks those servers again that failed to answer, if it is time, and returns when it will
// be for the next one, or soon while one is being asked; in an hour, for none.
func (r *roster) askAgain() time.Time {
	now := time.Now()
	next := now.Add(time.Hour)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.inquiries {
		again := q.member.Again()
		switch {
		case q.err == nil:
			continue
		case q.asking:
			again = now.Add(soon)
		case !now.Before(again):
			if r.file.life.Go(func(ctx context.Context) {
				r.list(ctx, q)
				r.file.bell.ring()
			}) != nil {
				continue
			}
			q.asking, q.since = true, now
			again = now.Add(soon)
		}
		if again.Before(next) {
			next = again
		}
	}
	return next
}

// list asks one server for its shares, and the next server if these are none or known ones.
func (r *roster) list(ctx context.Context, q *inquiry) []*share {
	f, m := r.file, q.member
	bounded, cancel := f.client.fleet.Bounded(ctx)
	defer cancel()
	var nums []int
	request, err := m.Begin(bounded, f, 0)
	if err == nil {
		nums, err = m.Shares(bounded, f.verifier.StorageIndex)
		request.End(0, err == nil)
	}
	if err = grid.Cause(bounded, err); err != nil {
		nums = nil
	}
	now := time.Now()
	failed := err != nil && ctx.Err() == nil
	if failed {
		m.Fail(now)
	}
	shares, first := r.enter(q, nums, err, now)
	if failed {
		f.client.fleet.Failed(m, err, first, "file", f.id)
	}
	return shares
}

// enter enters a server's answer: its shares, or the error. First tells that it is the server's
// first error in a row.
func (r *roster) enter(q *inquiry, nums []int, err error, now time.Time) (shares []*share, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.distinctLocked()
	first = q.err == nil
	q.asking, q.err, q.when = false, err, now
	for _, num := range nums {
		if num >= 0 && num < r.file.verifier.N {
			shares = append(shares, r.addLocked(q.member, num))
		}
	}
	if r.distinctLocked() == before {
		r.askLocked(1)
	}
	return shares, first
}
