package decode

import (
	"fmt"
	"io/fs"

	"spillway/decode/chk"
	"spillway/decode/zfec"
)

// chunkTarget is about how many bytes of plaintext a chunk has, so that one ranged read of a share
// covers many blocks (see decision chunks-and-runs).
const chunkTarget = 1 << 20

// runTarget is about how many bytes of plaintext are decoded at once where nobody waits for less:
// enough for two segments of 1 MiB or sixteen of 128 KiB (see decision
// segments-hashed-side-by-side).
const runTarget = 2 << 20

const (
	maxRunBlocks = 4096 // blocks in a run, of all k shares together
	maxVectors   = 1024 // buffers of one vectored read
)

// cut is how a file is read: in chunks of whole segments, and runs of chunks. It does not change.
type cut struct {
	ueb           *chk.UEB
	k             int
	tree          tree
	chunkSegments int64 // segments in a chunk
	mostChunks    int64 // chunks that a run can have, whatever memory there is
}

func newCut(ueb *chk.UEB, k int) cut {
	most := min(maxRunBlocks/int64(k), maxVectors, ueb.Segments())
	c := cut{ueb: ueb, k: k, tree: newTree(ueb.Segments())}
	c.chunkSegments = max(1, min((chunkTarget+ueb.SegmentSize/2)/ueb.SegmentSize, most))
	c.mostChunks = most / c.chunkSegments
	return c
}

// chunks returns how many chunks the file has.
func (c *cut) chunks() int64 { return (c.ueb.Segments()-1)/c.chunkSegments + 1 }

// chunkSize is the length in bytes of every chunk but the last.
func (c *cut) chunkSize() int64 { return min(c.chunkSegments*c.ueb.SegmentSize, c.ueb.Size) }

// shareBytes returns how many bytes of one share a chunk takes.
func (c *cut) shareBytes() int64 { return c.chunkSegments * c.ueb.BlockSize() }

// memory returns how many bytes decoding n chunks takes: themselves, padded, as much again for the
// blocks that do not land there directly, and again for those computed apart.
func (c *cut) memory(n int64) int64 {
	segments := n * c.chunkSegments
	out := (segments-1)*c.ueb.SegmentSize + c.ueb.BlockLen(0)*int64(c.k)
	if c.decodesApart(segments) {
		return 3 * out
	}
	return 2 * out
}

// decodesApart tells whether the blocks of so many segments are so small and so many that one call
// of the erasure decoder for all of them pays for copying them (see decision
// erasure-coding-gfni).
func (c *cut) decodesApart(segments int64) bool { return segments > 1 && c.k > zfec.FewBlocks }

// largestRun returns how many chunks, at most so many, can be decoded in so much memory; at least
// one.
func (c *cut) largestRun(most, memory int64) int64 {
	for most > 1 && c.memory(most) > memory {
		most--
	}
	return max(1, most)
}

// leastRun is how many chunks are decoded at once where nobody waits for less.
func (c *cut) leastRun(memory int64) int64 {
	chunk := c.chunkSegments * c.ueb.SegmentSize
	return c.largestRun(min((runTarget+chunk/2)/chunk, c.mostChunks), memory/3)
}

// quickRun is how many chunks bring so many bytes of each share.
func (c *cut) quickRun(bytes, memory int64) int64 {
	return c.largestRun(min((bytes+c.shareBytes()/2)/c.shareBytes(), c.mostChunks), memory/5)
}

// errNoChunk says that there is no such run.
func errNoChunk(i, n int64) error {
	return fmt.Errorf("decode: %w: there is no run of %d chunks from %d on", fs.ErrInvalid, n, i)
}
