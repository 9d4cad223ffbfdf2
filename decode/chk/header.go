package chk

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Header lengths in bytes. A v1 header has 4-byte fields, a v2 header 8-byte
// fields after its 4-byte version.
const (
	headerV1 = 0x24
	headerV2 = 0x44
	// HeaderSize is how much of a share to read to have its header, whichever
	// version it is.
	HeaderSize = headerV2
)

// Header holds the offsets in a share, in bytes from its start. The fields
// before them (block size and data size) are not to be trusted and the offset of
// the plaintext hash tree is not used, so they are not kept.
type Header struct {
	Version       int // 1 or 2
	Data          int64
	CrypttextTree int64
	BlockTree     int64
	ShareChain    int64
	UEB           int64 // of its length field
}

// nowhere stands for offsets that no share can have: behind the end of every
// share, and yet sums with it do not overflow.
const nowhere = 1 << 61

// ParseHeader parses the beginning of a share, HeaderSize bytes or what there
// was. Whether the offsets are right only the hashes of what stands there can
// tell, part by part: one wrong offset says nothing of the other parts. The
// error is io.ErrUnexpectedEOF when b is too short.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < 4 {
		return Header{}, io.ErrUnexpectedEOF
	}
	h := Header{Version: int(binary.BigEndian.Uint32(b))}
	size, width := headerV1, 4
	switch h.Version {
	case 1:
	case 2:
		size, width = headerV2, 8
	default:
		return Header{}, fmt.Errorf("chk: unknown share version %d", h.Version)
	}
	if len(b) < size {
		return Header{}, io.ErrUnexpectedEOF
	}
	field := func(i int) int64 { // i counts from the data offset
		p := b[4+(2+i)*width:]
		if width == 4 {
			return int64(binary.BigEndian.Uint32(p))
		}
		return int64(min(binary.BigEndian.Uint64(p), nowhere))
	}
	h.Data, h.CrypttextTree, h.BlockTree, h.ShareChain, h.UEB = field(0), field(2), field(3), field(4), field(5)
	return h, nil
}

// UEBLengthSize returns the length of the length field before the UEB.
func (h Header) UEBLengthSize() int {
	if h.Version == 1 {
		return 4
	}
	return 8
}

// layout is where everything stands in a share of known geometry.
type layout struct {
	Header
	geometry      Geometry
	plaintextTree int64
	uebSize       int64
}

// newLayout lays out a share in the version, or if that is 0 in the first one that can hold it.
func newLayout(g Geometry, uebSize int64, version int) layout {
	if version == 0 {
		if l := newLayout(g, uebSize, 1); l.UEB <= math.MaxUint32 && g.DataSize() <= math.MaxUint32 {
			return l
		}
		version = 2
	}
	l := layout{Header: Header{Version: version}, geometry: g, uebSize: uebSize}
	l.Data = headerV1
	if version == 2 {
		l.Data = headerV2
	}
	l.plaintextTree = l.Data + g.DataSize()
	l.CrypttextTree = l.plaintextTree + g.treeSize()
	l.BlockTree = l.CrypttextTree + g.treeSize()
	l.ShareChain = l.BlockTree + g.treeSize()
	l.UEB = l.ShareChain + ChainSize(g.N)
	return l
}

// size returns the length of the whole share.
func (l layout) size() int64 { return l.UEB + int64(l.UEBLengthSize()) + l.uebSize }

// UsualHeader returns the header that the shares of a file of that geometry most probably have.
func UsualHeader(g Geometry) Header { return newLayout(g, 0, 0).Header }

// header returns the header as it stands in the share.
func (l layout) header() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(l.Version))
	for _, v := range []int64{l.geometry.BlockSize(), l.geometry.DataSize(), l.Data, l.plaintextTree,
		l.CrypttextTree, l.BlockTree, l.ShareChain, l.UEB} {
		b = l.appendField(b, v)
	}
	return b
}

func (l layout) appendField(b []byte, v int64) []byte {
	if l.Version == 1 {
		return binary.BigEndian.AppendUint32(b, uint32(v))
	}
	return binary.BigEndian.AppendUint64(b, uint64(v))
}
