package decode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/hashtree"
)

// share is one share number on one server.
type share struct {
	file   *File
	member *fleet.Member
	rank   int // of the member in the File
	num    int
	beside int // shares of the file that were found on the member before

	opened    once[*openShare]
	owned     once[*openShare]              // its own header, after a supposed one
	blockRoot atomic.Pointer[hashtree.Hash] // proven by the share hash chain

	// Guarded by the roster's mu.
	demerits int                // the more, the later it is chosen
	corrupt  *CorruptShareError // the first one found; logged
	failure  error              // the last one met; the first one is logged
	failed   time.Time          // when that was
	gone     bool               // the server does not hold it any more
}

// openShare is a share of which it is known, or supposed, where everything stands.
type openShare struct {
	*share
	header   chk.Header
	supposed bool // the header is what it most probably is, and has not been read
	bytes    grid.Share
}

// open opens the share, once for all who want it; after a failure the next caller tries again.
func (s *share) open(ctx context.Context) (*openShare, error) {
	return s.opened.do(ctx, s.file.life, s.openNow)
}

// openNow supposes the usual header where it can: once the UEB is known, every uploader would write
// the same. So that costs no request. Hashes prove whatever is read by it; see again.
func (s *share) openNow(ctx context.Context) (*openShare, error) {
	ctx, cancel := s.file.client.fleet.Bounded(ctx)
	defer cancel()
	bytes, err := s.member.Open(ctx, s.file.verifier.StorageIndex, s.num)
	if err != nil {
		return nil, s.blame("container", grid.Cause(ctx, err))
	}
	o := &openShare{share: s, bytes: bytes}
	if o.header, o.supposed = s.file.usualHeader(); o.supposed {
		return o, nil
	}
	if o.header, err = o.readHeader(ctx); err != nil {
		return nil, errors.Join(err, bytes.Close())
	}
	return o, nil
}

// usualHeader returns the header that the file's shares most probably have, if that can be known.
func (f *File) usualHeader() (h chk.Header, ok bool) {
	ueb, unusual := f.search.result()
	if ueb == nil || unusual {
		return h, false
	}
	return chk.UsualHeader(ueb.Geometry), true
}

func (o *openShare) readHeader(ctx context.Context) (chk.Header, error) {
	head := make([]byte, chk.HeaderSize)
	n, err := o.readAt(ctx, nil, 0, head)
	if err != nil && !errors.Is(err, io.EOF) {
		return chk.Header{}, o.blame("header", grid.Cause(ctx, err))
	}
	header, err := chk.ParseHeader(head[:n])
	if err != nil {
		return chk.Header{}, &CorruptShareError{o.file.verifier.StorageIndex, o.num, o.member.String(), "header", err}
	}
	return header, nil
}

// own returns the open share with its own header, not a supposed one.
func (s *share) own(ctx context.Context) (*openShare, error) {
	o, err := s.open(ctx)
	if err != nil || !o.supposed {
		return o, err
	}
	return s.owned.do(ctx, s.file.life, func(ctx context.Context) (*openShare, error) {
		ctx, cancel := s.file.client.fleet.Bounded(ctx)
		defer cancel()
		header, err := o.readHeader(ctx)
		if err != nil {
			return nil, err
		}
		own := &openShare{share: s, header: header, bytes: o.bytes}
		s.opened.set(own)
		return own, nil
	})
}

// again is for who has read something of the open share and met err. If that may be because the
// share is not laid out as supposed, it returns the share with its own header, to try again.
// Otherwise it returns nil, and the error with which to end.
func (o *openShare) again(ctx context.Context, err error) (*openShare, error) {
	if err == nil || !o.supposed {
		return nil, err
	}
	var corrupt *CorruptShareError
	if !errors.As(err, &corrupt) {
		return nil, err
	}
	switch own, ownErr := o.own(ctx); {
	case ownErr != nil:
		return nil, ownErr
	case own.header != o.header:
		return own, nil
	}
	return nil, err
}

// use calls fn with the open share, twice if the first time the share's header was a wrong guess.
func (s *share) use(ctx context.Context, fn func(o *openShare) error) error {
	o, err := s.open(ctx)
	for o != nil {
		o, err = o.again(ctx, fn(o))
	}
	return err
}

// readAt is grid.Share's ReadAt when the server's turn has come to answer it, which began, if
// not nil, is told (Unix time in nanoseconds).
func (o *openShare) readAt(ctx context.Context, began *atomic.Int64, off int64, bufs ...[]byte) (int, error) {
	want := 0
	for _, b := range bufs {
		want += len(b)
	}
	request, err := o.member.Begin(ctx, o.file, want)
	if err != nil {
		return 0, err
	}
	if began != nil {
		began.Store(request.Began().UnixNano())
	}
	n, err := o.bytes.ReadAt(ctx, off, bufs...)
	request.End(n, err == nil || errors.Is(err, io.EOF))
	return n, err
}

