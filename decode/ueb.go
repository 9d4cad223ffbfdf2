package decode

import (
	"context"
	"fmt"
	"strings"
	"time"

	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/hashtree"
	"spillway/decode/ranked"
)

// uebSearch is the search for a File's UEB, in which the servers that have shares take turns.
type uebSearch struct {
	mu      ranked.Mutex[ranked.Leaf] // guards all below
	turns   int                       // servers that had shares
	seekers int                       // of those that seek the UEB now
	opening int                       // servers whose shares may still yield the UEB
	found   *chk.UEB                  // verified; never changes
	// unusual: the share that it was found in is not laid out as supposed of that UEB.
	unusual bool
	proven  bool         // a share has the UEB that the cap names
	accused []accusation // to be told once it is proven
	fatal   error        // why the file cannot be opened whatever the servers say
}

// accusation is that a share's UEB is not the one that the cap names. Whoever writes a link may
// name any, so until a share has one that is, it is the cap that contradicts them.
type accusation struct {
	share *share
	err   *CorruptShareError
}

// accuses tells whether a share may be accused of having another UEB than the cap names. If the
// right one has not been proven yet, that waits until it is.
func (u *uebSearch) accuses(s *share, err *CorruptShareError) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.proven {
		u.accused = append(u.accused, accusation{s, err})
		return false
	}
	return true
}

// join notes a server whose shares may yield the UEB, until leave.
func (u *uebSearch) join() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.opening++
}

func (u *uebSearch) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.opening--
}

// state returns the UEB if it is known, why there is none to be had, and whether no server is left
// that may yield it.
func (u *uebSearch) state() (ueb *chk.UEB, fatal error, idle bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.found, u.fatal, u.opening == 0
}

// result returns the UEB, nil if it is not known, and whether the shares are laid out otherwise
// than supposed of it.
func (u *uebSearch) result() (ueb *chk.UEB, unusual bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.found, u.unusual
}

// adopt begins with a UEB that is remembered.
func (u *uebSearch) adopt(ueb *chk.UEB, unusual bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.proven, u.found, u.unusual = true, ueb, unusual
}

// isSettled tells whether the UEB is known, or that there is none to be had.
func (u *uebSearch) isSettled() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.found != nil || u.fatal != nil
}

// takeTurn returns which turn the next server has. Of the first ones, as many as the limit, each is
// counted as a seeker from now on, or the next one could take it that nobody seeks.
func (u *uebSearch) takeTurn(limit int) (turn int, seeks bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	turn = u.turns
	u.turns++
	if seeks = turn < limit; seeks {
		u.seekers++
	}
	return turn, seeks
}

// takeOver counts the caller as a seeker, unless the search is over, or others seek for whom it
// still waits.
func (u *uebSearch) takeOver(waited bool) (over, seeks bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	over = u.found != nil || u.fatal != nil
	if seeks = !over && (u.seekers == 0 || waited); seeks {
		u.seekers++
	}
	return over, seeks
}

func (u *uebSearch) stopSeeking() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seekers--
}

// usualSegments are the greatest segment sizes that uploaders choose: newer releases of
// Tahoe-LAFS, and older ones.
var usualSegments = [...]int64{1 << 20, 128 << 10}

// seekUEB reads the UEB from one of the shares of a server unless it has been verified meanwhile.
// The first few servers to answer do so, of those at hand only the first, the others only if those
// fail or are late. It is first looked for where it usually is: at hand in one usual place after
// the other, far away in each by another server, while the next one reads the header that tells
// where it is.
func (f *File) seekUEB(ctx context.Context, shares []*share) {
	m := shares[0].member
	atHand := m.IsAtHand()
	limit := max(f.verifier.K, len(usualSegments)+1)
	if atHand {
		limit = 1
	}
	turn, seeks := f.search.takeTurn(limit)
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
		f.search.stopSeeking()
		f.bell.ring()
	}()
	return fn()
}

// lookForUEB reads the UEB of one of the shares after the other, and tells whether it has found it.
func (f *File) lookForUEB(ctx context.Context, shares []*share) bool {
	for _, s := range shares {
		if f.search.isSettled() || ctx.Err() != nil {
			return false
		}
		o, err := s.open(ctx)
		if err == nil {
			if f.search.isSettled() {
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

// takesOver waits while others seek the UEB, for as long as m would need. It counts the caller as a
// seeker and returns true if they have not found it.
func (f *File) takesOver(ctx context.Context, m *fleet.Member) bool {
	late := time.NewTimer(2 * m.LateSmall()) // for a header and a UEB
	defer late.Stop()
	waited := false
	for {
		rung := f.bell.next()
		if over, seeks := f.search.takeOver(waited); over || seeks {
			return seeks
		}
		select {
		case <-rung:
		case <-late.C:
			waited = true
		case <-ctx.Done():
			return false
		}
	}
}

const (
	// mostTail is how many bytes before the UEB are read with it when they hold the hashes of the
	// first segments: those of files of a gigabyte (see decision first-byte-at-hand).
	mostTail = 128 << 10
	// mostFarTail is that for servers far away: what a connection brings in its first round
	// trip (see decision first-byte-far-away).
	mostFarTail = 13 << 10
)

// guessUEB reads the UEB from where it is if the segments are of that size, and with it the hashes
// of the first segments if those are no more than most bytes before it. It blames nobody. It tells
// whether it has found the UEB.
func (f *File) guessUEB(ctx context.Context, s *share, segment, most int64) bool {
	v := f.verifier
	g, err := chk.NewGeometry(v.Size, segment, v.K, v.N)
	if err != nil {
		return false
	}
	bytes, err := s.member.Open(ctx, v.StorageIndex, s.num)
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

// takeUEB takes a UEB that its hash has proven, as it was found in o, after what may begin with the
// leaves of the crypttext hash tree.
func (f *File) takeUEB(text []byte, o *openShare, before []byte) {
	v := f.verifier
	ueb, err := chk.ParseUEB(text, v.Size, v.K, v.N)
	if err != nil {
		f.search.fail(fmt.Errorf("%w: its UEB contradicts its cap: %s", ErrInconsistent, strings.TrimPrefix(err.Error(), "chk: ")))
	} else {
		if first := firstPage(ueb, before); first != nil {
			f.client.metadata.setPage(f.id, first)
			if f.pages.known(first.number) == nil {
				f.pages.keep(first)
			}
		}
		// Before anybody goes on with the UEB: who sees the file open finds them told.
		for _, a := range f.search.prove() {
			a.share.accuse(a.err)
		}
		f.search.find(ueb, o.header != chk.UsualHeader(ueb.Geometry))
	}
	f.bell.ring()
}

// fail ends the search: no other share can have another UEB.
func (u *uebSearch) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fatal = err
}

// prove notes that a share has the UEB, and returns what is then to be told.
func (u *uebSearch) prove() (accused []accusation) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.proven = true
	accused, u.accused = u.accused, nil
	return accused
}

// find ends the search with a UEB, as it was found first.
func (u *uebSearch) find(ueb *chk.UEB, unusual bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.found == nil {
		u.found, u.unusual = ueb, unusual
	}
}
