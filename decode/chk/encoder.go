package chk

import (
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// Encoder makes the n shares of one file from its crypttext. All shares are laid out
// alike, so they are made side by side, each from its first byte to its last:
//
//  1. Header, which is the same in all of them.
//  2. Encode makes the blocks of the next few segments, until all are made.
//  3. Finish computes the hash trees and the UEB.
//  4. ReadTail returns any part of what follows the blocks.
//
// The hashes of segments and blocks wait in a file without a name, so memory does not grow with
// the file's size: the Encoder keeps 2 KiB for each share. One goroutine uses it at a time; after
// Finish, ReadTail may be called concurrently.
type Encoder struct {
	geometry Geometry
	layout   layout
	code     *zfec.Encoder
	next     int64 // segment

	whole    *hashtree.Hasher
	segment  *hashtree.Hasher
	block    *hashtree.Hasher
	messages [][]byte        // segments and blocks being hashed
	hashes   []hashtree.Hash // of messages

	// The hash tree over the segments, then those over the blocks of each share, whole, one
	// after the other. The leaves of the last segments wait in memory.
	trees   scratch
	waiting [][]hashtree.Hash
	first   int64 // segment whose leaves are the first ones waiting

	tails [][]byte // by share: hash chain and UEB; set by Finish
}

// hashedAtOnce is how many blocks a goroutine is given to hash: as many as package hashtree hashes
// side by side.
const hashedAtOnce = 16

// MaxRun is how many segments can be encoded at once.
const MaxRun = 64

// NewEncoder returns an Encoder of shares in the layout version; 0 means the
// first one that can hold them. The caller closes it. The error is that of making the
// file for hashes, in TMPDIR, else in /var/tmp.
func NewEncoder(g Geometry, version int) (*Encoder, error) {
	return newEncoder(g, version, inMemory)
}

func newEncoder(g Geometry, version int, few int64) (*Encoder, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	code, err := zfec.New(g.K, g.N).Encoder()
	if err != nil {
		return nil, err
	}
	e := &Encoder{
		geometry: g,
		layout:   newLayout(g, int64(len((&UEB{Geometry: g}).Marshal())), version),
		code:     code,
		whole:    hashtree.NewHasher(hashtree.CrypttextTag),
		segment:  hashtree.NewHasher(hashtree.SegmentTag),
		block:    hashtree.NewHasher(hashtree.BlockTag),
		waiting:  make([][]hashtree.Hash, 1+g.N),
	}
	for t := range e.waiting {
		e.waiting[t] = make([]hashtree.Hash, 0, min(MaxRun, g.Segments()))
	}
	if e.trees, err = newScratch(int64(1+g.N)*g.treeSize(), few); err != nil {
		return nil, fmt.Errorf("chk: a file for the hashes: %w", err)
	}
	return e, nil
}

// Close gives the Encoder's file back.
func (e *Encoder) Close() error { return e.trees.Close() }

// Header returns the beginning of every share.
func (e *Encoder) Header() []byte { return e.layout.header() }

// TailOffset returns where in a share its blocks end and its tail begins.
func (e *Encoder) TailOffset() int64 { return e.layout.plaintextTree }

// Size returns the length of every share in bytes.
func (e *Encoder) Size() int64 { return e.layout.size() }

// Encode makes the blocks of the next segments, which are given one after another, whole, at most
// MaxRun of them. Those of share i go into blocks[i], one after another, which has exactly their
// length. The error is that of the Encoder's file.
func (e *Encoder) Encode(crypttext []byte, blocks [][]byte) error {
	g := e.geometry
	segments := (int64(len(crypttext))-1)/g.SegmentSize + 1
	last := e.next + segments - 1
	if len(crypttext) == 0 || segments > MaxRun || last >= g.Segments() || len(blocks) != g.N ||
		int64(len(crypttext)) != (segments-1)*g.SegmentSize+g.SegmentLen(last) {
		panic("internal error: no whole segments to encode")
	}
	for num := range g.K {
		e.primary(crypttext, int(segments), num, blocks[num])
	}
	// A block is encoded byte by byte, so many are as one.
	if err := e.code.Encode(blocks); err != nil {
		panic("internal error: " + err.Error())
	}
	if len(e.waiting[0])+int(segments) > MaxRun {
		if err := e.flush(); err != nil {
			return err
		}
	}
	e.hash(crypttext, int(segments), blocks)
	e.next += segments
	return nil
}

// primary makes the blocks of share num, which is one of the first k: consecutive pieces of the
// segments, padded with zeros.
func (e *Encoder) primary(crypttext []byte, segments, num int, blocks []byte) {
	g := e.geometry
	for i := range segments {
		size := int(g.BlockLen(e.next + int64(i)))
		segment := crypttext[i*int(g.SegmentSize):]
		segment = segment[:g.SegmentLen(e.next+int64(i))]
		n := copy(blocks[:size], segment[min(num*size, len(segment)):])
		clear(blocks[n:size])
		blocks = blocks[size:]
	}
	if len(blocks) > 0 {
		panic("internal error: more room than blocks")
	}
}

// hash adds the leaves of the segments and of their blocks, hashed side by side.
func (e *Encoder) hash(crypttext []byte, segments int, blocks [][]byte) {
	g := e.geometry
	e.messages = e.messages[:0]
	for i := range segments {
		off := i * int(g.SegmentSize)
		e.messages = append(e.messages, crypttext[off:off+int(g.SegmentLen(e.next+int64(i)))])
	}
	for _, b := range blocks {
		for i := range segments {
			size := g.BlockLen(e.next + int64(i))
			e.messages, b = append(e.messages, b[:size]), b[size:]
		}
	}
	e.hashes = slices.Grow(e.hashes[:0], len(e.messages))[:len(e.messages)]
	hashes := e.hashes
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	work.Go(func() error { e.whole.Write(crypttext); return nil })
	work.Go(func() error { e.segment.OfEach(hashes[:segments], e.messages[:segments]); return nil })
	for from := segments; from < len(hashes); from += hashedAtOnce {
		to := min(from+hashedAtOnce, len(hashes))
		work.Go(func() error { e.block.OfEach(hashes[from:to], e.messages[from:to]); return nil })
	}
	work.Wait()
	for t := range e.waiting {
		e.waiting[t] = append(e.waiting[t], hashes[t*segments:][:segments]...)
	}
}

// flush puts the leaves that wait into their places in the trees.
func (e *Encoder) flush() error {
	width := hashtree.Width(e.geometry.Segments())
	for t, leaves := range e.waiting {
		if err := e.writeNodes(t, width, e.first, leaves); err != nil {
			return err
		}
		e.waiting[t] = leaves[:0]
	}
	e.first = e.next
	return nil
}

// writeNodes writes nodes of tree t from node i on of the level of that width.
func (e *Encoder) writeNodes(t int, width, i int64, nodes []hashtree.Hash) error {
	_, err := e.trees.WriteAt(hashtree.AsBytes(nodes), int64(t)*e.geometry.treeSize()+hashtree.LevelOffset(width)+i*hashtree.Size)
	return err
}

func (e *Encoder) readNodes(t int, width, i int64, nodes []hashtree.Hash) error {
	_, err := e.trees.ReadAt(hashtree.AsBytes(nodes), int64(t)*e.geometry.treeSize()+hashtree.LevelOffset(width)+i*hashtree.Size)
	return err
}

// Finish returns the UEB, whose hash goes into the cap. All segments have been
// encoded. The error is that of the Encoder's file.
func (e *Encoder) Finish() (*UEB, error) {
	g := e.geometry
	if e.next != g.Segments() {
		panic("internal error: segments are missing")
	}
	if err := e.flush(); err != nil {
		return nil, err
	}
	if err := e.pad(); err != nil {
		return nil, err
	}
	roots := make([]hashtree.Hash, 1+g.N)
	var work errgroup.Group
	work.SetLimit(runtime.GOMAXPROCS(0))
	for t := range roots {
		work.Go(func() (err error) {
			roots[t], err = e.grow(t)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	levels := [][]hashtree.Hash{hashtree.Pad(roots[1:])}
	for level := levels[0]; len(level) > 1; levels = append(levels, level) {
		level = hashtree.Parents(append([]hashtree.Hash(nil), level...))
	}
	ueb := &UEB{Geometry: g, CrypttextHash: e.whole.Sum(), CrypttextRootHash: roots[0], ShareRootHash: levels[len(levels)-1][0]}
	text := ueb.Marshal()
	for num := range g.N {
		tail := marshalChain(levels, g.N, num)
		e.tails = append(e.tails, append(e.layout.appendField(tail, int64(len(text))), text...))
	}
	return ueb, nil
}

// nodesAtOnce is how many nodes of a tree are in memory: 64 KiB.
const nodesAtOnce = 2048

// pad gives every tree the leaves that it has beyond the segments.
func (e *Encoder) pad() error {
	width := hashtree.Width(e.geometry.Segments())
	for i := e.geometry.Segments(); i < width; i += nodesAtOnce {
		leaves := make([]hashtree.Hash, min(nodesAtOnce, width-i))
		for j := range leaves {
			leaves[j] = hashtree.EmptyLeaf(i + int64(j))
		}
		for t := range e.waiting {
			if err := e.writeNodes(t, width, i, leaves); err != nil {
				return err
			}
		}
	}
	return nil
}

// grow computes tree t from its leaves, level by level, and returns its root.
func (e *Encoder) grow(t int) (hashtree.Hash, error) {
	width := hashtree.Width(e.geometry.Segments())
	buf := make([]hashtree.Hash, min(width, nodesAtOnce))
	for ; width > 1; width /= 2 {
		for i := int64(0); i < width; i += nodesAtOnce {
			nodes := buf[:min(width-i, nodesAtOnce)]
			if err := e.readNodes(t, width, i, nodes); err != nil {
				return hashtree.Hash{}, err
			}
			if err := e.writeNodes(t, width/2, i/2, hashtree.Parents(nodes)); err != nil {
				return hashtree.Hash{}, err
			}
		}
	}
	err := e.readNodes(t, 1, 0, buf[:1])
	return buf[0], err
}

// ReadTail fills p with what stands in share num from off on, which is in the tail. Finish has
// been called. The error is that of the Encoder's file.
func (e *Encoder) ReadTail(num int, p []byte, off int64) error {
	l, size := e.layout, e.geometry.treeSize()
	for len(p) > 0 {
		var err error
		n := 0
		part := func(end int64) []byte {
			n = int(min(int64(len(p)), end-off))
			return p[:n]
		}
		switch {
		case off < l.CrypttextTree: // of the plaintext hash tree, which is not used any more
			clear(part(l.CrypttextTree))
		case off < l.BlockTree:
			_, err = e.trees.ReadAt(part(l.BlockTree), off-l.CrypttextTree)
		case off < l.ShareChain:
			_, err = e.trees.ReadAt(part(l.ShareChain), int64(1+num)*size+off-l.BlockTree)
		default:
			copy(part(l.size()), e.tails[num][off-l.ShareChain:])
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
