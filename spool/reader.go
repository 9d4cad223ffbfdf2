package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// Extent is the bytes [Off, End) of a file.
type Extent struct{ Off, End int64 }

// Reader is one client's view of one file. It pins the entry until Close. One goroutine uses it;
// only the function given to OnCut runs beside it.
type Reader struct {
	// Set by Acquire.
	s *Spool
	e *entry

	// wake holds a token when a wait is over: the chunk is there, err is set, or cut is.
	wake chan struct{}

	// Guarded by s.mu.
	demand
	place  int    // in e.readers
	err    error  // why the awaited chunk could not be had
	cut    error  // why the reader must stop; set once
	onCut  func() // nil when not registered or already called
	closed bool
}

// Size is the file's length in bytes.
func (r *Reader) Size() int64 { return r.e.size }

// Want says which bytes the reader will read, in order. What of them lies outside the file is left
// out. It steers what is decoded first. A reader whose wanted bytes are all spooled survives a
// purge.
//
// The rest of the file is decoded in the background, unless what is wanted is no more than a look
// at it and nobody has come before.
func (r *Reader) Want(extents ...Extent) {
	wants := make([]Extent, 0, len(extents))
	wanted := int64(0) // bytes; an overlap may count twice
	for _, x := range extents {
		if x.Off, x.End = max(x.Off, 0), min(x.End, r.e.size); x.Off < x.End {
			wants = append(wants, x)
			wanted = min(wanted+x.End-x.Off, r.e.size)
		}
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if w := r.e.win; w != nil {
		w.reported = Extent{}
	}
	r.wants = wants
	r.e.earnest = r.e.earnest || r.e.comers > 1 || wanted > min(aLook, r.e.size/16)
	if len(wants) > 0 {
		r.pos = wants[0].Off
	}
	if !r.satisfied() {
		r.s.fillLocked(r.e)
	}
}

// Wait waits until the byte at off is spooled, and returns how many consecutive bytes from off are:
// at least 1, and at most to the end of the wanted extent. It also tells the spool that the reader
// is done with what the last Wait reported, but for what it still wants: a private window may let
// the rest go.
//
// The error is the context's, ErrPurged, ErrClosed, or what ended the decoding of the chunk at off.
// A later Wait has that tried anew, unless the source could not even be opened and nothing is
// spooled. off outside the file is io.EOF.
//
// If the context has ended already, Wait only looks, and has nothing that failed tried anew.
func (r *Reader) Wait(ctx context.Context, off int64) (int64, error) {
	if off < 0 || off >= r.e.size {
		return 0, io.EOF
	}
	s, e := r.s, r.e
	s.mu.Lock()
	r.moveTo(off)
	e.earnest = e.earnest || len(r.wants) == 0 // who does not say what it wants reads on
	if e.win != nil {
		s.advanceLocked(e, r)
	}
	for {
		if r.cut != nil {
			s.mu.Unlock()
			return 0, r.cut
		}
		if n := e.available(off, r.wantEnd()); n > 0 {
			if e.win != nil {
				e.win.reported = Extent{off, off + n}
			}
			s.mu.Unlock()
			return n, nil
		}
		if e.retired != nil {
			s.mu.Unlock()
			return 0, e.retired
		}
		if err := ctx.Err(); err != nil && e.failedAt(off) {
			s.mu.Unlock()
			return 0, err
		}
		s.awaitLocked(r)
		s.mu.Unlock()

		select {
		case <-r.wake:
		case <-ctx.Done():
		}

		s.mu.Lock()
		r.waiting = 0
		select {
		case <-r.wake: // the chunk and the context's end came together
		default:
		}
		if err := r.err; err != nil {
			r.err = nil
			s.mu.Unlock()
			return 0, err
		}
		if err := ctx.Err(); err != nil && r.cut == nil && e.available(off, r.wantEnd()) == 0 {
			e.more.Broadcast() // nothing has to make way for this wait any more
			s.mu.Unlock()
			return 0, err
		}
	}
}

// moveTo puts the reader at off and drops the extents it has left behind.
func (r *Reader) moveTo(off int64) {
	for i, w := range r.wants {
		if off >= w.Off && off < w.End && (i > 0 || off >= r.pos) {
			r.wants = r.wants[i:]
			break
		}
	}
	r.pos = off
}

// wantEnd is where the reader's current extent ends. Where extents overlap, it may already be in a
// later one: the one that ends first.
func (r *Reader) wantEnd() int64 {
	end := r.e.size
	for _, w := range r.wants {
		if r.pos >= w.Off && r.pos < w.End {
			end = min(end, w.End)
		}
	}
	return end
}

// satisfied tells whether everything the reader still wants is spooled.
func (r *Reader) satisfied() bool {
	e := r.e
	off := r.pos
	for _, w := range r.wants {
		off = max(off, w.Off)
		if off < w.End && e.available(off, w.End) < w.End-off {
			return false
		}
		off = 0
	}
	return true
}

// wakeLocked ends the reader's wait.
func (r *Reader) wakeLocked() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// cutLocked makes the reader stop for reason, and returns its OnCut function, to be called without
// the lock.
func (r *Reader) cutLocked(reason error) func() {
	if r.cut != nil {
		return nil
	}
	r.cut = reason
	r.wakeLocked()
	f := r.onCut
	r.onCut = nil
	return f
}

// ReadAt reads from the file, as io.ReaderAt says. Only bytes that Wait has reported may be read;
// in a private window not after the next call of Wait or Want.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.e.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.e.size-off
	if short {
		p = p[:r.e.size-off]
	}
	n, err := r.e.file.ReadAt(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Sendfile lets the kernel send up to n bytes from off, which Wait has reported, to socket, which
// must not block. It returns how many the socket took. It may be fewer, without an error. The error
// is sendfile's, syscall.EAGAIN when the socket took none.
//
// From a private window nothing is sent, and the error is errors.ErrUnsupported: whoever sends it
// copies, with ReadAt. For the kernel does not copy what it sends from a file. Until the client has
// the bytes they are the file's own pages, in the send queue and, where the client is on this
// machine, such as a reverse proxy, in its receive queue as well. A hole zeroes what it covers of a
// page, or of a larger folio: bytes on their way would change. See decision copied-windows.
func (r *Reader) Sendfile(socket int, off, n int64) (int64, error) {
	if r.e.win != nil {
		return 0, errors.ErrUnsupported
	}
	// The offset is given: the descriptor's own belongs to nobody, so all readers share it.
	for {
		sent, err := syscall.Sendfile(socket, int(r.e.file.Fd()), &off, int(min(n, sendfileSize)))
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case sent == 0 && n > 0:
			return 0, io.ErrUnexpectedEOF // the file is shorter than it was made
		default:
			return int64(sent), nil
		}
	}
}

// sendfileSize is how many bytes one system call sends at most. Each returns when the socket is
// full, so it only bounds how long one call keeps a fast client's thread.
const sendfileSize = 4 << 20

// OnCut registers f, to be called once, from another goroutine, when the reader must stop before it
// has all that it wants. From then on Wait fails. If that has already happened, f is called at
// once. A call that began before Close may end after it.
func (r *Reader) OnCut(f func()) {
	r.s.mu.Lock()
	if r.cut == nil {
		r.onCut = f
		f = nil
	}
	r.s.mu.Unlock()
	if f != nil {
		f()
	}
}

// Close unpins the entry, whose retention begins when no other reader is left. Closing twice is an
// error that matches fs.ErrClosed.
func (r *Reader) Close() error {
	s, e := r.s, r.e
	s.mu.Lock()
	if r.closed {
		s.mu.Unlock()
		return fmt.Errorf("spool: closing a reader: %w", fs.ErrClosed)
	}
	r.closed = true
	r.onCut = nil
	s.mu.Unlock()
	s.leave(e, r)
	return nil
}
