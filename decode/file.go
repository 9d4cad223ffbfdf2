package decode

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/grid"
	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// chunkTarget is about how many bytes of plaintext a chunk has, so that one
// ranged read of a share covers many blocks.
const chunkTarget = 1 << 20

// runTarget is about how many bytes of plaintext are decoded at once where nobody waits for
// less: enough for two segments of 1 MiB or sixteen of 128 KiB.
const runTarget = 2 << 20

// A request costs a storage node as much as sending some 500 KB. So more is read at once of each share, up to
// quickRead bytes, of servers at hand (see atHand), if they bring it within quickTime: who
// is slower would keep readers waiting for what others could bring meanwhile.
const (
	quickRead = 4 << 20
	quickTime = 150 * time.Millisecond
)

// maxPieces bounds the number of blocks in a run, and with it the buffers
// of one vectored read.
const (
	maxPieces  = 4096
	maxVectors = 1024
)

// File is one open CHK file. Safe for concurrent use. It is a spool.Source.
type File struct {
	client   *Client
	id       string
	verifier caps.Verifier
	key      cipher.Block // nil when the file is only checked
	code     *zfec.Code

	ctx    context.Context // ends with Close, its cause ErrClosed
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // calls in progress and goroutines of the File

	// Set once, before Open returns.
	ueb           *chk.UEB
	tree          tree
	near          bool // waiting for the servers takes no time worth hiding
	chunkSegments int64
	leastRun      int64 // chunks
	mostRun       int64
	run           atomic.Int64 // at present
	depth         depth

	mu        sync.Mutex
	closed    bool
	usable    bool              // Open has returned it
	changed   chan struct{}     // closed and replaced whenever what follows grows or a server answers
	shares    []*share          // every share known; only grows
	members   []*member         // those that are used; only grows, where servers were added meanwhile
	unasked   []*member         // those of the members that are still to be asked, in that order
	inquiries []*inquiry        // of the others, in the order in which they were asked
	askedAll  bool              // the shares known, or remembered, are those of all servers asked
	listing   int               // servers that have not said yet which shares they hold
	turns     int               // servers that had shares
	seekers   int               // of those that seek the UEB now
	opening   int               // servers whose shares may still yield the UEB
	fatal     error             // why the file cannot be opened whatever the servers say
	found     *chk.UEB          // verified
	unusual   bool              // the share that it was found in is not laid out as supposed of that UEB
	early     map[*share]*early // nil: nothing is read early any more
	begun     bool              // a chunk has been wanted
	roots     *call[[]hashtree.Hash]
	recent    []*page // the last few used, the last one first
	pages     map[int64]*call[*page]
	decoders  map[string]*zfec.Decoder // by the share numbers, ascending
}

// newFile returns a File that knows no shares yet. Id names it in the cache and the log.
func (c *Client) newFile(v caps.Verifier, id string) (*File, error) {
	f := &File{
		client: c, id: id, verifier: v, code: zfec.New(v.K, v.N),
		changed:  make(chan struct{}),
		pages:    map[int64]*call[*page]{},
		decoders: map[string]*zfec.Decoder{},
	}
	f.ctx, f.cancel = context.WithCancelCause(c.ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		f.cancel(ErrClosed)
		return nil, ErrClosed
	}
	c.files[f] = struct{}{}
	f.members = c.useMoreLocked(nil)
	f.unasked = slices.Clone(f.members)
	c.work.Add(1)
	return f, nil
}

