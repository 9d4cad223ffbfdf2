package decode

import (
	"cmp"
	"errors"
	"io/fs"
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

// demote prefers other shares from now on to one that is corrupt, unless what is wrong says nothing
// of its blocks. First tells that nothing was known of it (see decision demote-not-dismiss).
func (r *roster) demote(s *share, err *CorruptShareError) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err.Part != crypttextPart && err.Part != uebPart {
		s.demerits++
	}
	if first = s.corrupt == nil; first {
		s.corrupt = err
	}
	return first
}

// fail prefers other servers for a while to the share's, which failed to bring it, and returns when
// it may be tried again; the zero time: never, as the server does not hold the share any more.
// First tells that it had not failed before.
func (r *roster) fail(s *share, err error) (first bool, again time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = s.failure == nil
	s.failure, s.failed = err, time.Now()
	if errors.Is(err, fs.ErrNotExist) {
		s.gone = true
		return first, again
	}
	return first, s.member.Fail(s.failed)
}

// candidate is a share and how soon a read of it would end; see fleet.Outlook.Class.
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
// fleet.Outlook.Class.
func (r *roster) rank(list []candidate, bytes int, sure, beginning bool) []candidate {
	now := time.Now()
	var early []*share
	if beginning {
		early = r.file.early.shares()
	}
	var member *fleet.Member
	var outlook fleet.Outlook
	r.mu.Lock()
	for _, s := range r.shares {
		unread := 1
		if slices.Contains(early, s) {
			unread = 0
		}
		if s.member != member { // a server's shares mostly follow each other
			member, outlook = s.member, s.member.Outlook(now)
		}
		list = append(list, candidate{s, s.demerits, unread, outlook.Class(bytes, s.beside, sure)})
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
	e := &NotEnoughSharesError{Needed: f.verifier.K, Total: f.verifier.N}
	f.roster.explain(e, unusable)
	return e
}

// explain enters the shares that there are, and what the servers did.
func (r *roster) explain(e *NotEnoughSharesError, unusable func(*share) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Failed = r.failuresLocked()
	for _, s := range r.shares {
		p := s.where()
		switch {
		case !unusable(s):
			e.Found = append(e.Found, p)
		case s.corrupt != nil:
			e.Bad = append(e.Bad, p)
		case s.failure != nil && !s.gone:
			e.Failed = append(e.Failed, s.lastFailureLocked())
		}
	}
}

// status enters what is known of the shares, in the order in which they were found, and whom the
// File waits for.
func (r *roster) status(st *Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Failed = r.failuresLocked()
	for _, s := range r.shares {
		switch {
		case s.gone:
		case s.corrupt != nil:
			st.Bad = append(st.Bad, s.where())
		case s.failure != nil && !s.member.Again().IsZero():
			st.Failed = append(st.Failed, s.lastFailureLocked())
		default:
			st.Found = append(st.Found, s.where())
		}
	}
	for _, q := range r.inquiries {
		if q.asking && q.when.IsZero() {
			st.Waiting = append(st.Waiting, ServerWait{Server: q.member.String(), Since: q.since})
		}
	}
}

func (s *share) where() grid.SharePlace {
	return grid.SharePlace{Share: s.num, Server: s.member.String()}
}

// lastFailureLocked returns what the share's server did last instead of bringing it.
func (s *share) lastFailureLocked() grid.ServerError {
	return grid.ServerError{Server: s.member.String(), Err: s.failure, When: s.failed}
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
