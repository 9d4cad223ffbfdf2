package decode

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"

	"spillway/decode/chk"
	"spillway/decode/grid"
	"spillway/decode/hashtree"
)

// maxLiteral is the size in bytes up to which a file becomes a LIT cap.
const maxLiteral = 55

// PutOptions say how a file is written. The zero value works.
type PutOptions struct {
	K, N        int         // shares needed and made; 0 means 3 and 10
	SegmentSize int64       // bytes, at most; 0 means 1 MiB
	Convergence []byte      // the secret under which equal files get equal caps; nil: a random key
	LeaseSecret []byte      // the secret by which its holder can renew the leases, as a node's; nil: nobody can
	Progress    func(int64) // if not nil, called now and then with the bytes written so far

	layout int // version of the shares' layout; 0: the first one that can hold them
}

// Put writes the file that r holds from its start, and returns its cap. Share i
// goes to server i modulo their number. Shares that a server already holds are left: the
// storage index being equal, so are they. Either all shares are in their
// places or, after an error, none that was not there before, save when a server
// fails at the very last step. With a convergence secret r is read twice.
func (c *Client) Put(ctx context.Context, r io.ReadSeeker, opts PutOptions) (Cap, error) {
	ctx, done, err := c.enter(ctx)
	if err != nil {
		return Cap{}, err
	}
	defer done()
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return Cap{}, fmt.Errorf("decode: the file's size: %w", err)
	}
	p := &put{client: c, members: c.useMore(nil), file: r, opts: opts}
	defer c.release(p.members)
	if size <= maxLiteral {
		return p.literal(size)
	}
	if opts.K == 0 && opts.N == 0 {
		p.opts.K, p.opts.N = 3, 10
	}
	if p.geometry, err = chk.NewGeometry(size, orDefault(opts.SegmentSize, 1<<20), p.opts.K, p.opts.N); err != nil {
		return Cap{}, fmt.Errorf("decode: %w", err)
	}
	if err := p.makeKey(ctx); err != nil {
		return Cap{}, err
	}
	cap, err := p.write(ctx)
	return cap, errors.Join(err, p.abort())
}

// put is one file being written.
type put struct {
	client   *Client
	members  []*member
	file     io.ReadSeeker
	opts     PutOptions
	geometry chk.Geometry
	key      [16]byte
	uploads  []grid.Upload // by share; nil: the server has it already, or it is committed
}

func (p *put) literal(size int64) (Cap, error) {
	data := make([]byte, size)
	if err := p.rewind(); err != nil {
		return Cap{}, err
	}
	if _, err := io.ReadFull(p.file, data); err != nil {
		return Cap{}, fmt.Errorf("decode: reading the file: %w", err)
	}
	p.progress(size)
	return literalCap(data), nil
}

func (p *put) rewind() error {
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("decode: rewinding the file: %w", err)
	}
	return nil
}

func (p *put) progress(written int64) {
	if p.opts.Progress != nil {
		p.opts.Progress(written)
	}
}

// makeKey makes the AES key: random, or of the secret and the file.
func (p *put) makeKey(ctx context.Context) error {
	if p.opts.Convergence == nil {
		rand.Read(p.key[:])
		return nil
	}
	g := p.geometry
	hasher := hashtree.NewHasher(hashtree.ConvergenceTag(p.opts.Convergence, g.K, g.N, g.SegmentSize))
	err := p.segments(ctx, func(_ int64, plain []byte) error {
		hasher.Write(plain)
		return nil
	})
	hash := hasher.Sum()
	copy(p.key[:], hash[:])
	return err
}

// segments reads the file and calls f for each segment, which has room for its
// padding behind it.
func (p *put) segments(ctx context.Context, f func(i int64, plain []byte) error) error {
	if err := p.rewind(); err != nil {
		return err
	}
	g := p.geometry
	buf := make([]byte, g.BlockLen(0)*int64(g.K))
	for i := range g.Segments() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		plain := buf[:g.SegmentLen(i)]
		if _, err := io.ReadFull(p.file, plain); err != nil {
			return fmt.Errorf("decode: reading segment %d of the file: %w", i, err)
		}
		if err := f(i, plain); err != nil {
			return err
		}
	}
	return nil
}

