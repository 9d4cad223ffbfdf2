package spool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// entry is one spooled file: its blocks on the disk, what of it is there, and
// who reads it.
type entry struct {
	key    string
	size   int64 // bytes
	open   OpenFunc
	window int64         // bytes decoded ahead of the one reader; 0: the whole file is spooled and shared
	lag    int64         // bytes kept behind a window's reader
	ready  chan struct{} // closed when file is set, or never will be
	freed  chan struct{} // closed when the kernel has the blocks back
	file   *os.File      // set before ready is closed; nil if that failed

	ctx    context.Context // ends with the entry
	cancel context.CancelFunc

	// Guarded by Spool.mu.
	id       string
	reserved int64 // bytes of the budget
	created  time.Time
	left     time.Time // when the last reader left
	idle     *list.Element
	readers  []*Reader
	ended    error     // why the entry is out of the index; set once
	freeing  bool      // somebody is on the way to free it
	running  bool      // the fill goroutine is there
	more     sync.Cond // of workers without a chunk to take
	fillState
	held    []heldChunk // the chunks of a window
	chunksN int64       // how many chunks are in have
	spooled int64       // bytes in have
}

// heldChunk is a chunk in a window.
type heldChunk struct {
	chunk int64
	// passedAt is how much the reader had read in all when it was done with the chunk; -1 before.
	passedAt int64
}

// unusedLocked tells, once, that nothing uses the ended entry any more: the caller must free it.
func (e *entry) unusedLocked() bool {
	if e.ended == nil || len(e.readers) > 0 || e.running || e.freeing {
		return false
	}
	e.freeing = true
	return true
}

func (e *entry) complete() bool { return e.chunkSize > 0 && e.chunksN == e.chunks() }

// available returns how many consecutive bytes from off, and below end, are spooled.
func (e *entry) available(off, end int64) int64 {
	if e.chunkSize == 0 {
		return 0
	}
	run := e.have.runEnd(e.chunkAt(off), e.chunkAt(end-1)+1)
	return max(0, min(run*e.chunkSize, end)-off)
}

// awaitLocked registers r as waiting for the chunk at its position and sees to it that somebody decodes it.
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
	case e.ended != nil:
	case e.running:
		e.more.Broadcast()
	default:
		e.running = true
		s.tasks.Go(func() { s.fill(e) })
	}
}

