package decode

import (
	"errors"
	"fmt"
	"io/fs"

	"spillway/decode/grid"
)

var (
	// ErrInconsistent: what the uploader said of the file contradicts itself, so no other shares
	// can help. Every block is what he said, and yet they do not make the segment that he said; or
	// the UEB is the one that the cap names, and says otherwise than the cap how the file is cut.
	// The error that matches it tells which.
	ErrInconsistent = errors.New("decode: the file was uploaded inconsistently")
	// ErrClosed: the Client or the File is closed.
	ErrClosed = errors.New("decode: closed")
)

// NotEnoughSharesError: fewer than Needed distinct shares could be used. It matches fs.ErrNotExist.
type NotEnoughSharesError struct {
	Needed, Total int
	Found         []grid.SharePlace  // usable shares
	Bad           []grid.SharePlace  // shares that were read and found corrupt
	Failed        []grid.ServerError // servers that did not answer: with them there might be enough
}

func (e *NotEnoughSharesError) Error() string {
	distinct := map[int]bool{}
	for _, p := range e.Found {
		distinct[p.Share] = true
	}
	text := fmt.Sprintf("decode: not enough shares: %d of %d needed, %d usable", e.Needed, e.Total, len(distinct))
	return text + grid.ListText("", e.Found) + grid.ListText("; corrupt", e.Bad) + grid.ListText("; failed", e.Failed)
}

func (e *NotEnoughSharesError) Unwrap() error { return fs.ErrNotExist }

// CorruptShareError: a server gave a share, and it is not what its uploader made.
type CorruptShareError struct {
	StorageIndex grid.StorageIndex
	Share        int
	Server       string
	// Part is what is wrong: "container", "header", "UEB", "crypttext hash tree", "block hash
	// tree", "share hash chain", "block 17".
	Part string
	Err  error // how; may be nil
}

func (e *CorruptShareError) Error() string {
	s := fmt.Sprintf("decode: share %d of %v on %s is corrupt: %s", e.Share, e.StorageIndex, e.Server, e.Part)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *CorruptShareError) Unwrap() error { return e.Err }
