package decode

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/ranked"
)

// earlyReads are the beginnings of a File's shares far away, read as soon as it is known where one
// is, before it is known how the file is cut. That saves the round trip in which the UEB comes, if
// it is the first chunk that is wanted first: however the file is cut, most probably its blocks end
// where they would in a file that is cut as usual (see decision first-byte-far-away).
type earlyReads struct {
	file *File

	mu      ranked.Mutex[ranked.Early]
	allowed bool              // guarded by mu; false: nothing is read early, or any more
	wanted  bool              // guarded by mu; a chunk has been wanted
	reads   map[*share]*early // guarded by mu; those that nobody has taken
}

// early is the beginning of a share.
type early struct {
	began time.Time
	bytes []byte
	end   context.CancelFunc // nobody wants it any more
	done  chan struct{}      // closed when err is set
	err   error
}

// moreEarly is how many shares more than needed are read early, as connections differ: those that
// were idle, or are still to be made, take several round trips more (see decision
// first-byte-far-away).
const moreEarly = 2

// allow has shares read early that are found from now on.
func (e *earlyReads) allow() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allowed, e.reads = true, map[*share]*early{}
}

// begin begins to read the beginning of one of the shares, which are a server's, if that is far
// away. At hand requests cost more than time is gained.
func (e *earlyReads) begin(shares []*share) {
	f := e.file
	v := f.verifier
	g, err := chk.NewGeometry(v.Size, usualSegments[0], v.K, v.N)
	if err != nil || shares[0].member.IsAtHand() || f.search.isSettled() {
		return
	}
	size := chk.HeaderSize + g.BlockLen(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.allowed || len(e.reads) == v.K+moreEarly {
		return
	}
	for _, s := range shares {
		if e.hasLocked(s.num) || !f.client.memory.TryAcquire(f, size) {
			continue
		}
		read := &early{began: time.Now(), bytes: make([]byte, size), done: make(chan struct{})}
		ctx, cancel := context.WithTimeoutCause(f.life.Context(), f.client.fleet.Allowed(int(size)), grid.ErrTimeout)
		read.end = cancel
		err := f.life.Go(func(context.Context) {
			defer cancel()
			defer close(read.done)
			read.err = s.readBeginning(ctx, read.bytes)
		})
		if err != nil {
			cancel()
			f.client.memory.Release(f, size)
			return
		}
		e.reads[s] = read
		return
	}
}

func (e *earlyReads) hasLocked(num int) bool {
	for s := range e.reads {
		if s.num == num {
			return true
		}
	}
	return false
}

// readBeginning fills b from the beginning of the share, by two connections, as each begins slowly,
// if it is long. It blames nobody.
func (s *share) readBeginning(ctx context.Context, b []byte) error {
	bytes, err := s.member.Open(ctx, s.file.verifier.StorageIndex, s.num)
	if err != nil {
		return err
	}
	defer bytes.Close()
	o := &openShare{share: s, bytes: bytes}
	part := max((len(b)+1)/2, fleet.SmallRead)
	var reads errgroup.Group
	for off := 0; off < len(b); off += part {
		reads.Go(func() error {
			want := b[off:min(off+part, len(b))]
			if n, err := o.readAt(ctx, nil, int64(off), want); n < len(want) {
				return errors.Join(io.ErrUnexpectedEOF, err)
			}
			return nil
		})
	}
	return reads.Wait()
}

// shares returns the shares of which the beginning has been read, or is being read, and was not
// taken.
func (e *earlyReads) shares() []*share {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.reads))
}

// take returns the beginning of the share if it has been read or is being read, else nil; use or
// drop follows.
func (e *earlyReads) take(s *share) *early {
	e.mu.Lock()
	defer e.mu.Unlock()
	read := e.reads[s]
	delete(e.reads, s)
	return read
}

// use fills bufs with what stands at off, and drops the read. It returns false if that is not
// there, and must be read.
func (e *earlyReads) use(ctx context.Context, read *early, off int64, bufs [][]byte) bool {
	defer e.drop(read)
	end := off
	for _, b := range bufs {
		end += int64(len(b))
	}
	if end > int64(len(read.bytes)) {
		return false
	}
	select {
	case <-read.done:
	case <-ctx.Done():
		return false
	}
	if read.err != nil {
		return false
	}
	for _, b := range bufs {
		off += int64(copy(b, read.bytes[off:]))
	}
	return true
}

// drop forgets what was taken.
func (e *earlyReads) drop(read *early) {
	read.end()
	e.file.client.memory.Release(e.file, int64(len(read.bytes)))
}

// want notes that a chunk is wanted. What was read early is of no use if the first one that is
// wanted is not the first of the file.
func (e *earlyReads) want(chunk int64) {
	e.mu.Lock()
	vain := !e.wanted && chunk != 0
	e.wanted = true
	e.mu.Unlock()
	if vain {
		e.end()
	}
}

// end forgets what was read early and is of no use, and begins no more.
func (e *earlyReads) end() {
	e.mu.Lock()
	unused := e.reads
	e.allowed, e.reads = false, nil
	e.mu.Unlock()
	for _, read := range unused {
		e.drop(read)
	}
}
