package upload

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"spillway/decode/allowance"
	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/hashtree"
	"spillway/decode/lifetime"
	"spillway/decode/memory"
)

// ErrClosed: the Uploader is closed.
var ErrClosed = errors.New("upload: closed")

const (
	// maxLiteral is the size in bytes up to which a file becomes a LIT cap, as in Tahoe-LAFS.
	maxLiteral = 55
	// usualHappy is how many servers are to hold shares of a file if nobody says otherwise, as in
	// Tahoe-LAFS.
	usualHappy   = 7
	usualSegment = 1 << 20   // bytes
	usualMemory  = 128 << 20 // bytes
)

// Config configures an Uploader. The zero value of every field but Fleet works.
type Config struct {
	Fleet  *fleet.Fleet // the storage servers; closed by the caller, after the Uploader
	Memory int64        // bytes for what is being encoded and sent; 0 means 128 MiB
	Log    *slog.Logger // nil discards
}

// Uploader writes files to a grid; safe for concurrent use.
type Uploader struct {
	fleet  *fleet.Fleet
	memory *allowance.Allowance
	log    *slog.Logger
	life   *lifetime.Lifetime // of uploads
}

// New returns an Uploader to the configured fleet.
func New(cfg Config) *Uploader {
	if cfg.Memory == 0 {
		cfg.Memory = usualMemory
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Uploader{
		fleet:  cfg.Fleet,
		memory: allowance.New(cfg.Memory),
		log:    cfg.Log,
		life:   lifetime.New(context.Background(), ErrClosed),
	}
}

// Close cancels every Put in progress, which discards what it has begun, and waits for it.
func (u *Uploader) Close() error {
	u.life.End()
	return nil
}

// Options say how a file is written. The zero value works.
type Options struct {
	K, N int // shares needed and made; 0 means 3 and 10
	// Happy: servers that must each hold a share of their own in the end; 0 means 7, or N or the
	// number of servers if that is less.
	Happy       int
	SegmentSize int64  // bytes, at most; 0 means 1 MiB
	Convergence []byte // the secret under which equal files get equal caps; nil: a random key
	// LeaseSecret: the secret by which its holder can renew the leases, as a node's; nil: nobody
	// can.
	LeaseSecret []byte
	Progress    func(int64) // if not nil, called now and then with the bytes encoded so far

	layout int // version of the shares' layout; 0: the first one that can hold them
}

// Put writes the file that r holds from its start, and returns its cap; for the steps see the
// package. In the end at least Happy servers hold shares of their own, and at least K shares are
// there; else the error is an *UnhappyError, and all that was begun is discarded. What is committed
// cannot be discarded any more, but before that every share had arrived. With a convergence secret
// r is read twice. Further errors: *memory.Error, ErrClosed, the context's, those of r.
func (u *Uploader) Put(ctx context.Context, r io.ReadSeeker, opts Options) (caps.Cap, error) {
	ctx, done, err := u.life.Join(ctx)
	if err != nil {
		return caps.Cap{}, err
	}
	defer done()
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return caps.Cap{}, fmt.Errorf("upload: the file's size: %w", err)
	}
	p := &put{uploader: u, file: r, opts: opts}
	if size <= maxLiteral {
		return p.literal(size)
	}
	members := u.fleet.Join(nil)
	defer u.fleet.Leave(members)
	p.members = distinct(members)
	if opts.K == 0 && opts.N == 0 {
		p.opts.K, p.opts.N = 3, 10
	}
	if opts.SegmentSize == 0 {
		p.opts.SegmentSize = usualSegment
	}
	if p.geometry, err = chk.NewGeometry(size, p.opts.SegmentSize, p.opts.K, p.opts.N); err != nil {
		return caps.Cap{}, fmt.Errorf("upload: %w", err)
	}
	if p.opts.Happy == 0 {
		p.opts.Happy = min(usualHappy, p.opts.N, len(p.members))
	}
	if p.opts.Happy < 1 || p.opts.Happy > p.opts.N {
		return caps.Cap{}, fmt.Errorf("upload: %d shares cannot be on %d servers", p.opts.N, p.opts.Happy)
	}
	if err := p.plan(); err != nil {
		return caps.Cap{}, err
	}
	if err := u.memory.Acquire(ctx, p, p.memory()); err != nil {
		return caps.Cap{}, err
	}
	defer u.memory.Release(p, p.memory())
	if err := p.makeKey(ctx); err != nil {
		return caps.Cap{}, err
	}
	return p.upload(ctx)
}

// distinct leaves out servers that are named twice, which would be happy twice.
func distinct(members []*fleet.Member) (once []*fleet.Member) {
	named := map[string]bool{}
	for _, m := range members {
		if name := m.Server.Server.String(); !named[name] {
			named[name] = true
			once = append(once, m)
		}
	}
	return once
}

