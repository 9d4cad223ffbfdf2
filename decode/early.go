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
)

// early is the beginning of a share, read as soon as it is known where one is, before it is known how the file is cut. That
// saves the round trip in which the UEB comes, if it is the first chunk that is wanted first: however the file is cut, most
// probably its blocks end where they would in a file that is cut as usual.
type early struct {
	began time.Time
	bytes []byte
	end   context.CancelFunc // nobody wants it any more
	done  chan struct{}      // closed when err is set
	err   error
}

// moreEarly is how many shares more than needed are read early, as connections differ: those that were idle, or are still to
// be made, take several round trips more.
const moreEarly = 2

// readEarly begins to read the beginning of one of the shares, which are a server's, if that is far away. At hand requests
// cost more than time is gained.
func (f *File) readEarly(shares []*share) {
	g, err := chk.NewGeometry(f.verifier.Size, usualSegments[0], f.verifier.K, f.verifier.N)
	if err != nil || shares[0].member.isAtHand() {
		return
	}
	size := chk.HeaderSize + g.BlockLen(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.early == nil || len(f.early) == f.verifier.K+moreEarly || f.found != nil {
		return
	}
	for _, s := range shares {
		if f.isReadEarlyLocked(s.num) || !f.client.memory.tryAcquire(f, size) {
			continue
		}
		e := &early{began: time.Now(), bytes: make([]byte, size), done: make(chan struct{})}
		f.early[s] = e
		ctx, cancel := context.WithTimeoutCause(f.ctx, f.client.allowed(int(size)), errTimeout)
		e.end = cancel
		f.work.Go(func() {
			defer cancel()
			defer close(e.done)
			e.err = s.readBeginning(ctx, e.bytes)
		})
		return
	}
}

func (f *File) isReadEarlyLocked(num int) bool {
	for s := range f.early {
		if s.num == num {
			return true
		}
	}
	return false
}

// readBeginning fills b from the beginning of the share, by two connections, as each begins slowly, if it is long. It blames nobody.
func (s *share) readBeginning(ctx context.Context, b []byte) error {
	bytes, err := s.member.Open(ctx, s.file.verifier.StorageIndex, s.num)
	if err != nil {
		return err
	}
	defer bytes.Close()
	o := &openShare{share: s, bytes: bytes}
	part := max((len(b)+1)/2, smallRead)
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

// earlyShares returns the shares of which the beginning has been read, or is being read, and was not taken.
func (f *File) earlyShares() []*share {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.early))
}

// takeEarly returns the beginning of the share if it has been read or is being read, else nil; useEarly or dropEarly follows.
func (f *File) takeEarly(s *share) *early {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.early[s]
	delete(f.early, s)
	return e
}

// useEarly fills bufs with what stands at off. It returns false if that is not there, and must be read.
func (f *File) useEarly(ctx context.Context, e *early, off int64, bufs [][]byte) bool {
	defer f.dropEarly(e)
	end := off
	for _, b := range bufs {
		end += int64(len(b))
	}
	if end > int64(len(e.bytes)) {
		return false
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return false
	}
	if e.err != nil {
		return false
	}
	for _, b := range bufs {
		off += int64(copy(b, e.bytes[off:]))
	}
	return true
}

// dropEarly forgets what was taken.
func (f *File) dropEarly(e *early) {
	e.end()
	f.client.memory.release(f, int64(len(e.bytes)))
}

// readsFrom notes that chunk i is wanted. If it is the first one to be wanted and not the beginning, that was read in vain.
func (f *File) readsFrom(i int64) {
	f.mu.Lock()
	vain := !f.begun && i != 0
	f.begun = true
	f.mu.Unlock()
	if vain {
		f.endEarly()
	}
}

// endEarly forgets what was read early and is of no use, and begins no more.
func (f *File) endEarly() {
	f.mu.Lock()
	unused := f.early
	f.early = nil
	f.mu.Unlock()
	for _, e := range unused {
		f.dropEarly(e)
	}
}
