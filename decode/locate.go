package decode

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"spillway/decode/chk"
	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// addLocked adds a share unless it is known.
func (f *File) addLocked(m *member, num int) *share {
	beside := 0
	for _, s := range f.shares {
		if s.member == m && s.num == num {
			return s
		}
		if s.member == m {
			beside++
		}
	}
	s := &share{file: f, member: m, rank: slices.Index(f.members, m), num: num, beside: beside}
	f.shares = append(f.shares, s)
	return s
}

// discover asks the servers and waits until enough distinct shares are known
// and the UEB is verified.
func (f *File) discover(ctx context.Context, enough int) error {
	ctx, done, err := f.join(ctx)
	if err != nil {
		return err
	}
	defer done()
	f.askFirst()
	for {
		f.mu.Lock()
		changed, err := f.changed, f.fatal
		ready := f.found != nil && f.distinctLocked() >= enough
		if !ready && f.opening == 0 {
			f.askLocked(len(f.unasked))
		}
		over := f.opening == 0
		f.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ready:
			return nil
		case over:
			return f.notEnough(func(s *share) bool { return s.corrupt != nil || s.failure != nil })
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// distinctLocked counts the share numbers that are there.
func (f *File) distinctLocked() int {
	var known [zfec.MaxShares]bool
	count := 0
	for _, s := range f.shares {
		if !s.gone && !known[s.num] {
			known[s.num] = true
			count++
		}
	}
	return count
}

// inquiry is the question which shares a member holds.
type inquiry struct {
	member *member
	asking bool
	since  time.Time // it was asked last
	err    error     // of the last answer
	when   time.Time // it came; zero: there has been none
}

// moreToCome tells whether shares that are not known yet may become known. Servers that
// have not been asked, because shares were remembered or the servers are new, are asked now.
func (f *File) moreToCome() bool {
	f.askServers()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listing > 0
}

const (
	// atHand is the round trip up to which a request costs its server more than the way costs time. Before the first
	// byte such servers are asked for what it needs, and for nothing that it could need.
	atHand = 10 * time.Millisecond
	// restAfter is when the other servers are asked as well.
	restAfter = 50 * time.Millisecond
)

// isAtHand tells whether the server is known to be at hand.
func (m *member) isAtHand() bool {
	roundTrip := m.pace.roundTrip()
	return roundTrip != 0 && roundTrip <= atHand
}

// askFirst asks as many servers as shares are needed, if so many are at hand, in the order in which Tahoe-LAFS's
// clients place shares. For each one that adds none the next one is asked, and all others after some time. Servers
// far away, or slow, are all asked at once.
func (f *File) askFirst() {
	now := time.Now()
	block := int(min(f.verifier.Size, chunkTarget)) / f.verifier.K
	f.mu.Lock()
	defer f.mu.Unlock()
	var near, far []*member
	for _, m := range f.unasked {
		if m.isAtHand() && !m.pace.next().After(now) && m.pace.expected(block) < leastLate {
			near = append(near, m)
		} else {
			far = append(far, m)
		}
	}
	if len(near) < f.verifier.K {
		f.askLocked(len(f.unasked))
		return
	}
	f.unasked = append(permute(near, f.verifier.StorageIndex), far...)
	f.askLocked(f.verifier.K)
	f.askLaterLocked()
}

// askLaterLocked asks all servers that have not been asked, after some time.
func (f *File) askLaterLocked() {
	f.startLocked(func(ctx context.Context) {
		wait := time.NewTimer(restAfter)
		defer wait.Stop()
		select {
		case <-wait.C:
			f.askServers()
		case <-ctx.Done():
		}
	})
}

// askServers asks every server, once in the life of the File, in goroutines of the File.
func (f *File) askServers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	members := f.client.useMore(f.members)
	f.unasked = append(f.unasked, members[len(f.members):]...)
	f.members = members
	f.askLocked(len(f.unasked))
}

// askLocked asks the next so many servers, if there are as many, in goroutines of the File.
func (f *File) askLocked(n int) {
	if f.closed {
		return
	}
	n = min(n, len(f.unasked))
	for _, m := range f.unasked[:n] {
		q := &inquiry{member: m, asking: true, since: time.Now()}
		f.inquiries = append(f.inquiries, q)
		f.listing++
		f.opening++
		f.work.Go(func() {
			shares := f.list(f.ctx, q)
			f.mu.Lock()
			f.listing--
			f.notifyLocked()
			f.mu.Unlock()
			if len(shares) > 0 {
				f.readEarly(shares)
				f.seekUEB(f.ctx, shares)
			}
			f.mu.Lock()
			f.opening--
			f.notifyLocked()
			f.mu.Unlock()
		})
	}
	f.unasked = f.unasked[n:]
	f.askedAll = len(f.unasked) == 0
}

// askAgain asks those servers again that failed to answer, if it is time, and returns when it
// will be for the next one; in an hour, for none.
func (f *File) askAgain() time.Time {
	now := time.Now()
	next := now.Add(time.Hour)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range f.inquiries {
		if q.err == nil || q.asking || f.closed {
			continue
		}
		if again := q.member.pace.next(); now.Before(again) {
			if again.Before(next) {
				next = again
			}
			continue
		}
		q.asking, q.since = true, now
		f.work.Go(func() {
			f.list(f.ctx, q)
			f.mu.Lock()
			f.notifyLocked()
			f.mu.Unlock()
		})
	}
	return next
}

// list asks one server for its shares, and the next server if these are none or known ones.
func (f *File) list(ctx context.Context, q *inquiry) []*share {
	m := q.member
	ctx, cancel := context.WithTimeoutCause(ctx, f.client.timeout, errTimeout)
	defer cancel()
	var nums []int
	r, err := m.begin(ctx, f, 0)
	if err == nil {
		nums, err = m.Shares(ctx, f.verifier.StorageIndex)
		m.end(f, r, 0, err == nil)
	}
	err = timeoutCause(ctx, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	first, before := q.err == nil, f.distinctLocked()
	defer func() {
		if f.distinctLocked() == before {
			f.askLocked(1)
		}
	}()
	q.asking, q.err, q.when = false, err, time.Now()
	if err != nil {
		if f.ctx.Err() == nil {
			m.pace.fail(q.when)
			f.client.serverErrors.Add(1)
			if first {
				f.client.log.Warn("server failed", "file", f.id, "server", m.String(), "error", err.Error())
			}
		}
		return nil
	}
	var shares []*share
	for _, num := range nums {
		if num >= 0 && num < f.verifier.N {
			shares = append(shares, f.addLocked(m, num))
		}
	}
	return shares
}

// usualSegments are the greatest segment sizes that uploaders choose: newer releases of
// Tahoe-LAFS, and older ones.
var usualSegments = [...]int64{1 << 20, 128 << 10}

// seekUEB reads the UEB from one of the shares of a server unless it has been
// verified meanwhile. The first few servers to answer do so, of those at hand only the first, the others only if
// those fail or are late. It is first looked for where it usually is: at hand in one usual place after the other, far
// away in each by another server, while the next one reads the header that tells where it is.
func (f *File) seekUEB(ctx context.Context, shares []*share) {
	m := shares[0].member
	atHand := m.isAtHand()
	f.mu.Lock()
	turn, most := f.turns, max(f.verifier.K, len(usualSegments)+1)
	if atHand {
		most = 1
	}
	f.turns++
	seeks := turn < most
	if seeks {
		f.seekers++ // already, or the next one could take it that nobody seeks
	}
	f.mu.Unlock()
	if !atHand && turn < len(usualSegments) {
		if f.seek(func() bool { return f.guessUEB(ctx, shares[0], usualSegments[turn], mostFarTail) }) {
			return
		}
		seeks = false // what another one finds comes sooner than a header
	}
	if !seeks && !f.takesOver(ctx, m) {
		return
	}
	f.seek(func() bool {
		if atHand && turn == 0 {
			for _, segment := range usualSegments {
				if f.guessUEB(ctx, shares[0], segment, mostTail) {
					return true
				}
			}
		}
		return f.lookForUEB(ctx, shares)
	})
}

// seek calls fn for one who has been counted as a seeker, and returns what that returns.
func (f *File) seek(fn func() bool) bool {
	defer func() {
		f.mu.Lock()
		f.seekers--
		f.notifyLocked()
		f.mu.Unlock()
	}()
	return fn()
}

// lookForUEB reads the UEB of one of the shares after the other, and tells whether it has found it.
func (f *File) lookForUEB(ctx context.Context, shares []*share) bool {
	for _, s := range shares {
		if f.isSettled() || ctx.Err() != nil {
			return false
		}
		o, err := s.open(ctx)
		if err == nil {
			if f.isSettled() {
				return false
			}
			var text []byte
			if text, err = o.readUEB(ctx); err == nil {
				f.takeUEB(text, o, nil)
				return true
			}
		}
		if ctx.Err() == nil {
			s.report(err)
		}
	}
	return false
}

// isSettled tells whether the UEB is known, or that there is none to be had.
func (f *File) isSettled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found != nil || f.fatal != nil
}

// takesOver waits while others seek the UEB, for as long as m would need. It counts the caller as a seeker and returns true if they
// have not found it.
func (f *File) takesOver(ctx context.Context, m *member) bool {
	late := time.NewTimer(2 * f.client.lateNext(m, smallRead, 0)) // for a header and a UEB
	defer late.Stop()
	waited := false
	for {
		f.mu.Lock()
		changed, over := f.changed, f.found != nil || f.fatal != nil
		takes := !over && (f.seekers == 0 || waited)
		if takes {
			f.seekers++
		}
		f.mu.Unlock()
		if over || takes {
			return takes
		}
		select {
		case <-changed:
		case <-late.C:
			waited = true
		case <-ctx.Done():
			return false
		}
	}
}

const (
	// mostTail is how many bytes before the UEB are read with it when they hold the hashes of the first segments: those of
	// files of a gigabyte.
	mostTail = 128 << 10
	// mostFarTail is that for servers far away: what a connection brings in its first round trip.
	mostFarTail = 13 << 10
)

// guessUEB reads the UEB from where it is if the segments are of that size, and with it the hashes of the first segments
// if those are no more than most bytes before it. It blames nobody. It tells whether it has found the UEB.
func (f *File) guessUEB(ctx context.Context, s *share, segment, most int64) bool {
	g, err := chk.NewGeometry(f.verifier.Size, segment, f.verifier.K, f.verifier.N)
	if err != nil {
		return false
	}
	bytes, err := s.member.Open(ctx, f.verifier.StorageIndex, s.num)
	if err != nil {
		return false
	}
	defer bytes.Close()
	o := &openShare{share: s, header: chk.UsualHeader(g), bytes: bytes}
	t := newTree(g.Segments())
	lead := o.header.UEB - o.header.CrypttextTree - hashtree.LevelOffset(t.width)
	if t.pages > 1 || lead > most {
		lead = 0
	}
	text, before, err := o.readTail(ctx, lead)
	if err != nil {
		return false
	}
	f.takeUEB(text, o, before)
	return true
}

// takeUEB takes a UEB that its hash has proven, as it was found in o, after what may begin with the leaves of the
// crypttext hash tree.
func (f *File) takeUEB(text []byte, o *openShare, before []byte) {
	ueb, err := chk.ParseUEB(text, f.verifier.Size, f.verifier.K, f.verifier.N)
	var first *page
	if err == nil {
		if first = firstPage(ueb, before); first != nil {
			f.client.metadata.setPage(f.id, first)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.fatal = fmt.Errorf("decode: the file was uploaded inconsistently: %s", strings.TrimPrefix(err.Error(), "chk: "))
	} else if f.found == nil {
		f.found = ueb
		f.unusual = o.header != chk.UsualHeader(ueb.Geometry)
		if first != nil {
			f.keepPageLocked(first)
		}
	}
	f.notifyLocked()
}
