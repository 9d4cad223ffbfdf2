package spool

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"spillway/spool/nameless"
)

var (
	// ErrFull: neither the budget nor the disk can take even a sliding window
	// now; they can when readers of other files have left.
	ErrFull = errors.New("spool: no space within the budget while other downloads run")
	// ErrPurged: an administrator purged the file under the reader.
	ErrPurged = errors.New("spool: purged by an administrator")
	// ErrClosed: the spool is shutting down.
	ErrClosed = errors.New("spool: closed")
	// ErrInMemory: Config.Dir lies on a file system that lives in memory.
	ErrInMemory = errors.New("spool: the directory lies in memory (tmpfs), where spooled files would be memory again")
)

// errUnused retires an entry that nobody reads: it is evicted, or its retention has ended, or it is
// a private window whose reader has left.
var errUnused = errors.New("spool: given up while nobody read it")

// Source yields one file's verified bytes in chunks. Its methods are called concurrently, but for
// Close, which is called once, when all other calls have returned.
type Source interface {
	Size() int64      // bytes; the same as Acquire was told
	ChunkSize() int64 // bytes, > 0; chunk i starts at i*ChunkSize; the last may be shorter
	Pace
	// WriteChunks writes the bytes of the n chunks from i on into w, at their offset in the file.
	// n is at most what Run has ever returned. If it fails, nothing that it wrote counts, and each
	// chunk of several is tried by itself. The context ends when nobody needs the file any more.
	WriteChunks(ctx context.Context, i, n int64, w io.WriterAt) error
	Close() error
}

// OpenFunc opens the Source of a file, in the background. It is called when somebody acquires a
// file that is not spooled, and again when a fill that had paused goes on. The context bounds only
// the opening: it ends when nobody waits for that any more, or the entry is retired.
type OpenFunc func(ctx context.Context) (Source, error)

// Config sets the limits of a Spool. None of them may be negative.
type Config struct {
	Dir        string // directory of the spool files; "" means nameless.DefaultDir
	AllowTmpfs bool   // accept a Dir that lies in memory
	Budget     int64  // bytes of disk for all files, at least one
	// Retention is how long a file outlives its last reader. With 0 it goes with that reader, and
	// its fill with it. Readers that come while another one is there share the file all the same.
	// Who comes later, be it to resume or after a look at the first byte, has it decoded anew.
	Retention time.Duration
	Linger    time.Duration // how long a fill outlives its last reader, at most Retention; 0: 1 min
	Window    int64         // bytes that a private window holds in front of its reader; 0: 8 MiB
	Log       *slog.Logger  // nil discards
}

const (
	// A browser that resumes, or a player that seeks, is back within a minute and finds its fill
	// at work. Whoever has left for good costs no more than that.
	defaultLinger = time.Minute
	// A few chunks of about a megabyte, so that decoding and reading do not take turns.
	// See decision chunks-and-runs.
	defaultWindow = 8 << 20
)

