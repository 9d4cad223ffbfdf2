package spool

import (
	"context"
	"fmt"
	"time"
)

// proof is the opening of a file that is not spooled, once for all who want it. A key and a size
// are a claim: until a Source has been opened that has that size, nothing is set aside for the file
// and nothing is given up for it. See decision proof-before-space.
//
// The opening ends when the last one who waits for it leaves. A Source that nobody has taken is
// closed by then.
type proof struct {
	key     string
	size    int64 // bytes, as claimed
	created time.Time
	cancel  context.CancelFunc
	done    chan struct{} // closed when src or err is set

	// Guarded by Spool.mu.
	waiting int    // Acquires that wait for it, or make an entry of it
	over    bool   // src or err is set
	src     Source // until an entry takes it
	err     error
}

// refusal is what ended the opening of a file, which is told to who asks again before it may be
// tried again. So a file that is not there costs the servers little, however often it is asked for.
type refusal struct {
	err   error
	pause time.Duration
	until time.Time
}

const (
	firstPause   = time.Second // and then twice as long after each failure
	longestPause = 30 * time.Second
	maxRefusals  = 4096 // that are remembered: some 200 bytes each, and what their errors hold
)

// refuseLocked remembers that the file could not be opened.
func (s *Spool) refuseLocked(key string, err error, now time.Time) {
	if len(s.refusals) >= maxRefusals {
		for k, r := range s.refusals {
			if !now.Before(r.until) {
				delete(s.refusals, k)
			}
		}
		if len(s.refusals) >= maxRefusals {
			clear(s.refusals)
		}
	}
	pause := min(max(firstPause, 2*s.refusals[key].pause), longestPause)
	s.refusals[key] = refusal{err, pause, now.Add(pause)}
}

// prove waits until the file is proven to be there, and returns the proof, which its caller gives
// back with forget. It returns nil if the file is spooled. The error is that of open, now or a
// short time ago, the context's, or ErrClosed.
func (s *Spool) prove(ctx context.Context, key string, size int64, open OpenFunc) (*proof, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if s.index[key] != nil {
		s.mu.Unlock()
		return nil, nil
	}
	p := s.proofs[key]
	if r, ok := s.refusals[key]; ok && p == nil && time.Now().Before(r.until) {
		s.mu.Unlock()
		return nil, r.err
	}
	if p == nil {
		p = s.beginLocked(key, size, open)
	}
	p.waiting++
	s.mu.Unlock()

	var err error
	select {
	case <-p.done:
		err = p.err // which does not change any more
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		s.forget(p)
		return nil, err
	}
	return p, nil
}

// beginLocked begins to open the file.
func (s *Spool) beginLocked(key string, size int64, open OpenFunc) *proof {
	p := &proof{key: key, size: size, created: time.Now(), done: make(chan struct{})}
	var ctx context.Context
	ctx, p.cancel = context.WithCancel(s.ctx)
	s.proofs[key] = p
	s.tasks.Go(func() {
		defer p.cancel()
		src, err := open(ctx)
		if err == nil && (src.Size() != size || src.ChunkSize() <= 0) {
			err = errOtherSize(src, size)
			src.Close()
		}
		if err != nil {
			src = nil // whatever open returned with it
		}
		s.mu.Lock()
		p.over, p.src, p.err = true, src, err
		switch {
		case s.closed:
			p.err = ErrClosed
		case err == nil:
			delete(s.refusals, key)
		default:
			s.totals.Failed++
			s.totals.Misses++
			if ctx.Err() == nil { // else it is those who wanted it that have left
				s.refuseLocked(key, err, time.Now())
			}
		}
		unwanted := p.unwantedLocked(s.closed)
		s.mu.Unlock()
		close(p.done)
		if unwanted != nil {
			unwanted.Close()
		}
	})
	return p
}

// errOtherSize says that a source is not what was announced.
func errOtherSize(src Source, size int64) error {
	return fmt.Errorf("spool: the source has %d bytes in chunks of %d, %d bytes were announced", src.Size(), src.ChunkSize(), size)
}

// takeLocked gives the opened Source to an entry, the first that asks.
func (p *proof) takeLocked() Source {
	if p == nil {
		return nil
	}
	src := p.src
	p.src = nil
	return src
}

// unwantedLocked returns the Source, to be closed, when nobody is left who could take it, or may.
func (p *proof) unwantedLocked(closed bool) Source {
	if !closed && (p.waiting > 0 || !p.over) {
		return nil
	}
	return p.takeLocked()
}

// forget ends the use of a proof that prove gave; nil is none. The last one ends the opening.
func (s *Spool) forget(p *proof) {
	if p == nil {
		return
	}
	s.mu.Lock()
	p.waiting--
	if p.waiting == 0 && s.proofs[p.key] == p {
		delete(s.proofs, p.key)
		p.cancel()
	}
	unwanted := p.unwantedLocked(s.closed)
	s.mu.Unlock()
	if unwanted != nil {
		unwanted.Close()
	}
}