// Open finds the shares of a CHK cap and verifies the metadata. The context
// bounds only the opening. It returns as soon as k distinct shares are known and
// one has proven the metadata; servers that answer later add to the shares.
// Errors: *NotEnoughSharesError, *MemoryError, the context's.
func (c *Client) Open(ctx context.Context, file caps.Cap) (*File, error) {
	v, ok := file.Verifier()
	if !ok {
		return nil, errors.New("decode: a LIT cap has no shares to open")
	}
	f, err := c.newFile(v, file.ID())
	if err != nil {
		return nil, err
	}
	key := file.Key()
	if f.key, err = aes.NewCipher(key[:]); err != nil {
		panic("internal error: " + err.Error())
	}
	if m, ok := c.metadata.file(f.id); ok {
		c.metadataHits.Add(1)
		f.adopt(m)
	} else {
		c.metadataMisses.Add(1)
		f.early = map[*share]*early{}
		err = f.discover(ctx, v.K)
	}
	if err == nil {
		err = f.setGeometry(f.found)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	f.mu.Lock()
	f.usable = true
	f.mu.Unlock()
	f.remember()
	return f, nil
}

// setGeometry derives from the verified UEB how the file is read and whether
// that fits the memory.
func (f *File) setGeometry(ueb *chk.UEB) error {
	f.ueb, f.tree = ueb, newTree(ueb.Segments())
	f.near = f.latency() <= nearby && !hasServer[grid.Connector](f)
	if roots := f.tree.pages * hashtree.Size; roots > f.client.memory.limit {
		return &MemoryError{What: "hash trees", Needed: roots, Limit: f.client.memory.limit}
	}
	most := min(maxPieces/int64(f.verifier.K), maxVectors, ueb.Segments())
	f.chunkSegments = max(1, min((chunkTarget+ueb.SegmentSize/2)/ueb.SegmentSize, most))
	chunk := f.chunkSegments * ueb.SegmentSize
	f.leastRun = f.largestRun(min((runTarget+chunk/2)/chunk, most/f.chunkSegments), f.client.memory.limit/3)
	f.mostRun = f.leastRun
	if !f.near {
		f.mostRun = max(f.leastRun, f.largestRun(min((quickRead+f.shareBytes()/2)/f.shareBytes(), most/f.chunkSegments), f.client.memory.limit/5))
	}
	f.run.Store(f.leastRun)
	f.depth.startup = newStartup(f.latency(), hasServer[grid.Meter](f))
	if memory := f.memory(1); memory > f.client.memory.limit {
		return &MemoryError{What: "segments", Needed: memory, Limit: f.client.memory.limit}
	}
	return nil
}

// largestRun returns how many chunks, at most so many, can be decoded in so much memory; at least one.
func (f *File) largestRun(most, memory int64) int64 {
	for most > 1 && f.memory(most) > memory {
		most--
	}
	return max(1, most)
}

// shareBytes returns how many bytes of one share a chunk takes.
func (f *File) shareBytes() int64 { return f.chunkSegments * f.ueb.BlockSize() }

// memory returns how many bytes decoding n chunks takes: themselves, padded, as much
// again for the blocks that do not land there directly, and again for those computed apart.
func (f *File) memory(n int64) int64 {
	segments := n * f.chunkSegments
	out := (segments-1)*f.ueb.SegmentSize + f.ueb.BlockLen(0)*int64(f.verifier.K)
	if f.decodesApart(segments) {
		return 3 * out
	}
	return 2 * out
}

// decodesApart tells whether the blocks of so many segments are so small and so many that
// one call of the erasure decoder for all of them pays for copying them.
func (f *File) decodesApart(segments int64) bool {
	return segments > 1 && f.verifier.K > zfec.FewBlocks
}

// remember keeps what is verified for the next Open, unless it would fail.
func (f *File) remember() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.usable {
		return
	}
	m := &fileMetadata{id: f.id, ueb: f.ueb, unusual: f.unusual, askedAll: f.askedAll && f.listing == 0}
	if f.roots != nil && f.roots.isDone() {
		m.roots = f.roots.value
	}
	for _, s := range f.shares {
		if !s.gone {
			m.places = append(m.places, place{member: s.member, num: s.num})
		}
	}
	if f.distinctLocked() >= f.verifier.K {
		f.client.metadata.setFile(m)
	} else {
		f.client.metadata.dropFile(f.id)
	}
}

// adopt begins with what is remembered.
func (f *File) adopt(m *fileMetadata) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found, f.unusual, f.askedAll = m.ueb, m.unusual, m.askedAll
	if !m.askedAll {
		f.askLaterLocked()
	}
	if m.roots != nil {
		f.roots = newCall[[]hashtree.Hash]()
		f.roots.finish(m.roots, nil)
	}
	for _, p := range m.places {
		if slices.Contains(f.members, p.member) {
			f.addLocked(p.member, p.num)
		}
	}
}

// Size returns the length of the plaintext in bytes.
func (f *File) Size() int64 { return f.verifier.Size }

// ChunkSize returns the length in bytes of every chunk but the last.
func (f *File) ChunkSize() int64 { return min(f.chunkSegments*f.ueb.SegmentSize, f.verifier.Size) }

// Run returns how many consecutive chunks are decoded fastest when they are decoded
// at once: they fill the lanes in which segments are hashed, and take more where the servers are quick, who are
// asked less often then. It does not block.
func (f *File) Run() int64 { return f.run.Load() }

// adjustRun makes runs as large as the k-th quickest server brings in quickTime.
func (f *File) adjustRun() {
	if f.mostRun == f.leastRun {
		return
	}
	run := f.leastRun
	if f.latency() <= atHand {
		run = int64(f.usualRate()*quickTime.Seconds()) / f.shareBytes()
	}
	f.run.Store(min(max(run, f.leastRun), f.mostRun))
}