// check returns an error that matches fs.ErrInvalid if a field has no meaning.
func (c Config) check() error {
	switch {
	case c.Budget <= 0:
		return fmt.Errorf("spool: a budget of %d bytes holds no file: %w", c.Budget, fs.ErrInvalid)
	case c.Retention < 0:
		return fmt.Errorf("spool: a retention of %v is negative: %w", c.Retention, fs.ErrInvalid)
	case c.Linger < 0:
		return fmt.Errorf("spool: a linger time of %v is negative: %w", c.Linger, fs.ErrInvalid)
	case c.Window < 0:
		return fmt.Errorf("spool: a window of %d bytes is negative: %w", c.Window, fs.ErrInvalid)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Dir == "" {
		c.Dir = nameless.DefaultDir()
	}
	if c.Linger == 0 {
		c.Linger = defaultLinger
	}
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Spool is a set of spooled files within a budget. Its methods may be called concurrently.
type Spool struct {
	// Set by Open.
	cfg      Config
	canPunch bool // the directory's file system punches holes
	create   func(dir string, size int64) (*os.File, error)
	punch    func(f *os.File, from, to int64) error
	ctx      context.Context // ends when Close begins
	cancel   context.CancelFunc

	tasks sync.WaitGroup // fills and the reaper
	soon  chan struct{}  // tells the reaper that there is something to watch again

	mu     sync.Mutex // guards all below, and of every entry and Reader what they say; see doc.go
	closed bool
	// See decision own-index-not-ristretto.
	index    map[string]*entry   // by key: what Acquire may share
	proofs   map[string]*proof   // by key: what is being opened for those who wait in Acquire
	refusals map[string]refusal  // by key: what could not be opened
	idle     *list.List          // of *entry in index without readers, the longest unread first
	entries  map[*entry]struct{} // everything whose bytes are reserved
	reserved int64               // bytes, never above Budget
	waits    uint64              // numbers the waits, to serve them in order
	suffixes uint64              // numbers the entries that are outside the index
	watched  bool                // the reaper knows of idle entries and has set its timer
	totals   Totals
}

// Open checks the directory and starts an empty spool. Errors: fs.ErrInvalid for a limit that has
// no meaning, ErrInMemory, or what the directory lacks.
func Open(cfg Config) (*Spool, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if !cfg.AllowTmpfs {
		switch memory, err := inMemory(cfg.Dir); {
		case err != nil:
			return nil, fmt.Errorf("looking at the spool directory: %w", err)
		case memory:
			return nil, fmt.Errorf("%w: %s", ErrInMemory, cfg.Dir)
		}
	}
	canPunch, err := probe(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{
		cfg:      cfg,
		canPunch: canPunch,
		create:   createAllocated,
		punch:    punch,
		soon:     make(chan struct{}, 1),
		index:    make(map[string]*entry),
		proofs:   make(map[string]*proof),
		refusals: make(map[string]refusal),
		idle:     list.New(),
		entries:  make(map[*entry]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Go(s.reap)
	return s, nil
}

// Close cuts every reader and ends every fill. It returns when the fills have ended, the readers
// are closed and the disk is free. It may be called again.
func (s *Spool) Close() error {
	s.mu.Lock()
	s.closed = true
	var cuts []func()
	var unused, all []*entry
	for e := range s.entries {
		all = append(all, e)
		for _, r := range e.readers {
			if f := r.cutLocked(ErrClosed); f != nil {
				cuts = append(cuts, f)
			}
		}
		s.retireLocked(e, ErrClosed)
		if e.unusedLocked() {
			unused = append(unused, e)
		}
	}
	var sources []Source
	for _, p := range s.proofs {
		if src := p.unwantedLocked(true); src != nil {
			sources = append(sources, src)
		}
	}
	s.mu.Unlock()
	s.cancel()
	for _, src := range sources {
		src.Close()
	}
	for _, f := range cuts {
		f()
	}
	for _, e := range unused {
		s.free(e)
	}
	for _, e := range all {
		<-e.freed
	}
	s.tasks.Wait()
	return nil
}

// Acquire returns a Reader of the file key, which is size bytes long, size > 0. The key is a name
// without secrets, by which the admin sees the file. The size of one key never changes.
//
// Of a file that is not spooled it waits until open has shown that there is one of that size, which
// all who come meanwhile wait for; before that nothing is set aside or given up for it. Then it
// waits for the disk to set the file's space aside. Where that cannot be had even by giving up idle
// files, the Reader gets a private sliding window, which decodes only as far as the reader takes.
// The context bounds the waiting for open alone.
//
// A file that could not be opened is not opened again for a second, and for longer each time; until
// then the error is the same.
//
// Errors: open's, the context's, ErrFull, ErrClosed, fs.ErrInvalid for a size that is not positive,
// or what the disk said.
func (s *Spool) Acquire(ctx context.Context, key string, size int64, open OpenFunc) (*Reader, error) {
	if size <= 0 {
		return nil, fmt.Errorf("spool: acquiring %d bytes: %w", size, fs.ErrInvalid)
	}
	p, err := s.prove(ctx, key, size, open)
	if err != nil {
		return nil, err
	}
	defer s.forget(p)
	private := false
	for {
		r, created, err := s.claim(key, size, open, p, private)
		if err != nil {
			return nil, err
		}
		if !created {
			<-r.e.ready
			if r.e.file != nil {
				return r, nil
			}
			s.leave(r.e, r) // its creator failed; perhaps this call fares better
			continue
		}
		if err = s.createFile(r.e); err == nil {
			return r, nil
		}
		private = r.e.win != nil
		s.leave(r.e, r)
		switch {
		case !isFull(err):
			return nil, err
		case s.makeRoom(nil):
		case private:
			s.count(func(t *Totals) { t.Refused++ })
			return nil, fmt.Errorf("%w: the disk is full", ErrFull)
		default:
			private = true
		}
	}
}

// claim joins the entry of key, or makes a new one, without a file yet. It takes the space for that
// from idle entries where it must.
func (s *Spool) claim(key string, size int64, open OpenFunc, p *proof, private bool) (r *Reader, created bool, err error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, false, ErrClosed
		}
		if e := s.index[key]; e != nil {
			r := s.joinLocked(e)
			s.totals.Hits++
			s.mu.Unlock()
			return r, false, nil
		}
		need := size
		var win *window
		if private {
			need = min(size, s.cfg.Window)
			win = &window{held: make(map[int64]int64)}
		}
		if s.fitsLocked(need) && (!private || s.canPunch) {
			e := s.newEntryLocked(key, size, need, win, open)
			e.src = p.takeLocked()
			r := s.joinLocked(e)
			s.totals.Misses++
			if private {
				s.totals.Windows++
			}
			s.mu.Unlock()
			return r, true, nil
		}
		if v := s.victimLocked(need); v != nil && (!private || s.canPunch) {
			s.evictLocked(v) // unlocks
			continue
		}
		if private {
			s.totals.Refused++
			s.mu.Unlock()
			return nil, false, ErrFull
		}
		private = true
		s.mu.Unlock()
	}
}

// fitsLocked tells whether need bytes more can be reserved. Any size may come here, from whoever
// wrote a capability: a sum could overflow.
func (s *Spool) fitsLocked(need int64) bool { return need <= s.cfg.Budget-s.reserved }

// newEntryLocked reserves need bytes for an entry. Without win it stands for key in the index from
// now on; else it is private.
func (s *Spool) newEntryLocked(key string, size, need int64, win *window, open OpenFunc) *entry {
	e := &entry{
		id:       key,
		key:      key,
		open:     open,
		win:      win,
		reserved: need,
		created:  time.Now(),
		ready:    make(chan struct{}),
		freed:    make(chan struct{}),
	}
	e.layout.size = size
	e.more.L = &s.mu
	e.ctx, e.cancel = context.WithCancel(s.ctx)
	s.entries[e] = struct{}{}
	s.reserved += need
	if win != nil {
		e.id = s.outsideIDLocked(key)
	} else {
		s.index[key] = e
	}
	return e
}

// outsideIDLocked makes an id for an entry of key that the index does not hold.
func (s *Spool) outsideIDLocked(key string) string {
	s.suffixes++
	return key + "~" + strconv.FormatUint(s.suffixes, 10)
}

// createFile gives e its file, or retires e.
func (s *Spool) createFile(e *entry) error {
	allocate := e.size
	if e.win != nil {
		allocate = 0 // its blocks come and go at other offsets
	}
	f, err := s.create(s.cfg.Dir, allocate)
	if err != nil {
		s.mu.Lock()
		s.retireLocked(e, err)
		s.mu.Unlock()
	}
	e.file = f
	close(e.ready)
	return err
}

// joinLocked adds a reader to e.
func (s *Spool) joinLocked(e *entry) *Reader {
	r := &Reader{s: s, e: e, wake: make(chan struct{}, 1), place: len(e.readers)}
	e.readers = append(e.readers, r)
	e.comers++
	if e.idle != nil {
		s.idle.Remove(e.idle)
		e.idle = nil
	}
	return r
}

// leave takes r off e.
func (s *Spool) leave(e *entry, r *Reader) {
	s.mu.Lock()
	last := len(e.readers) - 1
	e.readers[r.place] = e.readers[last]
	e.readers[r.place].place = r.place
	e.readers[last] = nil
	e.readers = e.readers[:last]
	if last == 0 {
		e.left = time.Now()
		switch {
		case e.retired != nil:
		case e.win != nil:
			s.retireLocked(e, errUnused)
		case s.cfg.Retention == 0:
			s.retireLocked(e, errUnused)
			s.totals.Expired++
		default:
			e.idle = s.idle.PushBack(e)
			s.reapLocked()
		}
	}
	unused := e.unusedLocked()
	var src Source
	if last == 0 && !unused && !e.running {
		src, e.src = e.src, nil // nobody has wanted a byte
	}
	s.mu.Unlock()
	if src != nil {
		src.Close()
	}
	if unused {
		s.free(e)
	}
}

// victimLocked returns the entry to give up, or one that is being given up already, so that need
// bytes more fit. It returns nil if they would not fit without all that is idle.
func (s *Spool) victimLocked(need int64) *entry {
	var first *entry
	gain := int64(0)
	for e := range s.entries {
		if len(e.readers) > 0 {
			continue
		}
		gain += e.reserved
		if e.retired != nil {
			first = e
		}
	}
	if need > s.cfg.Budget-(s.reserved-gain) {
		return nil
	}
	if first == nil && s.idle.Len() > 0 {
		first = s.idle.Front().Value.(*entry)
	}
	return first
}

// evictLocked gives up e, which has no readers. It unlocks, and returns when the kernel has the
// blocks.
func (s *Spool) evictLocked(e *entry) {
	if e.retired == nil {
		s.retireLocked(e, errUnused)
		s.totals.Evicted++
	}
	unused := e.unusedLocked()
	s.mu.Unlock()
	if unused {
		s.free(e)
	}
	<-e.freed
}

// makeRoom gives up the entry that has been idle longest, and tells whether there was one.
//
// If e is not nil, it does so for the fill of e, and only if e is read and not retired. So e is not
// the one given up. And fills that make room never wait for one another in a circle: whoever waits
// began before it was given up itself.
func (s *Spool) makeRoom(e *entry) bool {
	s.mu.Lock()
	if s.idle.Len() == 0 || (e != nil && (e.retired != nil || len(e.readers) == 0)) {
		s.mu.Unlock()
		return false
	}
	s.evictLocked(s.idle.Front().Value.(*entry))
	return true
}

// retireLocked takes e out of the index and stops its fill. Readers that lack nothing may go on.
// Retiring it again changes nothing.
func (s *Spool) retireLocked(e *entry, reason error) {
	if e.retired != nil {
		return
	}
	e.retired = reason
	e.cancel()
	if s.index[e.key] == e {
		delete(s.index, e.key)
		e.id = s.outsideIDLocked(e.key)
	}
	if e.idle != nil {
		s.idle.Remove(e.idle)
		e.idle = nil
	}
	for _, r := range e.readers {
		if r.waiting != 0 {
			r.waiting = 0
			r.wakeLocked()
		}
	}
	e.more.Broadcast()
}

// free closes the file of e, which nothing uses any more, and only then gives its bytes back to the
// budget.
func (s *Spool) free(e *entry) {
	if e.src != nil {
		e.src.Close()
	}
	if e.file != nil {
		e.file.Close()
	}
	s.mu.Lock()
	s.reserved -= e.reserved
	delete(s.entries, e)
	s.mu.Unlock()
	close(e.freed)
}

func (s *Spool) count(add func(*Totals)) {
	s.mu.Lock()
	add(&s.totals)
	s.mu.Unlock()
}