// put is one file being written.
type put struct {
	uploader *Uploader
	members  []*fleet.Member
	file     io.ReadSeeker
	opts     Options // with all defaults
	geometry chk.Geometry
	key      caps.Key

	run    int64 // segments that are encoded at once
	pieces int   // how many runs are on their way to the servers at the same time, at most
}

const (
	// pieceBytes is what is to go to a server at once, at least. A request costs a server as much
	// as some hundred kilobytes; and blocks are hashed faster when there are more than ten of them,
	// as of one segment.
	pieceBytes = 512 << 10
	// maxPiecesSent is how many pieces of a share are on their way at once, at most: some 5 MB,
	// which fill 400 Mbit/s over 100 ms.
	maxPiecesSent = 8
)

// plan decides how the memory is used: pieces as large as is good for servers, unless
// four of them would not fit, and then as many at the same time as fit.
func (p *put) plan() error {
	g, limit := p.geometry, p.uploader.memory.Limit()
	p.run = min((pieceBytes-1)/g.BlockSize()+1, chk.MaxRun, g.Segments())
	for p.pieces = 4; p.run > 1 && p.memory() > limit; {
		p.run--
	}
	p.pieces = 1
	if p.memory() > limit {
		return &memory.Error{What: "segments", Needed: p.memory(), Limit: limit}
	}
	for p.pieces < maxPiecesSent {
		if p.pieces++; p.memory() > limit {
			p.pieces--
			break
		}
	}
	return nil
}

// pieceLen is the length of the pieces in which a share is written, in bytes.
func (p *put) pieceLen() int64 { return chk.HeaderSize + p.run*p.geometry.BlockSize() }

// memory is how many bytes encoding takes: a run of segments, and the pieces of all shares.
func (p *put) memory() int64 {
	return p.run*p.geometry.SegmentSize + int64(p.pieces)*int64(p.geometry.N)*p.pieceLen()
}

func (p *put) literal(size int64) (caps.Cap, error) {
	data := make([]byte, size)
	if err := p.rewind(); err != nil {
		return caps.Cap{}, err
	}
	if _, err := io.ReadFull(p.file, data); err != nil {
		return caps.Cap{}, fmt.Errorf("upload: reading the file: %w", err)
	}
	p.progress(size)
	return caps.NewLiteral(data), nil
}

func (p *put) rewind() error {
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("upload: rewinding the file: %w", err)
	}
	return nil
}

func (p *put) progress(encoded int64) {
	if p.opts.Progress != nil {
		p.opts.Progress(encoded)
	}
}

// makeKey makes the AES key: random, or of the secret and the file.
func (p *put) makeKey(ctx context.Context) error {
	var key [16]byte
	if p.opts.Convergence == nil {
		rand.Read(key[:])
		p.key = caps.NewKey(key)
		return nil
	}
	g := p.geometry
	hasher := hashtree.NewHasher(hashtree.ConvergenceTag(p.opts.Convergence, g.K, g.N, g.SegmentSize))
	err := p.segments(ctx, func(_ int64, plain []byte) error {
		hasher.Write(plain)
		return nil
	})
	hash := hasher.Sum()
	copy(key[:], hash[:])
	p.key = caps.NewKey(key)
	return err
}

// segments reads the file and calls f for each run of segments, the first of which is i.
func (p *put) segments(ctx context.Context, f func(i int64, plain []byte) error) error {
	if err := p.rewind(); err != nil {
		return err
	}
	g := p.geometry
	buf := make([]byte, p.run*g.SegmentSize)
	for i := int64(0); i < g.Segments(); i += p.run {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		plain := buf[:min(int64(len(buf)), g.Size-i*g.SegmentSize)]
		if n, err := io.ReadFull(p.file, plain); err != nil {
			return fmt.Errorf("upload: reading segment %d of the file: %w", i+int64(n)/g.SegmentSize, err)
		}
		if err := f(i, plain); err != nil {
			return err
		}
	}
	return nil
}

