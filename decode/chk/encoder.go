package chk

import (
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// Encoder writes the shares of one file: the segments in order, then Finish. It
// keeps the n blocks of one segment and 32 bytes a segment and share. One goroutine
// uses it at a time.
type Encoder struct {
	geometry Geometry
	layout   layout
	shares   []io.WriterAt // nil: the share is hashed and not written
	code     *zfec.Encoder
	next     int64 // segment

	parity    []byte
	blocks    [][]byte
	whole     *hashtree.Hasher
	segment   *hashtree.Hasher
	segments  []hashtree.Hash
	block     []*hashtree.Hasher // one for each share, for they are hashed side by side
	blockHash [][]hashtree.Hash  // by share, then segment
}

// ShareSize returns the length in bytes of every share of a file in the layout
// version, where 0 means the first one that can hold it.
func ShareSize(g Geometry, version int) int64 {
	return newLayout(g, int64(len((&UEB{Geometry: g}).Marshal())), version).size()
}

// NewEncoder returns an Encoder that writes share i into shares[i], of which
// there are n. A nil share is not written. Version is that of the layout; 0
// means the first one that can hold the share.
func NewEncoder(g Geometry, version int, shares []io.WriterAt) (*Encoder, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	if len(shares) != g.N {
		panic("internal error: not one writer for each share")
	}
	code, err := zfec.New(g.K, g.N).Encoder()
	if err != nil {
		return nil, err
	}
	e := &Encoder{
		geometry:  g,
		layout:    newLayout(g, int64(len((&UEB{Geometry: g}).Marshal())), version),
		shares:    shares,
		code:      code,
		parity:    make([]byte, int64(g.N-g.K)*g.BlockSize()),
		blocks:    make([][]byte, g.N),
		whole:     hashtree.NewHasher(hashtree.CrypttextTag),
		segment:   hashtree.NewHasher(hashtree.SegmentTag),
		block:     make([]*hashtree.Hasher, g.N),
		blockHash: make([][]hashtree.Hash, g.N),
	}
	width := hashtree.Width(g.Segments())
	e.segments = make([]hashtree.Hash, 0, width)
	for i := range e.blockHash {
		e.block[i] = hashtree.NewHasher(hashtree.BlockTag)
		e.blockHash[i] = make([]hashtree.Hash, 0, width)
	}
	return e, nil
}

// sideBySide is how many shares are written at once, for their servers may be far away.
const sideBySide = 16

// each runs f for every share, several at a time, and returns the first error.
func (e *Encoder) each(f func(num int) error) error {
	var g errgroup.Group
	g.SetLimit(max(sideBySide, runtime.GOMAXPROCS(0)))
	for num := range e.shares {
		g.Go(func() error {
			if err := f(num); err != nil {
				return fmt.Errorf("share %d: %w", num, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// WriteSegment encodes the next segment. Crypttext has room for the padding to a
// multiple of k behind its length, which is the segment's.
func (e *Encoder) WriteSegment(crypttext []byte) error {
	g := e.geometry
	if int64(len(crypttext)) != g.SegmentLen(e.next) {
		panic("internal error: a segment of the wrong length")
	}
	e.whole.Write(crypttext)
	e.segments = append(e.segments, e.segment.Of(crypttext))

	size := g.BlockLen(e.next)
	padded := crypttext[:size*int64(g.K)]
	clear(padded[len(crypttext):])
	for i := range e.blocks {
		if i < g.K {
			e.blocks[i] = padded[int64(i)*size:][:size]
		} else {
			e.blocks[i] = e.parity[int64(i-g.K)*size:][:size]
		}
	}
	if err := e.code.Encode(e.blocks); err != nil {
		return err
	}
	off := e.layout.Data + e.next*g.BlockSize()
	e.next++
	return e.each(func(num int) error {
		e.blockHash[num] = append(e.blockHash[num], e.block[num].Of(e.blocks[num]))
		return e.write(num, e.blocks[num], off)
	})
}

func (e *Encoder) write(num int, b []byte, off int64) error {
	if e.shares[num] == nil {
		return nil
	}
	_, err := e.shares[num].WriteAt(b, off)
	return err
}

// Finish writes all that is not blocks and returns the hash of the UEB, which
// goes into the cap. All segments have been written.
func (e *Encoder) Finish() (hashtree.Hash, error) {
	g := e.geometry
	if e.next != g.Segments() {
		panic("internal error: segments are missing")
	}
	ueb := UEB{Geometry: g, CrypttextHash: e.whole.Sum()}
	var err error
	ueb.CrypttextRootHash, err = e.writeTree(e.segments, func(b []byte, off int64) error {
		return e.each(func(num int) error { return e.write(num, b, e.layout.CrypttextTree+off) })
	})
	if err != nil {
		return hashtree.Hash{}, err
	}
	roots := make([]hashtree.Hash, g.N)
	err = e.each(func(num int) (err error) {
		roots[num], err = e.writeTree(e.blockHash[num], func(b []byte, off int64) error {
			return e.write(num, b, e.layout.BlockTree+off)
		})
		return err
	})
	if err != nil {
		return hashtree.Hash{}, err
	}
	levels := [][]hashtree.Hash{hashtree.Pad(roots)}
	for level := levels[0]; len(level) > 1; levels = append(levels, level) {
		level = hashtree.Parents(append([]hashtree.Hash(nil), level...))
	}
	ueb.ShareRootHash = levels[len(levels)-1][0]
	text := ueb.Marshal()
	err = e.each(func(num int) error {
		if err := e.write(num, e.layout.header(), 0); err != nil {
			return err
		}
		if err := e.writeUnused(num); err != nil {
			return err
		}
		tail := marshalChain(levels, g.N, num)
		tail = append(e.layout.appendField(tail, int64(len(text))), text...)
		return e.write(num, tail, e.layout.ShareChain)
	})
	return Hash(text), err
}

// writeTree writes a tree from its leaves, level by level, and returns its
// root; leaves is overwritten.
func (e *Encoder) writeTree(leaves []hashtree.Hash, write func(b []byte, off int64) error) (hashtree.Hash, error) {
	level := hashtree.Pad(leaves)
	for {
		if err := write(hashtree.AsBytes(level), hashtree.LevelOffset(int64(len(level)))); err != nil {
			return hashtree.Hash{}, err
		}
		if len(level) == 1 {
			return level[0], nil
		}
		level = hashtree.Parents(level)
	}
}

// writeUnused writes the plaintext hash tree, which is all zeros.
func (e *Encoder) writeUnused(num int) error {
	zeros := make([]byte, min(e.geometry.treeSize(), 1<<16))
	for off, end := e.layout.plaintextTree, e.layout.CrypttextTree; off < end; off += int64(len(zeros)) {
		if err := e.write(num, zeros[:min(int64(len(zeros)), end-off)], off); err != nil {
			return err
		}
	}
	return nil
}
