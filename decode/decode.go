// Package decode turns a capability into verified plaintext.
package decode

import (
	"context"
	"io"
	"log/slog"

	"spillway/decode/grid"
)

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
