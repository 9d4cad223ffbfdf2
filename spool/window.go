package spool

// window is what an entry has on the disk whose space could not be set aside whole: the chunks in
// front of its one reader. The rest of the file is holes.
//
//  1. A worker takes a chunk only if it lies within ahead, in the order of reading, and only if the
//     window stays within the entry's reservation.
//  2. Wait reports bytes. What is reported cannot go before the reader's next call.
//  3. What is neither within ahead nor reported is punched out: by the reader as it moves, or by a
//     worker that needs the room.
//
// A reader copies what it reads here: see Reader.Sendfile and decision copied-windows.
//
// Guarded by Spool.mu.
type window struct {
	ahead    int64           // bytes of chunks in front of the reader, the one it is in included
	held     map[int64]int64 // bytes on the disk, by chunk: spooled, being written, or tried in vain
	used     int64           // bytes on the disk: those held, and those of the hole being punched
	reported Extent          // what Wait returned to the reader; empty after its next call
	punching bool            // a hole is being punched: one at a time
	unheard  tally           // holes that could not be punched
}

// hole is what a window gives back to the disk: extents to punch, and the chunks that must not be
// written meanwhile. It belongs to whoever punches it.
type hole struct {
	extents []Extent
	chunks  []int64
	bytes   int64
}

// minAhead is how many chunks a window must take ahead of its reader, or decoding and reading would
// take turns: the reader is in one while the next is decoded.
const minAhead = 2

// near returns the chunks that the reader is about to read, as many as the window has room for. The
// one at its position is always among them.
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

// planWindow is plan for a window: nothing outside of what its reader is about to read is worth
// decoding. It returns -1 if there is nothing.
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

// slideLocked takes out of e's window what it need not hold any more. It returns that as a hole,
// whose chunks are busy until it is punched. It returns nil if there is nothing, or another hole is
// under way, or e is retired: then its reader needs all that is there.
func (e *entry) slideLocked(r *Reader) *hole {
	w := e.win
	if e.chunkSize == 0 || w.punching || e.retired != nil {
		return nil
	}
	near := w.near(e.layout, &r.demand)
	h := &hole{}
	for c, bytes := range w.held {
		from, to := e.bounds(c)
		if near[c] || e.busy.has(c) || (w.reported.Off < to && from < w.reported.End) {
			continue
		}
		if e.have.has(c) {
			e.have.remove(c)
			e.spooledChunks--
			e.spooledBytes -= bytes
		}
		h.bytes += bytes
		h.chunks = append(h.chunks, c)
		delete(w.held, c)
	}
	if h.chunks == nil {
		return nil
	}
	for _, c := range h.chunks[:len(h.chunks):len(h.chunks)] {
		from, to := e.bounds(c)
		h.extents = append(h.extents, Extent{e.holeStartLocked(h, from), e.holeEndLocked(h, to)})
	}
	for _, c := range h.chunks {
		e.busy.add(c)
	}
	w.punching = true
	return h
}

// holeStartLocked moves the start off of a chunk in h to a page boundary: down, if the
// chunks that share its page hold nothing, else up.
func (e *entry) holeStartLocked(h *hole, off int64) int64 {
	if page := pageDown(off); page == off || e.annexLocked(h, page, off) {
		return page
	}
	return pageUp(off)
}

// holeEndLocked moves the end off of a chunk in h to a page boundary: up, if the
// chunks that share its page hold nothing, else down.
func (e *entry) holeEndLocked(h *hole, off int64) int64 {
	if page := pageUp(off); page == off || e.annexLocked(h, off, min(page, e.size)) {
		return page
	}
	return pageDown(off)
}

// annexLocked adds the chunks within [from, to) to h, so that nothing is written there before h is
// punched. If one of them holds something it adds none, and returns false.
func (e *entry) annexLocked(h *hole, from, to int64) bool {
	if from >= to {
		return true // the end of the file
	}
	first, last := e.chunkAt(from), e.chunkAt(to-1)
	for c := first; c <= last; c++ {
		if e.win.held[c] != 0 {
			return false
		}
	}
	for c := first; c <= last; c++ {
		h.chunks = append(h.chunks, c)
	}
	return true
}

// giveBack gives the blocks of h back and lets its chunks be decoded again.
func (s *Spool) giveBack(e *entry, h *hole) {
	var failure error
	for _, x := range h.extents {
		if err := s.punch(e.file, x.Off, x.End); err != nil {
			failure = err
		}
	}
	s.mu.Lock()
	for _, c := range h.chunks {
		e.busy.remove(c)
	}
	e.win.used -= h.bytes
	e.win.punching = false
	e.more.Broadcast()
	logs := failure != nil && e.win.unheard.add()
	failures := e.win.unheard.failures
	s.mu.Unlock()
	if logs {
		s.cfg.Log.Error("punching a hole into a spool file failed; its window takes more than its share of the disk",
			"entry", e.key, "failures", failures, "error", failure)
	}
}

// advanceLocked moves the window of e to where its reader r now is, and gives back what that leaves
// behind, for which it unlocks.
func (s *Spool) advanceLocked(e *entry, r *Reader) {
	e.win.reported = Extent{}
	if h := e.slideLocked(r); h != nil {
		s.mu.Unlock()
		s.giveBack(e, h)
		s.mu.Lock()
	}
	e.more.Broadcast()
}

// takeWindowLocked is takeLocked for a window. It returns -1 after having waited, or unlocked, or
// changed something: e must be looked at anew.
func (s *Spool) takeWindowLocked(e *entry) int64 {
	w, r := e.win, e.readers[0] // a window whose reader has left is retired
	c := planWindow(&e.fillState, w, &r.demand)
	if c < 0 {
		e.more.Wait() // for the reader to move
		return -1
	}
	need := e.length(c) - w.held[c]
	if w.used+need > e.reserved {
		if h := e.slideLocked(r); h != nil {
			s.mu.Unlock()
			s.giveBack(e, h)
			s.mu.Lock()
			return -1
		}
		e.more.Wait() // for the reader to move, or for what can go when it has been written
		return -1
	}
	w.used += need
	w.held[c] += need
	e.busy.add(c)
	return c
}
