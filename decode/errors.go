package decode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"spillway/decode/grid"
)

var (
	// ErrInconsistent: every block is what its uploader said, and yet they do not
	// make the segment that he said. No other shares can help.
	ErrInconsistent = errors.New("decode: the file was uploaded inconsistently: its blocks are right and its segment is not")
	// ErrClosed: the Client or the File is closed.
	ErrClosed = errors.New("decode: closed")
)

// NotEnoughSharesError: fewer than Needed distinct shares could be used. It matches fs.ErrNotExist.
type NotEnoughSharesError struct {
	Needed, Total int
	Found         []SharePlace  // usable shares
	Bad           []SharePlace  // shares that were read and found corrupt
	Failed        []ServerError // servers that did not answer: with them there might be enough
}

func (e *NotEnoughSharesError) Error() string {
	distinct := map[int]bool{}
	for _, p := range e.Found {
		distinct[p.Share] = true
	}
	var b strings.Builder
	fmt.Fprintf(&b, "decode: not enough shares: %d of %d needed, %d usable", e.Needed, e.Total, len(distinct))
	list(&b, "", e.Found)
	list(&b, "; corrupt", e.Bad)
	list(&b, "; failed", e.Failed)
	return b.String()
}

// list writes the first few of the items after a heading.
func list[T fmt.Stringer](b *strings.Builder, heading string, items []T) {
	if len(items) == 0 {
		return
	}
	const few = 12
	b.WriteString(heading)
	separator := ": "
	for _, item := range items[:min(len(items), few)] {
		b.WriteString(separator)
		b.WriteString(item.String())
		separator = ", "
	}
	if more := len(items) - few; more > 0 {
		fmt.Fprintf(b, " and %d more", more)
	}
}

func (e *NotEnoughSharesError) Unwrap() error { return fs.ErrNotExist }

// SharePlace is a share number and the server that holds it.
type SharePlace struct {
	Share  int    `json:"share"`
	Server string `json:"server"`
}

func (p SharePlace) String() string { return fmt.Sprintf("share %d on %s", p.Share, p.Server) }

// ServerError says what a server answered instead of an answer.
type ServerError struct {
	Server string
	Err    error
	When   time.Time // it failed; zero if that is not known
}

// Brief says in a few words to follow the server's name what it did, to people who do not run
// it: no address, path or key is in them.
func (e ServerError) Brief() string {
	var said grid.BriefError
	var network net.Error
	var name *net.DNSError
	switch {
	case errors.As(e.Err, &said):
		return said.Brief()
	case errors.Is(e.Err, errTimeout), errors.Is(e.Err, context.DeadlineExceeded), errors.As(e.Err, &network) && network.Timeout():
		return "timed out"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "refused the connection"
	case errors.As(e.Err, &name):
		return "has an address that nobody knows"
	case errors.Is(e.Err, syscall.EHOSTUNREACH), errors.Is(e.Err, syscall.ENETUNREACH):
		return "could not be reached"
	case errors.Is(e.Err, syscall.ECONNRESET), errors.Is(e.Err, syscall.EPIPE):
		return "cut the connection"
	}
	return "failed"
}

func (e ServerError) Error() string  { return e.Server + ": " + e.Err.Error() }
func (e ServerError) String() string { return e.Error() }
func (e ServerError) Unwrap() error  { return e.Err }

// CorruptShareError: a server gave a share, and it is not what its uploader made.
type CorruptShareError struct {
	StorageIndex grid.StorageIndex
	Share        int
	Server       string
	Part         string // what is wrong: "container", "header", "UEB", "crypttext hash tree", "block hash tree", "share hash chain", "block 17"
	Err          error  // how; may be nil
}

func (e *CorruptShareError) Error() string {
	s := fmt.Sprintf("decode: share %d of %v on %s is corrupt: %s", e.Share, e.StorageIndex, e.Server, e.Part)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *CorruptShareError) Unwrap() error { return e.Err }

// MemoryError: the file cannot be decoded within the memory that the
// configuration allows.
type MemoryError struct {
	What          string // what needs the memory
	Needed, Limit int64  // bytes
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("decode: the file's %s need %d bytes of memory and %d are allowed; --decode-memory sets the limit", e.What, e.Needed, e.Limit)
}

// UnhappyError: a file could not be written to as many servers as it should.
type UnhappyError struct {
	Happy     int           // servers that were each to hold a share of their own
	Reached   int           // servers that would have
	Servers   int           // servers that there are
	Needed    int           // shares without which the file cannot be read
	Shares    int           // distinct shares that there would have been
	Failed    []ServerError // what went wrong
	Discarded []SharePlace  // shares that were begun
	Kept      []SharePlace  // shares that could not be discarded: committed, or the server does not answer
}

func (e *UnhappyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "decode: not enough servers: %d of %d must hold shares of their own, ", e.Happy, e.Servers)
	switch {
	case e.Happy > e.Servers:
		b.WriteString("and there are no more")
	case e.Shares < e.Needed && e.Reached >= e.Happy:
		fmt.Fprintf(&b, "and %d did, but with only %d shares where %d are needed", e.Reached, e.Shares, e.Needed)
	default:
		fmt.Fprintf(&b, "%d would", e.Reached)
	}
	list(&b, "; failed", e.Failed)
	list(&b, "; discarded", e.Discarded)
	list(&b, "; left behind", e.Kept)
	return b.String()
}
