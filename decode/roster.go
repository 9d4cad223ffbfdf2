package decode

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/ranked"
	"spillway/decode/zfec"
)

// roster is who has which share of a File, as far as is known, and which servers have been asked.
//
// Servers are asked in goroutines of the File. What one answers is entered, the bell is rung, and
// the same goroutine then looks for the UEB in the shares that were found.
type roster struct {
	file *File

	mu     ranked.Mutex[ranked.Roster] // guards all below, and what it says of each share
	shares []*share                    // every share known; only grows
	// members: those that are used; only grows, where servers were added meanwhile.
	members []*fleet.Member
	// unasked: those of the members that are still to be asked, in that order.
	unasked   []*fleet.Member
	inquiries []*inquiry // of the others, in the order in which they were asked
	// askedAll: the shares known, or remembered, are those of all servers asked.
	askedAll bool
	listing  int // servers that have not said yet which shares they hold
}

// inquiry is the question which shares a member holds.
type inquiry struct {
	member *fleet.Member
	asking bool
	since  time.Time // it was asked last
	err    error     // of the last answer
	when   time.Time // it came; zero: there has been none
}

// restAfter is when the other servers are asked as well, where those at hand are asked first (see
// decision first-byte-at-hand).
const restAfter = 50 * time.Millisecond

// addLocked adds a share unless it is known.
func (r *roster) addLocked(m *fleet.Member, num int) *share {
	beside := 0
	for _, s := range r.shares {
		if s.member == m && s.num == num {
			return s
		}
		if s.member == m {
			beside++
		}
	}
	s := &share{file: r.file, member: m, rank: slices.Index(r.members, m), num: num, beside: beside}
	r.shares = append(r.shares, s)
	return s
}

// adopt begins with the shares that are remembered. Unless they are those of all servers, the
// servers are asked after some time.
func (r *roster) adopt(places []place, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.askedAll = all
	if !all {
		r.askLater()
	}
	for _, p := range places {
		if slices.Contains(r.members, p.member) {
			r.addLocked(p.member, p.num)
		}
	}
}

// places returns where shares are, how many distinct ones, and whether that is all there are.
func (r *roster) places() (places []place, distinct int, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shares {
		if !s.gone {
			places = append(places, place{member: s.member, num: s.num})
		}
	}
	return places, r.distinctLocked(), r.askedAll && r.listing == 0
}

// distinct counts the share numbers that are there.
func (r *roster) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.distinctLocked()
}

func (r *roster) distinctLocked() int {
	var known [zfec.MaxShares]bool
	count := 0
	for _, s := range r.shares {
		if !s.gone && !known[s.num] {
			known[s.num] = true
			count++
		}
	}
	return count
}

// all returns every share known, in the order in which they were found.
func (r *roster) all() []*share {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.shares)
}

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
		if !ready && idle && f.roster.ask(1<<30) > 0 {
			idle = false
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

// askAgain asks those servers again that failed to answer, if it is time, and returns when it will
// be for the next one; in an hour, for none.
func (r *roster) askAgain() time.Time {
	now := time.Now()
	next := now.Add(time.Hour)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.inquiries {
		if q.err == nil || q.asking {
			continue
		}
		if again := q.member.Again(); now.Before(again) {
			if again.Before(next) {
				next = again
			}
			continue
		}
		if r.file.life.Go(func(ctx context.Context) {
			r.list(ctx, q)
			r.file.bell.ring()
		}) == nil {
			q.asking, q.since = true, now
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
	err = grid.Cause(bounded, err)
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

// candidate is a share and how soon a read of it would end; see fleet.Member.Class.
type candidate struct {
	share    *share
	demerits int
	unread   int // 1 if its beginning, which is wanted, has not been read early
	class    int
}

// rank appends to list the known shares, in the order in which to read so many bytes of them:
// those that have shown no wrong block before those that have, those of quicker servers before
// those of slower ones, primary before parity shares, then in the order of the servers. If the
// beginning is wanted, those come first of which it is read early. For sure see
// fleet.Member.Class.
func (r *roster) rank(list []candidate, bytes int, sure, beginning bool) []candidate {
	now := time.Now()
	var early []*share
	if beginning {
		early = r.file.early.shares()
	}
	r.mu.Lock()
	for _, s := range r.shares {
		unread := 1
		if slices.Contains(early, s) {
			unread = 0
		}
		list = append(list, candidate{s, s.demerits, unread, s.member.Class(now, bytes, s.beside, sure)})
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.demerits, b.demerits), cmp.Compare(a.unread, b.unread), cmp.Compare(a.class, b.class),
			cmp.Compare(a.share.num, b.share.num), cmp.Compare(a.share.rank, b.share.rank))
	})
	return list
}

// notEnough says why there are no k shares; unusable tells which ones cannot be used.
func (f *File) notEnough(unusable func(*share) bool) error {
	if f.life.Context().Err() != nil {
		return ErrClosed // the shares were not missing: their reading was cancelled
	}
	r := &f.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &NotEnoughSharesError{Needed: f.verifier.K, Total: f.verifier.N, Failed: r.failuresLocked()}
	for _, s := range r.shares {
		p := grid.SharePlace{Share: s.num, Server: s.member.String()}
		switch {
		case !unusable(s):
			e.Found = append(e.Found, p)
		case s.corrupt != nil:
			e.Bad = append(e.Bad, p)
		case s.failure != nil && !s.gone:
			e.Failed = append(e.Failed, grid.ServerError{Server: p.Server, Err: s.failure, When: s.failed})
		}
	}
	return e
}

// failures returns the servers that did not say which shares they hold.
func (r *roster) failures() []grid.ServerError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failuresLocked()
}

func (r *roster) failuresLocked() (failed []grid.ServerError) {
	for _, q := range r.inquiries {
		if q.err != nil {
			failed = append(failed, grid.ServerError{Server: q.member.String(), Err: q.err, When: q.when})
		}
	}
	return failed
}

// roundTrip returns that of the quickest server, 0 if none is known.
func (r *roster) roundTrip() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	least := time.Duration(0)
	for _, m := range r.members {
		if d := m.RoundTrip(); d != 0 && (least == 0 || d < least) {
			least = d
		}
	}
	return least
}

// usualRate returns the throughput of the k-th quickest server, in bytes a second; 0 if fewer are
// known.
func (r *roster) usualRate(k int) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	rates := make([]float64, len(r.members))
	for i, m := range r.members {
		rates[i] = m.Throughput()
	}
	slices.Sort(rates)
	return rates[max(0, len(rates)-k)]
}

// received returns how many bytes have come from the servers, as far as they tell.
func (r *roster) received() (sum int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		if s, ok := m.Server.Server.(grid.Meter); ok {
			sum += s.Received()
		}
	}
	return sum
}

// holders counts the servers that have shares.
func (r *roster) holders() (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shares {
		if s.beside == 0 {
			count++
		}
	}
	return count
}

// rosterHas tells whether a server is of a kind, such as grid.Connector.
func rosterHas[Kind any](r *roster) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.members, func(m *fleet.Member) bool {
		_, ok := m.Server.Server.(Kind)
		return ok
	})
}

// close closes the shares and leaves the servers. The File's goroutines have ended.
func (r *roster) close() error {
	var errs []error
	for _, s := range r.shares {
		if o, ok := s.opened.result(); ok {
			errs = append(errs, o.bytes.Close())
		}
	}
	r.file.client.fleet.Leave(r.members)
	return errors.Join(errs...)
}
