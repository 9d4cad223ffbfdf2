package upload

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/grid"
)

// shipment brings the shares of one file to the servers: prepare, write as often as need be,
// finish; after an error abort.
type shipment struct {
	ctx      context.Context // of all uploads; ends, with the reason, when too many have failed
	cancel   context.CancelCauseFunc
	uploader *Uploader
	si       grid.StorageIndex
	k, n     int
	happy    int
	size     int64 // of a share, in bytes
	lease    grid.Lease
	probes   []probe

	targets []*target // in permuted order; set by prepare
	aborts  sync.WaitGroup

	mu     sync.Mutex
	parts  []*part
	failed []grid.ServerError
	kept   []grid.SharePlace // begun or committed, and could not be discarded
}

// target is a server to which shares may go.
type target struct {
	*fleet.Member
	answered bool  // it has said what it holds
	err      error // why it takes no more shares
	listed   []int // what it said it holds
}

// part is one share on one server.
type part struct {
	num    int
	target *target
	upload grid.Upload             // nil: the share was there before
	cancel context.CancelCauseFunc // of the upload
	work   sync.WaitGroup          // writes under way

	// Guarded by shipment.mu.
	lost      error // why it does not count
	doubt     error // why it may not be committed
	committed bool
}

func (t *part) place() grid.SharePlace {
	return grid.SharePlace{Share: t.num, Server: t.target.String()}
}

// prepare asks the servers and begins the uploads.
func (s *shipment) prepare(members []*fleet.Member, secret []byte) error {
	if secret == nil {
		secret = make([]byte, 32)
		rand.Read(secret)
	}
	s.lease = grid.NewLease(secret, s.si)
	for _, m := range members {
		s.targets = append(s.targets, &target{Member: m})
	}
	if s.happy > len(members) {
		return &UnhappyError{Happy: s.happy, Servers: len(members), Needed: s.k}
	}
	s.survey()
	// Node IDs are known by now.
	order := fleet.Permute(members, s.si)
	slices.SortFunc(s.targets, func(a, b *target) int { return slices.Index(order, a.Member) - slices.Index(order, b.Member) })
	for {
		begun, err := s.allot()
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		if begun == 0 || err != nil {
			return err
		}
	}
}

// surveyPatience is how long all servers may take to say what they hold; after that it is enough
// that as many as are needed have answered. It covers a handshake over a very long line.
const surveyPatience = 5 * time.Second

// survey asks all servers what they hold. Those that are late are done without, unless there are
// too few others.
func (s *shipment) survey() {
	ctx, cancel := context.WithCancelCause(s.ctx)
	var work sync.WaitGroup
	answers := make(chan struct{}, len(s.targets))
	for _, t := range s.targets {
		work.Go(func() {
			bounded, cancel := s.uploader.fleet.Bounded(ctx)
			defer cancel()
			nums, err := t.Shares(bounded, s.si)
			err = grid.Cause(bounded, err)
			s.mu.Lock()
			defer s.mu.Unlock()
			// a storage directory that is still empty
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.answered, t.listed = true, slices.DeleteFunc(slices.Clone(nums), func(num int) bool { return num < 0 || num >= s.n })
			} else {
				s.refuseLocked(t, err)
			}
			answers <- struct{}{}
		})
	}
	late := time.NewTimer(surveyPatience)
	defer late.Stop()
	for came, patient := 0, true; came < len(s.targets) && (patient || s.answered() < s.happy); {
		select {
		case <-answers:
			came++
		case <-late.C:
			patient = false
		}
	}
	cancel(errLate)
	work.Wait()
}

// answered counts the servers that have said what they hold.
func (s *shipment) answered() (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.targets {
		if t.answered {
			count++
		}
	}
	return count
}

var errLate = errors.New("no answer when the others had answered")

// refuseLocked notes that a server takes no more shares.
func (s *shipment) refuseLocked(t *target, err error) {
	if t.err == nil {
		t.err = err
		s.failLocked(t, err)
	}
}

