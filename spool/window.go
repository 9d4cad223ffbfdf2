package spool

// window is what an entry has on the disk whose space could not be set aside
// whole: the chunks in front of its one reader, and behind it what the
// kernel may still be sending. The rest of the file is holes.
//
//  1. A worker takes a chunk only if it lies within ahead, in the order of reading,
//     and only if the window stays within the entry's reservation.
//  2. Wait reports bytes. What is reported cannot go: the reader may be sending it.
//  3. The next Wait or Want tells how much of that the reader took. Those bytes stay until the
//     reader has taken lag bytes more: by then the kernel has sent them.
//  4. What is neither within ahead, nor reported, nor behind the reader by less
//     than lag, is punched out: by the reader as it moves, or by a worker that needs the room.
//
// Guarded by Spool.mu.
type window struct {
	ahead    int64                // bytes of chunks in front of the reader, the one it is in included
	lag      int64                // bytes
	held     map[int64]*heldChunk // what has blocks on the disk, by chunk
	used     int64                // bytes on the disk: those held, and those of the hole being punched
	taken    int64                // bytes the reader has taken in all, at least; grows only
	reported Extent               // what the last Wait returned to the reader; empty after the next call
	writing  int                  // chunks being decoded
	punching bool                 // a hole is being punched: one at a time
}

// heldChunk is a chunk of which at least a part has blocks on the disk.
type heldChunk struct {
	bytes  int64  // of the disk
	sent   Extent // what of it the reader took since it was decoded
	sentAt int64  // window.taken after that
}

// hole is what a window gives back to the disk: extents to punch, and the chunks
// that must not be written meanwhile.
type hole struct {
	extents []Extent
	chunks  []int64
	bytes   int64
}

// minAhead is how many chunks a window must take ahead of its reader, or decoding and
// reading would take turns: the reader is in one while the next is decoded.
const minAhead = 2

// near returns the chunks that the reader is about to read, as many as the window has room for; the
// one at its position always.
func (w *window) near(l layout, d *demand) map[int64]bool {
	near := make(map[int64]bool)
	w.eachNear(l, d, func(c int64) bool {
		near[c] = true
		return true
	})
	return near
}

func (w *window) eachNear(l layout, d *demand, yield func(chunk int64) bool) {
	room, first := w.ahead, true
	d.upcoming(l, func(c int64) bool {
		room -= l.length(c)
		if room < 0 && !first {
			return false
		}
		first = false
		return yield(c)
	})
}

// planWindow is plan for a window: nothing outside of what its reader is about to
// read is worth decoding.
func planWindow(f *fillState, w *window, d *demand) int64 {
	next := int64(-1)
	w.eachNear(f.layout, d, func(c int64) bool {
		if f.missing(c) {
			next = c
		}
		return next < 0
	})
	return next
}

// took books what the reader, which is now at off, has taken of what was reported to
// it: at least up to off; or, if it has gone on to an extent that it wanted later, all. If it
// went elsewhere, that is unknown. All of it may be on its way, even then.
func (w *window) took(l layout, off int64, wentOn bool) {
	r := w.reported
	w.reported = Extent{}
	if r.Off >= r.End {
		return
	}
	known := int64(0)
	if off >= r.Off && off <= r.End {
		known = off - r.Off
	} else if wentOn {
		known = r.End - r.Off
	}
	for c := l.chunkAt(r.Off); c <= l.chunkAt(r.End-1); c++ {
		from, to := l.bounds(c)
		from, to = max(from, r.Off), min(to, r.End)
		h := w.held[c]
		if h.sent.Off < h.sent.End {
			h.sent = Extent{min(from, h.sent.Off), max(to, h.sent.End)}
		} else {
			h.sent = Extent{from, to}
		}
		h.sentAt = w.taken + min(to-r.Off, known)
	}
	w.taken += known
}