// read fills bufs from the share, whole, within the time a request may take.
// The error of a share that ends too early is io.ErrUnexpectedEOF.
func (o *openShare) read(ctx context.Context, off int64, bufs ...[]byte) error {
	want := 0
	for _, b := range bufs {
		want += len(b)
	}
	ctx, cancel := o.file.client.fleet.Bounded(ctx)
	defer cancel()
	n, err := o.readAt(ctx, nil, off, bufs...)
	switch {
	case n == want:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return grid.Cause(ctx, err)
}

// blame says whose fault it is that part could not be had from the share: the
// uploader's or the disk's (*CorruptShareError), or the server's (grid.ServerError).
func (s *share) blame(part string, err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the share ends before it")
	case errors.Is(err, grid.ErrCorrupt), errors.Is(err, errTree), errors.Is(err, errHash), errors.Is(err, errChain):
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return err // nobody's fault
	default:
		return grid.ServerError{Server: s.member.String(), Err: fmt.Errorf("share %d: %w", s.num, err)}
	}
	return &CorruptShareError{s.file.verifier.StorageIndex, s.num, s.member.String(), part, err}
}

// The parts of a share by which CorruptShareErrors call them.
const (
	crypttextPart = "crypttext hash tree"
	blockTreePart = "block hash tree"
	chainPart     = "share hash chain"
	uebPart       = "UEB"
)

var (
	errHash  = errors.New("it does not match its hash")
	errChain = errors.New("it does not prove the share")
)

// report notes what is wrong with the share or its server, and logs it unless that has been done
// before. Again is when it may be tried again; the zero time: never.
func (s *share) report(err error) (again time.Time) {
	f := s.file
	var corrupt *CorruptShareError
	var server grid.ServerError
	switch {
	case errors.As(err, &corrupt):
		if f.roster.demote(s, corrupt) && (corrupt.Part != uebPart || f.search.accuses(s, corrupt)) {
			s.accuse(corrupt)
		}
	case errors.As(err, &server):
		first, again := f.roster.fail(s, server.Err)
		f.client.fleet.Failed(s.member, server.Err, first, "file", f.id, "share", s.num)
		return again
	}
	return again
}

// accuse counts a share that is corrupt, and tells the log and the share's server.
func (s *share) accuse(err *CorruptShareError) {
	f := s.file
	f.client.fleet.Advise(s.member, f.verifier.StorageIndex, s.num, f.id, problemText(err))
	f.client.corruptShares.Add(1)
	f.client.log.Warn("corrupt share", "file", f.id, "storage_index", err.StorageIndex.String(),
		"share", err.Share, "server", err.Server, "part", err.Part, "error", errorText(err.Err))
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// provenBlockRoot returns the root of the share's block hash tree, proven by
// its share hash chain.
func (o *openShare) provenBlockRoot(ctx context.Context) (hashtree.Hash, error) {
	f := o.file
	if root := o.blockRoot.Load(); root != nil {
		return *root, nil
	}
	chain := make([]byte, chk.ChainSize(f.verifier.N))
	if err := o.read(ctx, o.header.ShareChain, chain); err != nil {
		return hashtree.Hash{}, o.blame(chainPart, err)
	}
	proven, err := chk.VerifyChain(chain, f.verifier.N, o.num, f.cut.ueb.ShareRootHash)
	if err != nil {
		return hashtree.Hash{}, o.blame(chainPart, fmt.Errorf("%w: %w", errChain, err))
	}
	o.blockRoot.Store(&proven)
	return proven, nil
}

// uebGuess is how much is read at once in the hope of a whole UEB.
const uebGuess = 1 << 10

// readUEB reads the share's UEB and verifies it against the cap.
func (o *openShare) readUEB(ctx context.Context) ([]byte, error) {
	ueb, _, err := o.readTail(ctx, 0)
	return ueb, err
}

// readTail is readUEB that reads, with the same request, what stands before it: lead bytes.
func (o *openShare) readTail(ctx context.Context, lead int64) (ueb, before []byte, err error) {
	field := o.header.UEBLengthSize()
	b := make([]byte, int(lead)+field+uebGuess)
	ctx, cancel := o.file.client.fleet.Bounded(ctx)
	defer cancel()
	n, err := o.readAt(ctx, nil, o.header.UEB-lead, b)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, o.blame(uebPart, grid.Cause(ctx, err))
	}
	before, b = b[:lead], b[lead:]
	n -= int(lead)
	length := uint64(0)
	for _, digit := range b[:field] {
		length = length<<8 | uint64(digit)
	}
	if n < field || length > chk.MaxUEBSize {
		return nil, nil, o.blame(uebPart, errHash)
	}
	have := b[field:n]
	if uint64(len(have)) < length {
		rest := make([]byte, length-uint64(len(have)))
		if err := o.read(ctx, o.header.UEB+int64(n), rest); err != nil {
			return nil, nil, o.blame(uebPart, err)
		}
		have = append(have, rest...)
	}
	have = have[:length]
	if chk.Hash(have) != o.file.verifier.UEBHash {
		return nil, nil, o.blame(uebPart, errHash)
	}
	return have, before, nil
}
