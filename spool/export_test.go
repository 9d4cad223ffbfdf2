package spool

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const PageSize = pageSize

var (
	CreateAllocated = createAllocated
	IsFull          = isFull
)

// SetCreate replaces what makes the spool files, before the first Acquire.
func (s *Spool) SetCreate(create func(dir string, size int64) (*os.File, error)) { s.create = create }

// SetPunch replaces what punches holes, before the first Acquire.
func (s *Spool) SetPunch(punch func(f *os.File, from, to int64) error) { s.punch = punch }

// DisallowHoles makes s as if the file system could not punch, before the first Acquire.
func (s *Spool) DisallowHoles() { s.canPunch = false }

// Private tells whether the reader has a window to itself.
func (r *Reader) Private() bool { return r.e.win != nil }

// SpoolFile is the file that the fill writes.
func (r *Reader) SpoolFile() *os.File { return r.e.file }

// Reserved is what the reader's entry has of the budget.
func (r *Reader) Reserved() int64 {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.e.reserved
}

// Chunkset is chunkset with exported methods.
type Chunkset struct{ set chunkset }

func NewChunkset(n int64) Chunkset           { return Chunkset{newChunkset(n)} }
func (s Chunkset) Has(i int64) bool          { return s.set.has(i) }
func (s Chunkset) Add(i int64)               { s.set.add(i) }
func (s Chunkset) Remove(i int64)            { s.set.remove(i) }
func (s Chunkset) RunEnd(i, end int64) int64 { return s.set.runEnd(i, end) }
func (s Chunkset) Any() bool                 { return s.set.any() }

const ReadAhead = readAhead

// PlanState is what plan and planWindow decide on.
type PlanState struct {
	Size, ChunkSize int64
	Have, Busy, Bad []int64
	Readers         []PlanReader
	Ahead           int64 // of the first reader's window
	Run             int64 // 0 is 1
	OnlyAwaited     bool
}

// PlanReader is a reader as plan sees it.
type PlanReader struct {
	Pos     int64
	Wants   []Extent
	Waiting uint64
}

func (p PlanState) state() (*fillState, []*Reader) {
	f := &fillState{layout: layout{p.Size, p.ChunkSize}, run: max(1, p.Run), ahead: readAhead, onlyAwaited: p.OnlyAwaited}
	n := f.chunks()
	f.have, f.busy, f.bad = newChunkset(n), newChunkset(n), newChunkset(n)
	for _, c := range p.Have {
		f.have.add(c)
	}
	for _, c := range p.Busy {
		f.busy.add(c)
	}
	for _, c := range p.Bad {
		f.bad.add(c)
	}
	f.low = f.have.runEnd(0, n)
	var readers []*Reader
	for _, r := range p.Readers {
		readers = append(readers, &Reader{demand: demand{pos: r.Pos, wants: r.Wants, waiting: r.Waiting}})
	}
	return f, readers
}

// Next is plan's first chunk, or -1.
func (p PlanState) Next() int64 {
	if c, n := plan(p.state()); n > 0 {
		return c
	}
	return -1
}

// NextRun is plan.
func (p PlanState) NextRun() (c, n int64) { return plan(p.state()) }

// NextInWindow is planWindow.
func (p PlanState) NextInWindow() int64 {
	f, readers := p.state()
	return planWindow(f, &window{ahead: p.Ahead}, &readers[0].demand)
}

// Upcoming is what upcoming yields for the first reader.
func (p PlanState) Upcoming() (chunks []int64) {
	f, readers := p.state()
	readers[0].upcoming(f.layout, func(c int64) bool {
		chunks = append(chunks, c)
		return true
	})
	return chunks
}

// Check looks for anything in the state of s that must never be, whoever is at work.
func (s *Spool) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := int64(0)
	for e := range s.entries {
		sum += e.reserved
		if err := s.checkEntryLocked(e); err != nil {
			return fmt.Errorf("entry %s: %w", e.id, err)
		}
	}
	if sum != s.reserved || sum > s.cfg.Budget {
		return fmt.Errorf("%d bytes are reserved, entries have %d, the budget is %d", s.reserved, sum, s.cfg.Budget)
	}
	for key, e := range s.index {
		if _, ok := s.entries[e]; !ok || e.key != key || e.id != key || e.retired != nil || e.win != nil {
			return fmt.Errorf("the index holds %s, which is no entry to share", e.id)
		}
	}
	var before *entry
	for el := s.idle.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.idle != el || len(e.readers) > 0 || e.retired != nil || s.index[e.key] != e {
			return fmt.Errorf("the idle list holds %s, which is not idle", e.id)
		}
		if before != nil && e.left.Before(before.left) {
			return fmt.Errorf("%s left before %s, but is behind it in the idle list", e.id, before.id)
		}
		before = e
	}
	return nil
}

