// Package chk knows how immutable files are cut into shares and how a share is
// laid out, for reading and for writing (Tahoe-LAFS
// docs/specifications/file-encoding.rst, src/allmydata/immutable/{layout,encode}.py).
package chk

import (
	"errors"
	"fmt"

	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// Bounds on what a share or its UEB may claim. They keep every sum of offsets
// and lengths within an int64.
const (
	maxSize     = 1 << 62
	maxSegments = 1 << 48
)

// Geometry says how a file is cut. It is a value; all sizes are in bytes.
type Geometry struct {
	Size        int64 // of the file, > 0
	SegmentSize int64 // of all segments but the last; a multiple of K
	K, N        int   // shares needed and made
}

// NewGeometry returns the geometry that an uploader gives a file of size bytes:
// segments of at most maxSegment bytes and at most the file, rounded up to a multiple of k.
func NewGeometry(size, maxSegment int64, k, n int) (Geometry, error) {
	segment := min(maxSegment, size)
	if segment > 0 && k > 0 {
		segment += (int64(k) - segment%int64(k)) % int64(k)
	}
	g := Geometry{Size: size, SegmentSize: segment, K: k, N: n}
	return g, g.check()
}

// check tells whether all that is computed from g stays in range.
func (g Geometry) check() error {
	switch {
	case g.K < 1 || g.K > g.N || g.N > zfec.MaxShares:
		return fmt.Errorf("chk: %d-of-%d is not 1 <= k <= n <= %d", g.K, g.N, zfec.MaxShares)
	case g.Size < 1 || g.Size >= maxSize:
		return fmt.Errorf("chk: a file of %d bytes", g.Size)
	case g.SegmentSize < 1 || g.SegmentSize >= maxSize || g.SegmentSize%int64(g.K) != 0:
		return fmt.Errorf("chk: segments of %d bytes are no multiple of %d", g.SegmentSize, g.K)
	case g.Segments() > maxSegments:
		return errors.New("chk: too many segments")
	}
	return nil
}

// Segments returns the number of segments, at least 1.
func (g Geometry) Segments() int64 { return (g.Size-1)/g.SegmentSize + 1 }

// SegmentLen returns the length of segment i, without padding.
func (g Geometry) SegmentLen(i int64) int64 {
	return min(g.SegmentSize, g.Size-i*g.SegmentSize)
}

// BlockSize returns the length of one share's piece of every segment but the last.
func (g Geometry) BlockSize() int64 { return g.SegmentSize / int64(g.K) }

// BlockLen returns the length of one share's piece of segment i, which is
// padded with zeros to a multiple of K.
func (g Geometry) BlockLen(i int64) int64 {
	return (g.SegmentLen(i)-1)/int64(g.K) + 1
}

// tailSize returns the length of the last segment, padded.
func (g Geometry) tailSize() int64 { return g.BlockLen(g.Segments()-1) * int64(g.K) }

// DataSize returns the length of all blocks of one share.
func (g Geometry) DataSize() int64 {
	last := g.Segments() - 1
	return last*g.BlockSize() + g.BlockLen(last)
}

// treeSize returns the length of a hash tree over the segments.
func (g Geometry) treeSize() int64 { return hashtree.Bytes(g.Segments()) }
