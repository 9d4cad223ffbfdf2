package spool

import "slices"

// readAhead is how many chunks, at least, in front of a reader are decoded before gaps elsewhere in
// the file. See decision chunks-and-runs.
const readAhead = 8

// giveUpAfter is how many chunks must fail in a row for the fill to try nothing any more but what a
// reader waits for. The next chunk that is decoded has the fill go on. Of a file that cannot be had
// not every chunk need fail, one after the other; a single bad place is passed over.
const giveUpAfter = 8

// aLook is how many bytes of a file, at most, somebody may ask for who only wants to know what it
// is, such as the program that makes a preview of a link. A sixteenth of a small file is one too.
const aLook = 256 << 10

// layout is how a file divides into chunks.
type layout struct {
	size      int64 // bytes; never changes
	chunkSize int64 // bytes; 0 until the Source is known, then it never changes
}

func (l layout) chunks() int64           { return (l.size-1)/l.chunkSize + 1 }
func (l layout) chunkAt(off int64) int64 { return off / l.chunkSize }

// bounds returns the bytes [from, to) of chunk i.
func (l layout) bounds(i int64) (from, to int64) {
	from = i * l.chunkSize
	return from, from + l.length(i)
}

func (l layout) length(i int64) int64 { return min(l.chunkSize, l.size-i*l.chunkSize) }

// demand is what one reader asks for. Guarded by Spool.mu.
type demand struct {
	pos     int64    // the byte it is at
	wants   []Extent // what it will read, in order; the first one holds pos
	waiting uint64   // when it began to wait for the chunk at pos, as a number; 0: it does not wait
}

// upcoming calls yield for each chunk that d will read, in the order of reading, until yield
// returns false. A chunk may come up again where extents share it. The chunk at pos always comes
// first, wanted or not.
func (d *demand) upcoming(l layout, yield func(chunk int64) bool) {
	last, off := l.chunkAt(d.pos), d.pos
	if !yield(last) {
		return
	}
	for _, w := range d.wants {
		off = max(off, w.Off)
		for off < w.End {
			c := l.chunkAt(off)
			if c != last && !yield(c) {
				return
			}
			last = c
			_, off = l.bounds(c)
		}
		off = 0
	}
}

// fillState is what plan knows of an entry's chunks. Guarded by Spool.mu.
type fillState struct {
	layout
	have chunkset // spooled
	busy chunkset // being decoded, or being given back to the disk
	bad  chunkset // failed last time; tried again only when a reader comes for it
	low  int64    // every chunk below is in have; of no meaning in a window
	run  int64    // how many consecutive chunks are decoded fastest at once
	// ahead is how many chunks in front of a reader come before gaps elsewhere.
	ahead int
	// onlyWanted: nobody has asked for more than a look at the file, so its gaps stay.
	onlyWanted bool
	// onlyAwaited: so much has failed that only chunks are decoded that a reader waits for.
	onlyAwaited bool
}

func (f *fillState) missing(c int64) bool {
	return !f.have.has(c) && !f.busy.has(c) && !f.bad.has(c)
}

// plan returns the chunks to decode next, the first one and how many. It knows no clock and no
// lock.
//
//  1. What a reader waits for, the longest waiting first.
//  2. What lies closest in front of any reader, within ahead.
//  3. The lowest gap, but not while a reader waits and nobody wants what is in it. Then that
//     reader's chunk is under way, and the gap would only take from the machine.
//  4. 0 chunks if there is none of these: every other one is spooled, under way or bad.
//
// With onlyWanted the third does not count, and with onlyAwaited only the first does. See decision
// chunks-and-runs.
func plan(f *fillState, readers []*Reader) (c, n int64) {
	if f.onlyAwaited {
		return planAwaited(f, readers)
	}
	if c = planFirst(f, readers); c < 0 {
		return 0, 0
	}
	return c, planRun(f, readers, c)
}

// planAwaited is plan when nothing but what a reader waits for is tried.
func planAwaited(f *fillState, readers []*Reader) (c, n int64) {
	var longest uint64
	for _, r := range readers {
		at := f.chunkAt(r.pos)
		if r.waiting != 0 && (longest == 0 || r.waiting < longest) && f.missing(at) {
			c, n, longest = at, 1, r.waiting
		}
	}
	return c, n
}

// planRun returns how many chunks from c on to decode at once. A reader that waits somewhere new
// gets its chunk alone, as that is there sooner. What lies in front of it is decoded alone
// meanwhile, as that takes less from the machine. What is wanted is not decoded with what is not.
func planRun(f *fillState, readers []*Reader, c int64) int64 {
	n := int64(1)
	somewhereNew := func(r *Reader) bool {
		at := f.chunkAt(r.pos)
		return r.waiting != 0 && at <= c && c <= at+readAhead && (at == 0 || !f.have.has(at-1))
	}
	if f.run == 1 || slices.ContainsFunc(readers, somewhereNew) {
		return n
	}
	wanted := f.wanted(readers, c)
	for n < f.run && c+n < f.chunks() && f.missing(c+n) && (!wanted || f.wanted(readers, c+n)) {
		n++
	}
	return n
}

// wanted tells whether a reader has yet to read something of chunk c.
func (f *fillState) wanted(readers []*Reader, c int64) bool {
	from, to := f.bounds(c)
	return slices.ContainsFunc(readers, func(r *Reader) bool {
		off := r.pos
		for _, w := range r.wants {
			if max(off, w.Off, from) < min(w.End, to) {
				return true
			}
			off = 0
		}
		return false
	})
}

func planFirst(f *fillState, readers []*Reader) int64 {
	if c := planDemand(f, readers); c >= 0 || f.onlyWanted {
		return c
	}
	for c, n := f.low, f.chunks(); c < n; {
		if c = f.have.runEnd(c, n); c < n && f.missing(c) {
			if slices.ContainsFunc(readers, func(r *Reader) bool { return r.waiting != 0 }) && !f.wanted(readers, c) {
				return -1
			}
			return c
		}
		c++
	}
	return -1
}

func planDemand(f *fillState, readers []*Reader) int64 {
	const none = -1
	best, bestDistance, bestWaiting := int64(none), 0, uint64(0)
	for _, r := range readers {
		distance := 0
		r.upcoming(f.layout, func(c int64) bool {
			if distance > f.ahead || (best != none && bestDistance < distance) {
				return false // far away, or another reader needs its chunk sooner
			}
			if !f.missing(c) {
				distance++
				return true
			}
			var waiting uint64 // of those at distance 0 the waiting come first
			if distance == 0 {
				waiting = r.waiting
			}
			switch {
			case best == none, distance < bestDistance,
				waiting != 0 && (bestWaiting == 0 || waiting < bestWaiting):
				best, bestDistance, bestWaiting = c, distance, waiting
			}
			return false
		})
	}
	return best
}
