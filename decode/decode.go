// Package decode turns a capability into verified plaintext.
package decode

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"spillway/decode/grid"
)

// ErrMalformedCap: the text is no capability. It matches fs.ErrInvalid.
var ErrMalformedCap = errors.New("decode: malformed capability")

// UnsupportedCapError: a well-formed capability of a kind that cannot be downloaded.
type UnsupportedCapError struct {
	Kind     string // the cap's prefix, such as "URI:DIR2-RO"
	Verifier bool   // a verify cap: it names a file and grants no reading
}

func (e *UnsupportedCapError) Error() string { return "" }

// NotEnoughSharesError: fewer than Needed distinct shares could be used. It matches fs.ErrNotExist.
type NotEnoughSharesError struct {
	Needed, Total int
	Found         []SharePlace  // usable shares
	Bad           []SharePlace  // shares that were read and found corrupt
	Failed        []ServerError // servers that did not answer: with them there might be enough
}

func (e *NotEnoughSharesError) Error() string { return "" }

// SharePlace is a share number and the server that holds it.
type SharePlace struct {
	Share  int
	Server string
}

// ServerError says what a server answered instead of an answer.
type ServerError struct {
	Server string
	Err    error
}

// Cap is a parsed read capability, CHK or LIT. Comparable. Its String and log value are redacted.
type Cap struct{ text string }

// ParseCap parses the text of a cap. Errors: ErrMalformedCap, *UnsupportedCapError.
func ParseCap(text string) (Cap, error) { return Cap{}, nil }

func (c Cap) String() string          { return "" }
func (c Cap) Reveal() string          { return "" }
func (c Cap) LogValue() slog.Value    { return slog.Value{} }
func (c Cap) ID() string              { return "" } // hash of the cap, 26 characters of base32: same on every instance; tells nothing of the cap
func (c Cap) Size() int64             { return 0 }
func (c Cap) Literal() ([]byte, bool) { return nil, false } // a LIT cap's own bytes

type Config struct {
	Servers       []grid.Server
	Memory        int64 // bytes for chunks being decoded; 0 means 16 MiB
	MetadataBytes int64 // bytes of verified metadata kept; 0 means 4 MiB
	Log           *slog.Logger
}

// Client reads files from a grid; safe for concurrent use.
type Client struct{}

func New(cfg Config) (*Client, error) { return nil, nil }
func (c *Client) Close() error        { return nil }

// Open finds the shares of a CHK cap and verifies the metadata. The context bounds only the opening.
func (c *Client) Open(ctx context.Context, cap Cap) (*File, error) { return nil, nil }

// File is one open CHK file. Safe for concurrent use. It is a spool.Source.
type File struct{}

func (f *File) Size() int64                                                  { return 0 }
func (f *File) ChunkSize() int64                                             { return 0 }
func (f *File) WriteChunk(ctx context.Context, i int64, w io.WriterAt) error { return nil }
func (f *File) Close() error                                                 { return nil }

// Stats are totals since New.
type Stats struct {
	CorruptShares, ServerErrors, MetadataHits, MetadataMisses int64
	MemoryInUse                                               int64 // bytes of chunks being decoded now
}

func (c *Client) Stats() Stats { return Stats{} }