// failLocked logs what is wrong with a server, and remembers it for the error.
func (s *shipment) failLocked(t *target, err error) {
	if s.ctx.Err() != nil {
		return // nobody's fault, or known already
	}
	s.failed = append(s.failed, grid.ServerError{Server: t.String(), Err: err})
	s.uploader.fleet.Failed(t.Member, err, true, "storage_index", s.si.String())
}

// holdersLocked are the targets, with the shares that count.
func (s *shipment) holdersLocked() []holder {
	servers := make([]holder, len(s.targets))
	for i, t := range s.targets {
		servers[i].open = t.answered && t.err == nil
		servers[i].holds = append(servers[i].holds, t.listed...)
	}
	for _, p := range s.parts {
		if p.lost == nil {
			i := slices.Index(s.targets, p.target)
			servers[i].holds = append(servers[i].holds, p.num)
		}
	}
	return servers
}

// unhappyLocked returns nil as long as servers and shares are enough.
func (s *shipment) unhappyLocked(servers []holder) error {
	happy, distinct := happiness(s.n, servers)
	if happy >= s.happy && distinct >= s.k {
		return nil
	}
	return &UnhappyError{
		Happy: s.happy, Reached: happy, Servers: len(s.targets),
		Needed: s.k, Shares: distinct, Failed: slices.Clone(s.failed),
	}
}

// allot begins, all at once, what is to be placed, and has the leases of shares renewed that are
// there. It returns how many of either; what failed is to be placed elsewhere by the next call. If
// there is nowhere to place enough of them, it begins nothing.
func (s *shipment) allot() (begun int, err error) {
	s.mu.Lock()
	servers := s.holdersLocked()
	given := allot(s.n, servers)
	for i := range servers {
		servers[i].holds = append(servers[i].holds, given[i]...)
	}
	if err := s.unhappyLocked(servers); err != nil {
		s.mu.Unlock()
		return 0, err
	}
	for i, t := range s.targets {
		// Beginning a share that is there has its lease renewed.
		given[i] = append(t.listed, given[i]...)
		t.listed = nil
	}
	s.mu.Unlock()
	var work sync.WaitGroup
	for i, nums := range given {
		begun += len(nums)
		work.Go(func() {
			var shares errgroup.Group
			shares.SetLimit(sideBySide)
			for _, num := range nums {
				shares.Go(func() error { s.create(s.targets[i], num); return nil })
			}
			shares.Wait()
		})
	}
	work.Wait()
	return begun, nil
}

// sideBySide is how many shares are begun on a server at once, or read back: few enough for each
// request to be answered within its time.
const sideBySide = 8

// create begins one share, unless the server has not answered when another one was begun.
func (s *shipment) create(t *target, num int) {
	s.mu.Lock()
	mute := errors.Is(t.err, grid.ErrTimeout)
	s.mu.Unlock()
	if mute {
		return
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	late := time.AfterFunc(s.uploader.fleet.Allowed(0), func() { cancel(grid.ErrTimeout) })
	upload, err := t.Create(ctx, s.si, num, s.size, s.lease)
	if !late.Stop() && err == nil {
		err = errors.Join(grid.ErrTimeout, upload.Abort())
	}
	err = grid.Cause(ctx, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.parts = append(s.parts, &part{num: num, target: t, upload: upload, cancel: cancel})
		return
	case errors.Is(err, fs.ErrExist):
		s.parts = append(s.parts, &part{num: num, target: t})
	default:
		s.refuseLocked(t, fmt.Errorf("share %d: %w", num, err))
	}
	cancel(nil)
}

// write sends every share's piece at off to the servers, side by side, and returns when that is
// over. Pieces may be on their way at the same time.
func (s *shipment) write(pieces [][]byte, off int64) {
	var work sync.WaitGroup
	s.mu.Lock()
	for _, p := range s.parts {
		if p.upload == nil || p.lost != nil {
			continue
		}
		p.work.Add(1)
		work.Go(func() {
			defer p.work.Done()
			if _, err := p.upload.WriteAt(pieces[p.num], off); err != nil {
				s.lose(p, err)
			}
		})
	}
	s.mu.Unlock()
	work.Wait()
}

// lose gives a share up, and everything if there are too few without it.
func (s *shipment) lose(p *part, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.lost != nil {
		return
	}
	s.loseLocked(p, err)
	if err := s.unhappyLocked(s.holdersLocked()); err != nil && s.ctx.Err() == nil {
		s.cancel(err)
	}
}

func (s *shipment) loseLocked(p *part, err error) {
	p.lost = err
	s.failLocked(p.target, fmt.Errorf("share %d: %w", p.num, err))
	if p.upload == nil || p.committed {
		return
	}
	p.cancel(err)
	s.aborts.Go(func() {
		p.work.Wait()
		s.discard(p)
	})
}

// discard aborts an upload.
func (s *shipment) discard(p *part) {
	err := p.upload.Abort()
	p.cancel(nil)
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, p.place())
	s.uploader.log.Warn("share not discarded", "storage_index", s.si.String(), "share", p.num, "server", p.target.String(), "error", err.Error())
}

