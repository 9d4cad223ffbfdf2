// Package spool keeps verified plaintext in anonymous, unlinked files.
package spool

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"
)

var (
	// ErrFull: the budget or the disk cannot take even a sliding window now;
	// it can when readers of other files have left.
	ErrFull = errors.New("spool: no space within the budget while other downloads run")
	// ErrPurged: an administrator purged the file under the reader.
	ErrPurged = errors.New("spool: purged by an administrator")
	// ErrClosed: the spool is shutting down.
	ErrClosed = errors.New("spool: closed")
)

// Source yields one file's verified bytes in chunks. Spool calls WriteChunk
// concurrently and closes the Source once, after its last call has returned.
type Source interface {
	Size() int64      // bytes; the same as Acquire was told
	ChunkSize() int64 // bytes, > 0; chunk i starts at i*ChunkSize; the last may be shorter
	// WriteChunk writes the bytes of chunk i into w at their offset in the file.
	WriteChunk(ctx context.Context, i int64, w io.WriterAt) error
	Close() error
}

// OpenFunc opens the Source of a file. It is called at most once for each fill,
// in the background; the context ends when the entry does.
type OpenFunc func(ctx context.Context) (Source, error)

type Config struct {
	Dir        string        // directory of the spool files; "" means /var/tmp
	AllowTmpfs bool          // accept a Dir that lies in memory
	Budget     int64         // bytes of disk for all files; 0 means 10 GiB
	Retention  time.Duration // how long a file outlives its last reader; 0 means 2 h
	Linger     time.Duration // how long a fill goes on after its last reader; 0 means 1 min
	Window     int64         // bytes of a private sliding window; 0 means 8 MiB
	Workers    int           // chunks of one file decoded at a time; 0 means GOMAXPROCS
	Log        *slog.Logger  // nil discards
}

type Spool struct{}

func Open(cfg Config) (*Spool, error) { return nil, nil }

// Close cuts every reader, ends every fill and waits for both.
func (s *Spool) Close() error { return nil }

// Acquire returns a Reader of the file key (a name without secrets, by which
// the admin sees it), which is size bytes long. It does not wait for open.
// Errors: ErrFull, ErrClosed, or what the disk said.
func (s *Spool) Acquire(key string, size int64, open OpenFunc) (*Reader, error) { return nil, nil }

// Extent is the bytes [Off, End) of a file.
type Extent struct{ Off, End int64 }

// Reader is one client's view of one file; it pins the entry until Close.
// One goroutine uses it; only Close and the function given to OnCut may run beside it.
type Reader struct{}

func (r *Reader) Size() int64 { return 0 }

// Want says which bytes the reader will read, in order. It steers what is
// decoded first, and a reader whose wanted bytes are all spooled survives a purge.
func (r *Reader) Want(extents ...Extent) {}

// Wait waits until the byte at off is spooled and returns how many consecutive
// bytes from off (at least 1) are. It also tells the spool that the reader
// will not come back to bytes before off of the wanted extents.
// The error is the context's, ErrPurged, ErrClosed, or what ended the fill.
func (r *Reader) Wait(ctx context.Context, off int64) (int64, error) { return 0, nil }

// File returns an open file description of the reader's own, with an offset of
// its own, so that sendfile works. Only bytes that Wait reported may be read. Valid until Close.
func (r *Reader) File() (*os.File, error) { return nil, nil }

// OnCut registers f, to be called once, from another goroutine, when the reader must
// stop before it has all it wants; from then on Wait fails. If that has
// already happened, f is called at once.
func (r *Reader) OnCut(f func()) {}

func (r *Reader) Close() error { return nil }

// Entry is what the admin sees of one spooled file.
type Entry struct {
	ID           string
	Size         int64
	SpooledBytes int64
	Readers      int
	State        string // "filling", "paused", "complete", "window" (private), "purged" (waits for readers)
	Age, Idle    time.Duration
	ExpiresIn    time.Duration // < 0: not counting, readers are there
}

// Snapshot is the state of the spool at one moment. Bytes count until the
// kernel has freed them.
type Snapshot struct {
	Entries       []Entry
	BudgetBytes   int64
	ReservedBytes int64
	SpooledBytes  int64
	// Totals since Open.
	Hits, Misses, Windows, Refused   int64 // outcomes of Acquire
	Evicted, Expired, Purged, Failed int64 // entries
	ChunksWritten, BytesWritten      int64
}

func (s *Spool) Snapshot() Snapshot { return Snapshot{} }

// Purged says what a purge did.
type Purged struct {
	Entries      int
	FreedBytes   int64 // given back already
	WaitingBytes int64 // given back when the remaining readers leave
}

// Purge removes the entry id at once; with idleOnly it spares an entry in use.
// The error matches fs.ErrNotExist if there is none.
func (s *Spool) Purge(id string, idleOnly bool) (Purged, error) { return Purged{}, nil }

// PurgeAll purges every entry, with idleOnly those that nobody reads.
func (s *Spool) PurgeAll(idleOnly bool) Purged { return Purged{} }
