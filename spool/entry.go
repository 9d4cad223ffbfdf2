package spool

import (
	"container/list"
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// entry is one spooled file: its blocks on the disk, what of it is there, and who reads it.
type entry struct {
	// Set when the entry is made, as is the size.
	key     string
	open    OpenFunc
	win     *window       // of a private entry; nil: the whole file is spooled and shared
	ready   chan struct{} // closed when file is set, or never will be
	freed   chan struct{} // closed when the kernel has the blocks back
	created time.Time
	ctx     context.Context // ends when the entry is retired
	cancel  context.CancelFunc

	// Set by the Acquire that made the entry, before it closes ready; nil if that failed. Closed by
	// whoever was told by unusedLocked.
	file *os.File

	// Guarded by Spool.mu.
	id       string        // by which the admin purges it
	reserved int64         // bytes of the budget
	left     time.Time     // when the last reader left
	idle     *list.Element // in Spool.idle; nil if it is not idle
	readers  []*Reader
	retired  error     // why the entry is out of the index; set once
	freeing  bool      // somebody is on the way to free it
	running  bool      // the fill is there
	src      Source    // already open, for the next fill; nil: it opens one
	more     sync.Cond // of workers without a chunk to take
	fillState
	comers        int   // readers that there have been
	earnest       bool  // one of them has asked for more than a look, or came after another one
	failure       error // the last one to decode; nil when nothing is bad any more
	unheard       tally // chunks that failed while no reader waited for them
	inARow        int   // chunks that failed since one was decoded
	spooledChunks int64 // how many are in have
	spooledBytes  int64 // how many are in have
}

// unusedLocked tells, once, that nothing uses the retired entry any more. Then the caller must free
// it.
func (e *entry) unusedLocked() bool {
	if e.retired == nil || len(e.readers) > 0 || e.running || e.freeing {
		return false
	}
	e.freeing = true
	return true
}

func (e *entry) complete() bool { return e.chunkSize > 0 && e.spooledChunks == e.chunks() }

// available returns how many consecutive bytes from off, and below end, are spooled.
func (e *entry) available(off, end int64) int64 {
	if e.chunkSize == 0 {
		return 0
	}
	run := e.have.runEnd(e.chunkAt(off), e.chunkAt(end-1)+1)
	return max(0, min(run*e.chunkSize, end)-off)
}

// failedAt tells whether the chunk at off could not be decoded last time.
func (e *entry) failedAt(off int64) bool { return e.bad != nil && e.bad.has(e.chunkAt(off)) }

// awaitLocked registers r as waiting for the chunk at its position, and sees to it that somebody
// decodes it.
func (s *Spool) awaitLocked(r *Reader) {
	e := r.e
	s.waits++
	r.waiting = s.waits
	r.err = nil
	if e.bad != nil {
		e.bad.remove(e.chunkAt(r.pos))
	}
	s.fillLocked(e)
}

// fillLocked sees to it that a fill of e runs and looks at what the readers need now.
func (s *Spool) fillLocked(e *entry) {
	switch {
	case e.retired != nil:
	case e.running:
		e.more.Broadcast()
	default:
		e.running = true
		s.tasks.Go(func() { s.fill(e) })
	}
}

// fill decodes e as doc.go says. It starts over if a reader began to wait while it ended.
func (s *Spool) fill(e *entry) {
	for again := true; again; {
		src, err := s.source(e)
		if err == nil {
			if err = s.adopt(e, src); err == nil {
				Work(src,
					func(workers int, run int64) (c, n int64) { return s.take(e, workers, run) },
					func(c, n int64) bool { return s.fetch(e, src, c, n) })
			}
			src.Close()
		}
		s.mu.Lock()
		if err != nil {
			s.openFailedLocked(e, err)
		}
		again = e.retired == nil && e.awaitedLocked()
		if !again {
			e.running = false
		}
		unused := e.unusedLocked()
		s.mu.Unlock()
		if unused {
			s.free(e)
		}
	}
}

// source returns the Source that proved the file, to the first fill, or opens one.
func (s *Spool) source(e *entry) (Source, error) {
	s.mu.Lock()
	src := e.src
	e.src = nil
	s.mu.Unlock()
	if src != nil {
		return src, nil
	}
	return e.open(e.ctx)
}

// awaitedLocked tells whether a reader waits.
func (e *entry) awaitedLocked() bool {
	for _, r := range e.readers {
		if r.waiting != 0 {
			return true
		}
	}
	return false
}

// openFailedLocked tells the waiting readers why nothing can be decoded. An entry that holds
// nothing is retired with that.
func (s *Spool) openFailedLocked(e *entry, err error) {
	if e.retired != nil {
		return
	}
	s.totals.Failed++
	e.failure = err
	for _, r := range e.readers {
		if r.waiting != 0 {
			r.waiting, r.err = 0, err
			r.wakeLocked()
		}
	}
	if e.spooledChunks == 0 {
		s.retireLocked(e, err)
	}
}

// adopt takes the file's layout from its source.
func (s *Spool) adopt(e *entry, src Source) error {
	chunkSize := src.ChunkSize()
	if src.Size() != e.size || chunkSize <= 0 {
		return errOtherSize(src, e.size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.chunkSize != 0 {
		if e.chunkSize != chunkSize {
			return fmt.Errorf("spool: the source came back with chunks of %d bytes, not %d", chunkSize, e.chunkSize)
		}
		return nil
	}
	if e.win != nil {
		if err := s.widenLocked(e, min(chunkSize, e.size)); err != nil {
			return err
		}
	}
	e.chunkSize = chunkSize
	e.have, e.busy, e.bad = newChunkset(e.chunks()), newChunkset(e.chunks()), newChunkset(e.chunks())
	return nil
}

// widenLocked makes the window of e at least minAhead chunks wide. It reserves what that takes
// more, at the cost of idle entries.
func (s *Spool) widenLocked(e *entry, chunk int64) error {
	if chunk > s.cfg.Budget {
		return ErrFull
	}
	e.win.ahead = max(s.cfg.Window, minAhead*chunk)
	for e.retired == nil {
		need := min(e.size, e.win.ahead) - e.reserved
		if s.fitsLocked(need) {
			s.reserved += need
			e.reserved += need
			return nil
		}
		v := s.victimLocked(need)
		if v == nil {
			return ErrFull
		}
		s.evictLocked(v) // unlocks
		s.mu.Lock()
	}
	return e.retired
}

// fetch decodes the n chunks from c on and books each. It returns false when the disk is full: the
// next chunk would fare no better. A reader that comes for one then starts a new fill.
func (s *Spool) fetch(e *entry, src Source, c, n int64) bool {
	err := s.decode(e, src, c, n)
	if err == nil || n == 1 {
		s.done(e, c, n, err)
	} else {
		for i := range n { // perhaps only one of them cannot be had
			err = s.decode(e, src, c+i, 1)
			s.done(e, c+i, 1, err)
		}
	}
	return !isFull(err)
}

// decode has src write the n chunks from c on into the file of e. Idle entries give way where the
// disk is full.
func (s *Spool) decode(e *entry, src Source, c, n int64) error {
	for {
		err := src.WriteChunks(e.ctx, c, n, e.file)
		if !isFull(err) || !s.makeRoom(e) {
			return err
		}
	}
}

// take marks the chunks of e to decode next as busy and returns the first one and how many, at most
// run. There are 0 when the worker should go. It waits while that is not known.
func (s *Spool) take(e *entry, workers int, run int64) (c, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// All workers together, and what they do next, lie in front of one reader.
	e.run, e.ahead = run, max(readAhead, 2*workers*int(run))
	return s.takeLocked(e)
}

// takeLocked is take once run and ahead are set.
func (s *Spool) takeLocked(e *entry) (c, n int64) {
	for {
		if e.retired != nil || e.complete() || s.pausedLocked(e) {
			return 0, 0
		}
		if e.win != nil {
			if c := s.takeWindowLocked(e); c >= 0 {
				return c, 1
			}
			continue
		}
		e.onlyWanted = !e.earnest
		e.onlyAwaited = e.inARow >= giveUpAfter
		if c, n := plan(&e.fillState, e.readers); n > 0 {
			for i := range n {
				e.busy.add(c + i)
			}
			return c, n
		}
		if !e.busy.any() {
			return 0, 0 // what is left is bad, or nobody waits for it
		}
		// for the last chunks, and for a reader that comes back for a bad one meanwhile
		e.more.Wait()
	}
}

// pausedLocked tells whether e has lingered long enough without readers.
func (s *Spool) pausedLocked(e *entry) bool {
	return len(e.readers) == 0 && !time.Now().Before(e.left.Add(s.cfg.Linger))
}

// done books the outcome of decoding the n chunks from c on, and tells the readers that wait for
// them.
func (s *Spool) done(e *entry, c, n int64, err error) {
	s.mu.Lock()
	for i := c; i < c+n; i++ {
		e.busy.remove(i)
		if err == nil {
			e.have.add(i)
			e.spooledChunks++
			e.spooledBytes += e.length(i)
			s.totals.ChunksWritten++
			s.totals.BytesWritten += e.length(i)
		} else if e.retired == nil {
			e.bad.add(i)
			e.failure = err
			e.inARow++
			s.totals.Failed++
		}
	}
	if err == nil {
		e.inARow = 0
		if e.failure != nil && !e.bad.any() {
			e.failure = nil
		}
	}
	e.low = e.have.runEnd(e.low, e.chunks())
	told := e.retired != nil
	for _, r := range e.readers {
		if at := e.chunkAt(r.pos); r.waiting != 0 && c <= at && at < c+n {
			r.waiting, r.err = 0, err
			r.wakeLocked()
			told = true
		}
	}
	e.more.Broadcast()
	logs := err != nil && !told && e.unheard.add()
	failures := e.unheard.failures
	s.mu.Unlock()
	if logs {
		s.cfg.Log.Warn("decoding ahead of the readers failed",
			"entry", e.key, "chunk", c, "failures", failures, "error", err)
	}
}
