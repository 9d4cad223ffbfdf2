// Package grid says what Spillway needs of a storage server. Each kind of
// server has a package of its own below this one.
package grid

import (
	"context"
	"encoding/base32"
	"errors"
	"io"
)

// StorageIndex names the shares of one file on every server (16 bytes; see
// Tahoe-LAFS docs/specifications/file-encoding.rst). It is not secret: it
// grants no reading.
type StorageIndex [16]byte

// String returns the 26 characters of lower-case base32 that servers use.
func (si StorageIndex) String() string { return Base32(si[:]) }

// encoding is Tahoe-LAFS's: RFC 4648's alphabet in lower case, unpadded
// (src/allmydata/util/base32.py).
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Base32 returns b as Tahoe-LAFS writes it: storage indexes, keys, seeds and secrets.
func Base32(b []byte) string { return encoding.EncodeToString(b) }

var errBase32 = errors.New("not base32 in lower case")

// ParseBase32 is the inverse of Base32, and strict: there is one text for each sequence of
// bytes. The error quotes nothing of the text, which may be a secret.
func ParseBase32(text string) ([]byte, error) {
	b, err := encoding.DecodeString(text)
	if err != nil || Base32(b) != text {
		return nil, errBase32
	}
	return b, nil
}

// Server is one storage server. Its methods may be called concurrently.
// A Server keeps no connection or file open between calls that it does not
// close in Close.
type Server interface {
	// String names the server in logs and messages; it holds no secret.
	String() string
	// Shares returns the share numbers that the server holds complete of si, in
	// no particular order: an empty slice, not an error, when it holds none. The
	// context bounds the whole call.
	Shares(ctx context.Context, si StorageIndex) ([]int, error)
	// Open opens share num of si for reading. The error matches fs.ErrNotExist
	// when the server does not hold it, and ErrCorrupt when it holds the share in a
	// container that cannot be read; a server that is far away may say so only when
	// the Share is read. The context bounds only the opening. The caller closes the Share.
	Open(ctx context.Context, si StorageIndex, num int) (Share, error)
	// Create begins writing share num of si, size bytes long and more than none,
	// and leases it. The share becomes visible to Shares only when the Upload is
	// committed. The error matches fs.ErrExist when the server already holds the share,
	// complete. The context bounds the upload to its end, save Abort.
	Create(ctx context.Context, si StorageIndex, num int, size int64, lease Lease) (Upload, error)
	// Close drops what is kept for further calls. Shares and Uploads have been closed.
	Close() error
}

// CorruptionReporter is a Server whose operator can be told of a bad share.
type CorruptionReporter interface {
	// ReportCorrupt advises that share num of si is not what its uploader made.
	// Reason is text for people; it is cut where the server takes no more. That the
	// server does not hold the share any longer is no error. May be called concurrently.
	ReportCorrupt(ctx context.Context, si StorageIndex, num int, reason string) error
}

// Node is a Server that is a Tahoe-LAFS storage node.
type Node interface {
	// NodeID names the node once it has been connected to. May be called concurrently.
	NodeID() (id NodeID, known bool)
}

// Describer is a Server that can say more of itself than that it answers.
type Describer interface {
	// Describe asks the server what it is. May be called concurrently.
	Describe(ctx context.Context) (Description, error)
}

// Description is what a server says of itself.
type Description struct {
	Software string // in one line, such as "tahoe-lafs/1.20.0"; "" if it does not tell
	Free     int64  // bytes that it can take; -1 if it does not tell
}

// Connector is a Server that is reached by connections, which end when nobody uses them for some
// time.
type Connector interface {
	// Connect makes the connections that the first requests for a file need, or uses them if they
	// are there. May be called concurrently.
	Connect(ctx context.Context) error
}

// Meter is a Server that knows how much comes from it.
type Meter interface {
	// Received returns how many bytes have come from the server so far, those of answers under way
	// too. May be called concurrently.
	Received() int64
}

// Share reads the bytes of one share, as chk lays them out, without the
// storage container around it. Its methods may be called concurrently.
type Share interface {
	// ReadAt fills bufs, one after the other, from the consecutive bytes that
	// start at off, and returns the number of bytes read. It is one request to
	// the server. At the share's end it returns what there was, and io.EOF if
	// that is less than bufs hold. When the context ends it returns soon, and
	// once it has returned it touches bufs no more.
	ReadAt(ctx context.Context, off int64, bufs ...[]byte) (int, error)
	// Size is the share's length in bytes, or -1 if the server does not tell.
	Size() int64
	io.Closer
}

// Upload writes one share.
type Upload interface {
	// WriteAt writes a region of the share and returns when the server has it, save for what is
	// kept for Commit. It may be called concurrently: to be faster than one region for each round
	// trip, which is what makes a server that is far away slow. Regions may come in any order, each
	// byte once. It returns an error when the server has taken nothing for about half a minute, and
	// soon when the upload's context ends. P is the caller's again when it has returned.
	io.WriterAt
	// Commit makes the share visible, whole, or returns why it could not, save
	// that when an answer is lost the share may be there. No WriteAt is under way.
	Commit() error
	// Abort discards the share, within seconds even if the server is gone; after
	// Commit it does nothing. No WriteAt is under way.
	Abort() error
}