// slideLocked takes out of e's window what it need not hold any more and returns it as a
// hole, whose chunks are busy until punched; nil if there is nothing, or another
// hole is under way, or e has ended: then its reader needs all that is there.
func (e *entry) slideLocked(r *Reader) *hole {
	w := e.win
	if e.chunkSize == 0 || w.punching || e.ended != nil {
		return nil
	}
	near := w.near(e.layout, &r.demand)
	h := &hole{}
	for c, held := range w.held {
		from, to := e.bounds(c)
		if near[c] || e.busy.has(c) || (w.reported.Off < to && from < w.reported.End) {
			continue
		}
		keep := int64(0)
		if held.sent.Off < held.sent.End && w.taken-held.sentAt < w.lag {
			keep = min(to, pageUp(held.sent.End)) - max(from, pageDown(held.sent.Off))
			if keep >= held.bytes {
				continue
			}
		}
		if e.have.has(c) {
			e.have.remove(c)
			e.chunksN--
			e.spooled -= to - from
		}
		h.bytes += held.bytes - keep
		h.chunks = append(h.chunks, c)
		if held.bytes = keep; keep == 0 {
			delete(w.held, c)
		}
	}
	if h.chunks == nil {
		return nil
	}
	for _, c := range h.chunks[:len(h.chunks):len(h.chunks)] {
		from, to := e.bounds(c)
		from, to = e.holeStart(h, from), e.holeEnd(h, to)
		if held := w.held[c]; held != nil {
			h.extents = append(h.extents,
				Extent{from, pageDown(held.sent.Off)},
				Extent{pageUp(held.sent.End), to})
		} else {
			h.extents = append(h.extents, Extent{from, to})
		}
	}
	for _, c := range h.chunks {
		e.busy.add(c)
	}
	w.punching = true
	return h
}

// holeStart moves the start off of a chunk in h to a page boundary: down, if the
// chunks that share its page hold nothing, else up.
func (e *entry) holeStart(h *hole, off int64) int64 {
	if page := pageDown(off); page == off || e.claim(h, page, off) {
		return page
	}
	return pageUp(off)
}

// holeEnd moves the end off of a chunk in h to a page boundary: up, if the
// chunks that share its page hold nothing, else down.
func (e *entry) holeEnd(h *hole, off int64) int64 {
	if page := pageUp(off); page == off || e.claim(h, off, min(page, e.size)) {
		return page
	}
	return pageDown(off)
}

// claim adds the chunks within [from, to) to h, so that nothing is written there before
// h is punched; false, and none added, if there is something.
func (e *entry) claim(h *hole, from, to int64) bool {
	if from >= to {
		return true // the end of the file
	}
	first, last := e.chunkAt(from), e.chunkAt(to-1)
	for c := first; c <= last; c++ {
		if e.win.held[c] != nil {
			return false
		}
	}
	for c := first; c <= last; c++ {
		h.chunks = append(h.chunks, c)
	}
	return true
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
	e.win.used -= h.bytes
	e.win.punching = false
	e.more.Broadcast()
	s.mu.Unlock()
}

// advanceLocked moves the window of e to where its reader r now is, off, and gives back
// what that leaves behind, for which it unlocks.
func (s *Spool) advanceLocked(e *entry, r *Reader, off int64, wentOn bool) {
	e.win.took(e.layout, off, wentOn)
	if h := e.slideLocked(r); h != nil {
		s.mu.Unlock()
		s.punch(e, h)
		s.mu.Lock()
	}
	e.more.Broadcast()
}

// takeWindowLocked is take for a window. It returns -1 after having waited, or unlocked, or changed
// something: e must be looked at anew.
func (s *Spool) takeWindowLocked(e *entry) int64 {
	w, r := e.win, e.readers[0] // a window whose reader has left has ended
	c := planWindow(&e.fillState, w, &r.demand)
	if c < 0 {
		e.more.Wait() // for the reader to move
		return -1
	}
	held := w.held[c]
	if held == nil {
		held = &heldChunk{}
	}
	need := e.length(c) - held.bytes
	if lack := w.used + need - e.reserved; lack > 0 {
		if h := e.slideLocked(r); h != nil {
			s.mu.Unlock()
			s.punch(e, h)
			s.mu.Lock()
			return -1
		}
		if r.waiting == 0 || e.chunkAt(r.pos) != c || w.writing > 0 || w.punching {
			e.more.Wait() // for the reader to move, or for what can go when it has been written
			return -1
		}
		// Very many short extents, or a reader that keeps to none: the kernel may still be sending them all.
		if !s.fitsLocked(lack) {
			r.waiting, r.err = 0, ErrFull
			r.wakeLocked()
			return -1
		}
		s.reserved += lack
		e.reserved += lack
	}
	w.used += need
	w.writing++
	held.bytes += need
	w.held[c] = held
	e.busy.add(c)
	return c
}