// fill decodes e until it is complete, or ended, or nobody has read it for the
// linger time. It starts over if a reader began to wait while it ended.
func (s *Spool) fill(e *entry) {
	for again := true; again; {
		src, err := e.open(e.ctx)
		if err == nil {
			if err = s.adopt(e, src); err == nil {
				var others sync.WaitGroup
				for range min(int64(s.cfg.Workers), e.chunks()) - 1 {
					others.Go(func() { s.work(e, src) })
				}
				s.work(e, src)
				others.Wait()
			}
			src.Close()
		}
		s.mu.Lock()
		if err != nil {
			s.openFailedLocked(e, err)
		}
		again = e.ended == nil && e.awaitedLocked()
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

// awaitedLocked tells whether a reader waits.
func (e *entry) awaitedLocked() bool {
	for _, r := range e.readers {
		if r.waiting != 0 {
			return true
		}
	}
	return false
}

// openFailedLocked tells the waiting readers why nothing can be decoded. An entry that
// holds nothing ends with that.
func (s *Spool) openFailedLocked(e *entry, err error) {
	if e.ended != nil {
		return
	}
	s.totals.Failed++
	for _, r := range e.readers {
		if r.waiting != 0 {
			r.waiting, r.err = 0, err
			r.wakeLocked()
		}
	}
	if e.chunksN == 0 {
		s.endLocked(e, err)
	}
}

// adopt takes the file's layout from its source.
func (s *Spool) adopt(e *entry, src Source) error {
	chunkSize := src.ChunkSize()
	if src.Size() != e.size || chunkSize <= 0 {
		return fmt.Errorf("spool: the source has %d bytes in chunks of %d, %d bytes were announced", src.Size(), chunkSize, e.size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.chunkSize != 0 {
		if e.chunkSize != chunkSize {
			return fmt.Errorf("spool: the source came back with chunks of %d bytes, not %d", chunkSize, e.chunkSize)
		}
		return nil
	}
	if e.window > 0 && e.window < 2*chunkSize {
		// Two chunks must fit, or decoding waits for the reader and the reader for decoding.
		need := min(e.size, 2*chunkSize+e.lag)
		if s.reserved-e.reserved+need > s.cfg.Budget {
			return ErrFull
		}
		s.reserved += need - e.reserved
		e.reserved, e.window = need, 2*chunkSize
	}
	e.chunkSize = chunkSize
	e.have, e.busy, e.bad = newChunkset(e.chunks()), newChunkset(e.chunks()), newChunkset(e.chunks())
	return nil
}

// work decodes chunk after chunk of e while there is one to take.
func (s *Spool) work(e *entry, src Source) {
	for {
		c := s.take(e)
		if c < 0 {
			return
		}
		err := src.WriteChunk(e.ctx, c, e.file)
		for errors.Is(err, unix.ENOSPC) && s.evictOldest() {
			err = src.WriteChunk(e.ctx, c, e.file)
		}
		s.done(e, c, err)
	}
}

// take marks the chunk of e to decode next as busy and returns it, or -1 when the worker should go.
func (s *Spool) take(e *entry) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if e.ended != nil || e.complete() || s.pausedLocked(e) {
			return -1
		}
		c := int64(-1)
		if e.window > 0 {
			c = planWindow(&e.fillState, e.readers, e.window)
		} else {
			c = plan(&e.fillState, e.readers)
		}
		if c >= 0 {
			e.busy.add(c)
			return c
		}
		if e.window == 0 {
			return -1 // all others are being decoded, or bad
		}
		e.more.Wait() // for the reader to move
	}
}

// pausedLocked tells whether e has lingered long enough without readers.
func (s *Spool) pausedLocked(e *entry) bool {
	return len(e.readers) == 0 && !time.Now().Before(e.left.Add(s.cfg.Linger))
}

// done books the outcome of decoding chunk c and tells the readers that wait for it.
func (s *Spool) done(e *entry, c int64, err error) {
	s.mu.Lock()
	e.busy.remove(c)
	if err == nil {
		from, to := e.bounds(c)
		e.have.add(c)
		e.chunksN++
		e.spooled += to - from
		s.totals.ChunksWritten++
		s.totals.BytesWritten += to - from
		if e.window > 0 {
			e.held = append(e.held, heldChunk{c, -1})
		} else {
			e.low = e.have.runEnd(e.low, e.chunks())
		}
	} else if e.ended == nil {
		e.bad.add(c)
		s.totals.Failed++
	}
	told := e.ended != nil
	for _, r := range e.readers {
		if r.waiting != 0 && e.chunkAt(r.pos) == c {
			r.waiting, r.err = 0, err
			r.wakeLocked()
			told = true
		}
	}
	e.more.Broadcast()
	s.mu.Unlock()
	if err != nil && !told {
		s.cfg.Log.Warn("decoding ahead of the readers failed", "entry", e.key, "chunk", c, "error", err)
	}
}

// hole is what a window gives back to the disk: extents to punch, and the chunks
// that must not be written meanwhile.
type hole struct {
	extents []Extent
	chunks  []int64
}

// slide moves the window of e to where its reader r is and returns what lies so
// far behind that the kernel has sent it, or nil. Called with Spool.mu held; the chunks of
// the hole are busy until punch.
func (e *entry) slide(r *Reader) *hole {
	if e.chunkSize == 0 {
		return nil
	}
	read := r.read()
	for i := range e.held {
		h := &e.held[i]
		ahead := false
		r.upcoming(e.layout, e.window, func(c int64) bool {
			ahead = c == h.chunk
			return !ahead
		})
		switch {
		case ahead:
			h.passedAt = -1
		case h.passedAt < 0:
			h.passedAt = read
		}
	}
	var gone []int64
	kept := e.held[:0]
	for _, h := range e.held {
		if h.passedAt < 0 || read-h.passedAt < e.lag {
			kept = append(kept, h)
			continue
		}
		from, to := e.bounds(h.chunk)
		e.have.remove(h.chunk)
		e.chunksN--
		e.spooled -= to - from
		gone = append(gone, h.chunk)
	}
	e.held = kept
	if gone == nil {
		return nil
	}
	h := &hole{}
	for _, c := range gone {
		from, to := e.bounds(c)
		h.extents = append(h.extents, Extent{
			e.pageEdge(h, from, c-1, -1),
			e.pageEdge(h, to, c+1, +1),
		})
	}
	for _, c := range gone {
		h.claim(e, c)
	}
	return h
}

// pageEdge moves the edge off of a hole to a page boundary: outwards, in direction
// dir, over bytes of the neighbour chunk, if that holds nothing, and then
// nothing may be written there before the hole is punched; else inwards.
func (e *entry) pageEdge(h *hole, off, neighbour int64, dir int) int64 {
	down := off / pageSize * pageSize
	up := (off + pageSize - 1) / pageSize * pageSize
	if neighbour >= 0 && neighbour < e.chunks() {
		if e.have.has(neighbour) || (e.busy.has(neighbour) && !h.claimed(neighbour)) {
			down, up = up, down
		} else {
			h.claim(e, neighbour)
		}
	}
	if dir < 0 {
		return down
	}
	return up
}

func (h *hole) claimed(c int64) bool {
	for _, b := range h.chunks {
		if b == c {
			return true
		}
	}
	return false
}

func (h *hole) claim(e *entry, c int64) {
	if !h.claimed(c) {
		e.busy.add(c)
		h.chunks = append(h.chunks, c)
	}
}

// punch gives the blocks of h back and lets its chunks be decoded again.
func (s *Spool) punch(e *entry, h *hole) {
	for _, x := range h.extents {
		if err := punch(e.file, x.Off, x.End); err != nil {
			s.cfg.Log.Error("punching a hole into a spool file failed; its window takes more than its share of the disk", "entry", e.key, "error", err)
		}
	}
	s.mu.Lock()
	for _, c := range h.chunks {
		e.busy.remove(c)
	}
	e.more.Broadcast()
	s.mu.Unlock()
}