// write encodes the file into all shares and commits them.
func (p *put) write(ctx context.Context) (Cap, error) {
	cap := capFields{key: p.key, k: p.geometry.K, n: p.geometry.N, size: p.geometry.Size}
	v, _ := seal(cap).VerifyCap()
	block, err := aes.NewCipher(p.key[:])
	if err != nil {
		panic("internal error: " + err.Error())
	}
	ctx, cancel := context.WithCancelCause(ctx) // of the uploads
	defer cancel(nil)
	shares, err := p.create(ctx, cancel, v.index)
	if err != nil {
		return Cap{}, err
	}
	encoder, err := chk.NewEncoder(p.geometry, p.opts.layout, shares)
	if err != nil {
		return Cap{}, fmt.Errorf("decode: %w", err)
	}
	written := int64(0)
	err = p.segments(ctx, func(i int64, segment []byte) error {
		cryptAt(block, segment, written)
		if err := encoder.WriteSegment(segment); err != nil {
			return fmt.Errorf("decode: writing segment %d: %w", i, err)
		}
		written += int64(len(segment))
		p.progress(written)
		return nil
	})
	if err != nil {
		return Cap{}, err
	}
	if cap.ueb, err = encoder.Finish(); err != nil {
		return Cap{}, fmt.Errorf("decode: writing the hash trees: %w", err)
	}
	if ctx.Err() != nil {
		return Cap{}, context.Cause(ctx)
	}
	if err := p.commit(); err != nil {
		return Cap{}, err
	}
	return seal(cap), nil
}

func (p *put) server(num int) *member {
	return p.members[num%len(p.members)]
}

// sideBySide is how many shares are begun or committed at once, for servers may be far away.
const sideBySide = 16

// create begins every share that is not there yet. One that cannot be begun cancels the others.
func (p *put) create(ctx context.Context, cancel context.CancelCauseFunc, si grid.StorageIndex) ([]io.WriterAt, error) {
	size := chk.ShareSize(p.geometry, p.opts.layout)
	secret := p.opts.LeaseSecret
	if secret == nil {
		secret = make([]byte, 32)
		rand.Read(secret)
	}
	lease := grid.NewLease(secret, si)
	shares := make([]io.WriterAt, p.geometry.N)
	p.uploads = make([]grid.Upload, p.geometry.N)
	var g errgroup.Group
	g.SetLimit(sideBySide)
	for num := range shares {
		g.Go(func() error {
			u, err := p.server(num).Create(ctx, si, num, size, lease)
			if errors.Is(err, fs.ErrExist) {
				return nil
			}
			if err != nil {
				err = fmt.Errorf("decode: beginning share %d on %v: %w", num, p.server(num), err)
				cancel(err)
				return err
			}
			p.uploads[num], shares[num] = u, u
			return nil
		})
	}
	if g.Wait() != nil {
		return nil, context.Cause(ctx) // of all errors the one that came first
	}
	return shares, nil
}

// commit makes every share visible.
func (p *put) commit() error {
	var g errgroup.Group
	g.SetLimit(sideBySide)
	for num, u := range p.uploads {
		if u == nil {
			continue
		}
		g.Go(func() error {
			if err := u.Commit(); err != nil {
				return fmt.Errorf("decode: committing share %d on %v: %w", num, p.server(num), err)
			}
			p.uploads[num] = nil
			return nil
		})
	}
	return g.Wait()
}

// abort discards what is not committed, all at once: servers that are gone take their time.
func (p *put) abort() error {
	errs := make([]error, len(p.uploads))
	var work sync.WaitGroup
	for num, u := range p.uploads {
		if u == nil {
			continue
		}
		work.Go(func() {
			if err := u.Abort(); err != nil {
				errs[num] = fmt.Errorf("decode: discarding share %d on %v: %w", num, p.server(num), err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}
