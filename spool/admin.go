package spool

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// State is what an entry is doing.
type State string

const (
	Opening  State = "opening"  // asked for, and not yet proven to be there; it holds no space
	Filling  State = "filling"  // being decoded
	Paused   State = "paused"   // in part there; goes on when a reader needs more
	Failed   State = "failed"   // in part there; the rest could not be decoded last time
	Complete State = "complete" // all there
	Window   State = "window"   // a private window of one reader
	Leaving  State = "purged"   // out of the index; its bytes wait for its readers
)

// Entry is what the admin sees of one spooled file.
type Entry struct {
	Key           string // the one that Acquire was given
	ID            string // the key; with a suffix where the entry is not what Acquire would share
	Size          int64  // bytes
	SpooledBytes  int64  // bytes of it that are there
	ReservedBytes int64  // bytes of the budget
	Readers       int
	State         State
	Age           time.Duration // since it was created
	Idle          time.Duration // since the last reader left; 0 while there are readers
	ExpiresIn     time.Duration // until retention ends; < 0: not counting, there are readers
	Err           error         // why something could not be decoded last time; nil if all is well
}

// Totals count since Open.
type Totals struct {
	Hits, Misses  int64 // Acquire joined an entry; it made one, or could not open the file
	Windows       int64 // of the Misses, those that got a private window
	Refused       int64 // Acquire answered ErrFull
	Evicted       int64 // entries given up for others
	Expired       int64 // entries whose retention ended
	Purged        int64 // entries an administrator purged
	Failed        int64 // chunks or sources that could not be had
	ChunksWritten int64
	BytesWritten  int64
}

// Snapshot is the state of the spool at one moment. Bytes count until the kernel has freed them.
type Snapshot struct {
	Entries       []Entry // the longest there first
	BudgetBytes   int64
	ReservedBytes int64
	SpooledBytes  int64
	Totals
}

// Snapshot returns the state of the spool now.
func (s *Spool) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	snap := Snapshot{
		BudgetBytes:   s.cfg.Budget,
		ReservedBytes: s.reserved,
		Totals:        s.totals,
		Entries:       make([]Entry, 0, len(s.entries)),
	}
	for _, p := range s.proofs {
		if p.over {
			continue // an entry is being made of it, or its waiters are told
		}
		snap.Entries = append(snap.Entries, Entry{
			Key: p.key, ID: p.key, Size: p.size, Readers: p.waiting, State: Opening, Age: now.Sub(p.created), ExpiresIn: -1,
		})
	}
	for e := range s.entries {
		snap.SpooledBytes += e.spooledBytes
		snap.Entries = append(snap.Entries, s.describeLocked(e, now))
	}
	slices.SortFunc(snap.Entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.ID, b.ID))
	})
	return snap
}

func (s *Spool) describeLocked(e *entry, now time.Time) Entry {
	d := Entry{
		Key:           e.key,
		ID:            e.id,
		Size:          e.size,
		SpooledBytes:  e.spooledBytes,
		ReservedBytes: e.reserved,
		Readers:       len(e.readers),
		State:         Paused,
		Age:           now.Sub(e.created),
		ExpiresIn:     -1,
		Err:           e.failure,
	}
	if e.idle != nil {
		d.Idle = now.Sub(e.left)
		d.ExpiresIn = max(0, e.left.Add(s.cfg.Retention).Sub(now))
	}
	switch {
	case e.retired != nil:
		d.State = Leaving
	case e.win != nil:
		d.State = Window
	case e.complete():
		d.State = Complete
	case e.running:
		d.State = Filling
	case e.bad.any():
		d.State = Failed
	}
	return d
}

// Purged says what a purge did.
type Purged struct {
	Entries      int
	FreedBytes   int64 // of the budget, given back already
	WaitingBytes int64 // of the budget, given back when the remaining readers leave
}

// Purge takes the entry id out of the spool at once. With idleOnly it spares an entry in use.
// Readers that have all they want spooled may finish; the others are cut. The error matches
// fs.ErrNotExist if there is no such entry.
func (s *Spool) Purge(id string, idleOnly bool) (Purged, error) {
	s.mu.Lock()
	for e := range s.entries {
		if e.id == id {
			s.mu.Unlock()
			return s.purge([]*entry{e}, idleOnly), nil
		}
	}
	s.mu.Unlock()
	return Purged{}, fmt.Errorf("spool: no entry %q: %w", id, fs.ErrNotExist)
}

// PurgeAll is Purge of every entry.
func (s *Spool) PurgeAll(idleOnly bool) Purged {
	s.mu.Lock()
	all := make([]*entry, 0, len(s.entries))
	for e := range s.entries {
		all = append(all, e)
	}
	s.mu.Unlock()
	return s.purge(all, idleOnly)
}

func (s *Spool) purge(entries []*entry, idleOnly bool) Purged {
	var p Purged
	var cuts []func()
	var unread, unused []*entry
	s.mu.Lock()
	for _, e := range entries {
		if idleOnly && len(e.readers) > 0 {
			continue
		}
		if e.retired == nil {
			p.Entries++
			s.totals.Purged++
			for _, r := range e.readers {
				if r.satisfied() {
					continue
				}
				if f := r.cutLocked(ErrPurged); f != nil {
					cuts = append(cuts, f)
				}
			}
			s.retireLocked(e, ErrPurged)
		}
		if len(e.readers) > 0 {
			p.WaitingBytes += e.reserved
			continue
		}
		unread = append(unread, e)
		if e.unusedLocked() {
			unused = append(unused, e)
		}
	}
	s.mu.Unlock()
	for _, f := range cuts {
		f()
	}
	for _, e := range unused {
		s.free(e)
	}
	for _, e := range unread {
		<-e.freed
		p.FreedBytes += e.reserved
	}
	return p
}