// abort discards, all at once, whatever is not committed, and returns the error that says so. No
// write is under way.
func (s *shipment) abort(err error) error {
	var discarded []grid.SharePlace
	s.mu.Lock()
	for _, p := range s.parts {
		switch {
		case p.upload == nil:
		case p.committed:
			s.kept = append(s.kept, p.place())
		default:
			discarded = append(discarded, p.place())
			if p.lost == nil {
				p.lost = err
				s.aborts.Go(func() { s.discard(p) })
			}
		}
	}
	s.mu.Unlock()
	s.aborts.Wait()
	discarded = slices.DeleteFunc(discarded, func(p grid.SharePlace) bool { return slices.Contains(s.kept, p) })
	var unhappy *UnhappyError
	if errors.As(err, &unhappy) {
		unhappy.Discarded, unhappy.Kept = discarded, s.kept
		return err
	}
	if len(s.kept) > 0 {
		return fmt.Errorf("%w; shares that could not be discarded: %v", err, s.kept)
	}
	return err
}

// finish commits the shares and proves that they are there.
func (s *shipment) finish(ueb *chk.UEB) error {
	var work sync.WaitGroup
	for _, p := range s.parts {
		if p.upload != nil && p.lost == nil {
			work.Go(func() {
				err := p.upload.Commit()
				s.mu.Lock()
				defer s.mu.Unlock()
				p.committed, p.doubt = err == nil, err
			})
		}
	}
	work.Wait()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	for _, t := range s.targets {
		parts := slices.DeleteFunc(slices.Clone(s.parts), func(p *part) bool { return p.target != t || p.lost != nil })
		if len(parts) > 0 {
			work.Go(func() { s.prove(t, parts, ueb) })
		}
	}
	work.Wait()
	s.aborts.Wait()
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unhappyLocked(s.holdersLocked())
}

// prove compares what a server lists and holds with what was made. So it shows, too, whether
// a share is there whose commit was not answered.
func (s *shipment) prove(t *target, parts []*part, ueb *chk.UEB) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	// A server that lets one request wait for too long is asked nothing more.
	bounded := func(request func(ctx context.Context) error) error {
		bounded, done := s.uploader.fleet.Bounded(ctx)
		defer done()
		err := grid.Cause(bounded, request(bounded))
		if errors.Is(err, grid.ErrTimeout) {
			cancel(grid.ErrTimeout)
		}
		return err
	}
	var work errgroup.Group
	work.SetLimit(sideBySide)
	var listed []int
	var listErr error
	work.Go(func() error {
		listErr = bounded(func(ctx context.Context) (err error) {
			listed, err = t.Shares(ctx, s.si)
			return err
		})
		return nil
	})
	errs := make([]error, len(parts))
	for i, p := range parts {
		work.Go(func() error {
			errs[i] = bounded(func(ctx context.Context) error { return s.examine(ctx, p, ueb) })
			return nil
		})
	}
	work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range parts {
		err := errs[i]
		if err == nil && listErr == nil && !slices.Contains(listed, p.num) {
			err = errNotListed
		}
		switch err = cmp.Or(err, listErr); {
		case err == nil:
			p.committed = true
		case p.doubt != nil:
			s.loseLocked(p, fmt.Errorf("committing it: %w", p.doubt))
		default:
			s.loseLocked(p, fmt.Errorf("reading it back: %w", err))
		}
	}
}