// upload writes all shares and proves that they are there.
func (p *put) upload(ctx context.Context) (_ caps.Cap, err error) {
	v := caps.Verifier{StorageIndex: p.key.StorageIndex(), K: p.geometry.K, N: p.geometry.N, Size: p.geometry.Size}
	encoder, err := chk.NewEncoder(p.geometry, p.opts.layout)
	if err != nil {
		return caps.Cap{}, fmt.Errorf("upload: %w", err)
	}
	defer func() { err = errors.Join(err, encoder.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx) // of the uploads
	defer cancel(nil)
	s := &shipment{
		ctx: ctx, cancel: cancel, uploader: p.uploader, si: v.StorageIndex,
		k: p.geometry.K, n: p.geometry.N, happy: p.opts.Happy, size: encoder.Size(),
	}
	s.probes = newProbes(s.n, s.size)
	if err := s.prepare(p.members, p.opts.LeaseSecret); err != nil {
		return caps.Cap{}, s.abort(err)
	}
	ueb, err := p.encode(s, encoder)
	if err != nil {
		return caps.Cap{}, s.abort(err)
	}
	if err := s.finish(ueb); err != nil {
		return caps.Cap{}, s.abort(err)
	}
	v.UEBHash = chk.Hash(ueb.Marshal())
	return caps.NewCHK(p.key, v), nil
}

// encode encodes the file and ships all shares, piece by piece. It returns the UEB
// when all have arrived.
func (p *put) encode(s *shipment, encoder *chk.Encoder) (ueb *chk.UEB, err error) {
	out := &pieces{shipment: s, room: p.pieceLen(), most: p.pieces, free: make(chan *piece, p.pieces)}
	defer func() {
		if err != nil {
			s.cancel(err)
		}
		out.close()
	}()
	if err := out.next(); err != nil {
		return nil, err
	}
	for _, share := range out.extend(len(encoder.Header())) {
		copy(share, encoder.Header())
	}
	if err := p.encodeBlocks(out, encoder, p.key.Cipher()); err != nil {
		return nil, err
	}
	if ueb, err = encoder.Finish(); err != nil {
		return nil, fmt.Errorf("upload: the hash trees: %w", err)
	}
	for off := encoder.TailOffset(); off < encoder.Size(); {
		if out.left() == 0 {
			if err := out.next(); err != nil {
				return nil, err
			}
		}
		n := min(out.left(), encoder.Size()-off)
		for num, share := range out.extend(int(n)) {
			if err := encoder.ReadTail(num, share, off); err != nil {
				return nil, fmt.Errorf("upload: the hash trees: %w", err)
			}
		}
		off += n
	}
	out.ship()
	out.work.Wait()
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	return ueb, nil
}

// encodeBlocks encodes all segments.
func (p *put) encodeBlocks(out *pieces, encoder *chk.Encoder, block cipher.Block) error {
	g := p.geometry
	return p.segments(out.shipment.ctx, func(i int64, segments []byte) error {
		// The first piece has room for the header and a run; the others for a run at least.
		if i > 0 {
			if err := out.next(); err != nil {
				return err
			}
		}
		chk.Crypt(block, segments, i*g.SegmentSize)
		last := min(i+p.run, g.Segments()) - 1
		if err := encoder.Encode(segments, out.extend(int((last-i)*g.BlockSize()+g.BlockLen(last)))); err != nil {
			return fmt.Errorf("upload: encoding segment %d: %w", i, err)
		}
		p.progress(i*g.SegmentSize + int64(len(segments)))
		return nil
	})
}

// pieces are the same part of all shares, on their way to the servers. All but work is used by the
// goroutine that encodes.
type pieces struct {
	shipment *shipment
	room     int64       // bytes of each share in a piece
	most     int         // pieces at the same time
	all      []*piece    // that there are
	free     chan *piece // those that have arrived
	filling  *piece
	work     sync.WaitGroup // pieces on their way
}

type piece struct {
	off   int64         // in the shares
	n     int64         // bytes of each share
	bytes memory.Buffer // of share 0, of share 1, ..., each with the same room
	views [][]byte
}

// next ships what is filled and waits for a piece to go on with.
func (o *pieces) next() error {
	off := int64(0)
	if o.filling != nil {
		off = o.filling.off + o.filling.n
		o.ship()
	}
	if len(o.all) < o.most && len(o.free) == 0 {
		p := &piece{views: make([][]byte, o.shipment.n), bytes: memory.New(o.shipment.n*int(o.room), false)}
		o.all = append(o.all, p)
		o.free <- p
	}
	select {
	case o.filling = <-o.free:
		o.filling.off, o.filling.n = off, 0
		return nil
	case <-o.shipment.ctx.Done():
		return context.Cause(o.shipment.ctx)
	}
}

func (o *pieces) left() int64 { return o.room - o.filling.n }

// extend returns the next n bytes of every share, to be filled.
func (o *pieces) extend(n int) [][]byte {
	f := o.filling
	for num := range f.views {
		f.views[num] = f.bytes[int64(num)*o.room+f.n:][:n:n]
	}
	f.n += int64(n)
	return f.views
}

// close waits until all pieces have arrived or are lost, and gives their memory back.
func (o *pieces) close() {
	o.work.Wait()
	for _, p := range o.all {
		p.bytes.Free()
	}
}

// ship sends what is filled to all servers.
func (o *pieces) ship() {
	f := o.filling
	for num := range f.views {
		f.views[num] = f.bytes[int64(num)*o.room:][:f.n]
	}
	o.shipment.see(f.views, f.off)
	o.work.Go(func() {
		o.shipment.write(f.views, f.off)
		o.free <- f // which has room for all
	})
}