func (s *Spool) checkEntryLocked(e *entry) error {
	unread := len(e.readers) == 0
	switch {
	case e.retired == nil && e.win == nil && s.index[e.key] != e:
		return fmt.Errorf("lives outside the index")
	case e.retired == nil && unread != (e.idle != nil):
		return fmt.Errorf("%d readers, but idle is %v", len(e.readers), e.idle != nil)
	case e.retired != nil && e.idle != nil:
		return fmt.Errorf("has ended and is idle")
	case e.freeing && (e.retired == nil || !unread || e.running):
		return fmt.Errorf("is being freed in use: ended %v, %d readers, running %v", e.retired, len(e.readers), e.running)
	case e.retired != nil && unread && !e.running && !e.freeing:
		return fmt.Errorf("has been left behind: nobody will free it")
	case e.win != nil && len(e.readers) > 1:
		return fmt.Errorf("a private window has %d readers", len(e.readers))
	}
	for i, r := range e.readers {
		if r.place != i || r.e != e {
			return fmt.Errorf("reader %d believes to be %d", i, r.place)
		}
		if r.waiting == 0 {
			continue
		}
		if e.retired != nil || !e.running {
			return fmt.Errorf("reader %d waits for nobody: ended %v, running %v", i, e.retired, e.running)
		}
		if c := e.chunkSize; c != 0 && (e.have.has(r.pos/c) || e.bad.has(r.pos/c)) {
			return fmt.Errorf("reader %d waits for chunk %d, which is there or failed", i, r.pos/c)
		}
	}
	if e.chunkSize == 0 {
		return nil
	}
	count, spooled := int64(0), int64(0)
	for c := range e.chunks() {
		if e.have.has(c) {
			from, to := e.bounds(c)
			count, spooled = count+1, spooled+to-from
		}
		if e.have.has(c) && (e.busy.has(c) || e.bad.has(c)) {
			return fmt.Errorf("chunk %d is there and not there", c)
		}
	}
	if count != e.spooledChunks || spooled != e.spooledBytes {
		return fmt.Errorf("counts %d chunks of %d bytes, has %d of %d", e.spooledChunks, e.spooledBytes, count, spooled)
	}
	if e.win != nil {
		return e.checkWindowLocked()
	}
	if want := e.have.runEnd(0, e.chunks()); e.low != want {
		return fmt.Errorf("low is %d, not %d", e.low, want)
	}
	return nil
}

func (e *entry) checkWindowLocked() error {
	w := e.win
	sum := int64(0)
	for c, bytes := range w.held {
		if bytes != e.length(c) {
			return fmt.Errorf("holds %d bytes of chunk %d", bytes, c)
		}
		sum += bytes
	}
	for c := range e.chunks() {
		if e.have.has(c) && w.held[c] == 0 {
			return fmt.Errorf("has chunk %d, but does not hold it", c)
		}
		if e.busy.has(c) && w.held[c] == 0 && !w.punching {
			return fmt.Errorf("chunk %d is busy, but nothing is done to it", c)
		}
	}
	switch {
	case sum > w.used || (!w.punching && sum != w.used):
		return fmt.Errorf("counts %d bytes on the disk, holds %d, punching %v", w.used, sum, w.punching)
	case w.used > e.reserved:
		return fmt.Errorf("%d bytes on the disk, %d reserved", w.used, e.reserved)
	}
	if e.freeing || e.file == nil {
		return nil
	}
	// Edges of pages that neighbours share, and the file system's own blocks.
	slack := int64(2*len(w.held)+8) * pageSize
	if disk := diskBytes(e.file); disk > w.used+slack {
		return fmt.Errorf("%d bytes on the disk, %d counted", disk, w.used)
	}
	return nil
}

func diskBytes(f *os.File) int64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		panic(err)
	}
	return st.Blocks * 512
}

// DiskBytes is how many bytes of the disk the reader's file takes.
func (r *Reader) DiskBytes() int64 { return diskBytes(r.e.file) }

// States lists the state of each entry by id, sorted.
func (s *Spool) States() []string {
	var states []string
	for _, e := range s.Snapshot().Entries {
		states = append(states, fmt.Sprintf("%s %s %d", e.ID, e.State, e.SpooledBytes))
	}
	slices.Sort(states)
	return states
}

// Refusals returns how many files are remembered that could not be opened.
func (s *Spool) Refusals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.refusals)
}