var errNotListed = errors.New("the server does not list it")

// examine reads from a share what proves it.
func (s *shipment) examine(ctx context.Context, p *part, ueb *chk.UEB) (err error) {
	share, err := p.target.Open(ctx, s.si, p.num)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, share.Close()) }()
	if p.upload == nil {
		return s.recognize(ctx, share, p.num, ueb)
	}
	var work errgroup.Group
	for _, probe := range s.probes {
		work.Go(func() error {
			got, err := readUpTo(ctx, share, probe.off, len(probe.bytes[p.num])+1)
			if probe.off+int64(len(probe.bytes[p.num])) < s.size { // else the share ends here
				got = got[:max(0, len(got)-1)]
			}
			if err == nil && !bytes.Equal(got, probe.bytes[p.num]) {
				return fmt.Errorf("the server does not hold what it was given: its %d bytes at %d are others", len(probe.bytes[p.num]), probe.off)
			}
			return err
		})
	}
	return work.Wait()
}

var errStranger = errors.New("the share that is there is none of this file")

// recognize tells whether a share that was there before is of this file. It may have been made by
// another program, which lays it out otherwise: only the UEB is the same, and the chain proves the
// same root.
func (s *shipment) recognize(ctx context.Context, share grid.Share, num int, ueb *chk.UEB) error {
	head, err := readUpTo(ctx, share, 0, chk.HeaderSize)
	if err != nil {
		return err
	}
	header, err := chk.ParseHeader(head)
	if err != nil {
		return errStranger
	}
	text := ueb.Marshal()
	var work errgroup.Group
	work.Go(func() error {
		got, err := readUpTo(ctx, share, header.UEB+int64(header.UEBLengthSize()), len(text))
		if err == nil && !bytes.Equal(got, text) {
			return errStranger
		}
		return err
	})
	work.Go(func() error {
		chain, err := readUpTo(ctx, share, header.ShareChain, int(chk.ChainSize(s.n)))
		if err != nil {
			return err
		}
		if _, err := chk.VerifyChain(chain, s.n, num, ueb.ShareRootHash); err != nil {
			return errStranger
		}
		return nil
	})
	return work.Wait()
}

// readUpTo reads n bytes, or as many as there are.
func readUpTo(ctx context.Context, share grid.Share, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	n, err := share.ReadAt(ctx, off, b)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// probe is a part of every share that is read back in the end.
type probe struct {
	off   int64
	bytes [][]byte // by share
}

const (
	headProbe = 1 << 10 // the header and the first bytes of the first block
	tailProbe = 4 << 10 // the end of the block hash tree, the share hash chain, the UEB
)

// newProbes returns the probes of n shares of size bytes.
func newProbes(n int, size int64) []probe {
	at := func(off, length int64) probe {
		p := probe{off: off, bytes: make([][]byte, n)}
		for num := range p.bytes {
			p.bytes[num] = make([]byte, length)
		}
		return p
	}
	if size <= headProbe+tailProbe {
		return []probe{at(0, size)}
	}
	return []probe{at(0, headProbe), at(size-tailProbe, tailProbe)}
}

// see keeps of the shares' pieces at off what will be compared.
func (s *shipment) see(pieces [][]byte, off int64) {
	for _, p := range s.probes {
		for num, b := range p.bytes {
			from := max(p.off, off)
			if to := min(p.off+int64(len(b)), off+int64(len(pieces[num]))); from < to {
				copy(b[from-p.off:], pieces[num][from-off:to-off])
			}
		}
	}
}