// Close cancels what is in progress, waits for it and closes the shares.
func (f *File) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		f.work.Wait()
		return nil
	}
	f.closed = true
	f.mu.Unlock()
	f.cancel(ErrClosed)
	f.work.Wait()
	f.endEarly()
	f.remember()
	var err error
	for _, s := range f.shares {
		err = errors.Join(err, s.close())
	}
	f.client.release(f.members)
	f.client.mu.Lock()
	delete(f.client.files, f)
	if len(f.client.files) == 0 {
		for _, c := range f.client.spare {
			c.close()
		}
		f.client.spare = nil
	}
	f.client.mu.Unlock()
	f.client.work.Done()
	return err
}

// enter begins a call of the File, which Close waits for; it ends with f.work.Done.
func (f *File) enter() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.work.Add(1)
	return nil
}

// join is enter for a call that is all waiting: the context that it returns ends with
// the File too. Done ends the call.
func (f *File) join(ctx context.Context) (_ context.Context, done func(), _ error) {
	if err := f.enter(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := joinContexts(ctx, f.ctx)
	return ctx, func() { cancel(); f.work.Done() }, nil
}

// watch returns a channel that is closed at the next change of what is known.
func (f *File) watch() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *File) notifyLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// candidate is a share and how soon a read of it would end; see pace.class.
type candidate struct {
	share    *share
	demerits int
	unread   int // 1 if its beginning, which is wanted, has not been read early
	class    int
}

// rank appends to to the known shares, in the order in which to read so many bytes of
// them: those that have shown no wrong block before those that have, those of quicker servers
// before those of slower ones, primary before parity shares, then in the order of the servers. If
// the beginning is wanted, those come first of which it is read early. For sure see pace.class.
func (f *File) rank(to []candidate, bytes int, sure, beginning bool) []candidate {
	now := time.Now()
	f.mu.Lock()
	for _, s := range f.shares {
		unread := 1
		if beginning && f.early[s] != nil {
			unread = 0
		}
		to = append(to, candidate{s, s.demerits, unread, s.member.pace.class(now, bytes, s.beside, sure)})
	}
	f.mu.Unlock()
	slices.SortFunc(to, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.demerits, b.demerits), cmp.Compare(a.unread, b.unread), cmp.Compare(a.class, b.class),
			cmp.Compare(a.share.num, b.share.num), cmp.Compare(a.share.rank, b.share.rank))
	})
	return to
}

// notEnough says why there are no k shares; unusable tells which ones cannot be used.
func (f *File) notEnough(unusable func(*share) bool) error {
	if f.ctx.Err() != nil {
		return ErrClosed // the shares were not missing: their reading was cancelled
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &NotEnoughSharesError{Needed: f.verifier.K, Total: f.verifier.N, Failed: f.failuresLocked()}
	for _, s := range f.shares {
		p := SharePlace{Share: s.num, Server: s.member.String()}
		switch {
		case !unusable(s):
			e.Found = append(e.Found, p)
		case s.corrupt != nil:
			e.Bad = append(e.Bad, p)
		case s.failure != nil && !s.gone:
			e.Failed = append(e.Failed, ServerError{Server: p.Server, Err: s.failure, When: s.failed})
		}
	}
	return e
}

// failuresLocked returns the servers that did not say which shares they hold.
func (f *File) failuresLocked() (failed []ServerError) {
	for _, q := range f.inquiries {
		if q.err != nil {
			failed = append(failed, ServerError{Server: q.member.String(), Err: q.err, When: q.when})
		}
	}
	return failed
}

func errNoChunk(i, n int64) error {
	return fmt.Errorf("decode: %w: there is no run of %d chunks from %d on", fs.ErrInvalid, n, i)
}

// call is the result of something done once for all who want it, by a goroutine of the File.
type call[V any] struct {
	done  chan struct{} // closed when value and err are set
	value V
	err   error
}

func newCall[V any]() *call[V] { return &call[V]{done: make(chan struct{})} }

func (c *call[V]) finish(v V, err error) {
	c.value, c.err = v, err
	close(c.done)
}

// once returns what fn returns, which a goroutine of f calls once for all who want it; after a failure the next
// one tries again. *at, guarded by f.mu, is nil before.
func once[V any](ctx context.Context, f *File, at **call[V], fn func(ctx context.Context) (V, error)) (V, error) {
	f.mu.Lock()
	c := *at
	if c == nil {
		c = newCall[V]()
		err := f.startLocked(func(ctx context.Context) {
			v, err := fn(ctx)
			if err != nil {
				f.mu.Lock()
				*at = nil
				f.mu.Unlock()
			}
			c.finish(v, err)
		})
		if err != nil {
			f.mu.Unlock()
			var none V
			return none, err
		}
		*at = c
	}
	f.mu.Unlock()
	return c.wait(ctx)
}

func (c *call[V]) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *call[V]) wait(ctx context.Context) (V, error) {
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}
