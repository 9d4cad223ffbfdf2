//go:build !purego

package lanes

import (
	"encoding/binary"

	"github.com/klauspost/cpuid/v2"
)

//go:generate go -C _asm generate

const (
	blockSize = 64
	// callBlocks bounds what one call of a kernel takes of all its lanes together:
	// a goroutine in assembly cannot be stopped, and a collection of garbage that
	// is about to start waits for it. So long a call takes some 30 µs.
	callBlocks = 64 << 10 / blockSize
)

// kernel is a way to compress blocks of several lanes.
type kernel uint8

const (
	noKernel  kernel = iota
	shaX1            // the SHA extensions
	shaX2            // the SHA extensions, two lanes in turns
	avx512X8         // AVX-512 on 256 bits
	avx512X16        // AVX-512 on 512 bits
)

// lanes is how many lanes each kernel compresses.
var lanes = [...]int{shaX1: 1, shaX2: 2, avx512X8: 8, avx512X16: 16}

// compress compresses n blocks of each lane of the kernel into its state. It
// reads nothing but those blocks.
func (k kernel) compress(states *[Width]*[8]uint32, blocks *[Width]*byte, n int) {
	switch k {
	case shaX1:
		compressSHAx1(states, blocks, n)
	case shaX2:
		compressSHAx2(states, blocks, n)
	case avx512X8:
		compressAVX512x8(states, blocks, n)
	case avx512X16:
		compressAVX512x16(states, blocks, n)
	default:
		panic("internal error: no kernel")
	}
}

// plan says which kernel to use for how many lanes. A kernel may compress fewer, and
// they then take turns, or more, and what it computes for the others is thrown away.
type plan [Width + 1]kernel

// best is the plan for this processor, all of noKernel if crypto/sha256 is.
var best = planFor(
	cpuid.CPU.Supports(cpuid.SHA, cpuid.SSE4, cpuid.AVX),
	cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512VL),
	cpuid.CPU.IsVendor(cpuid.Intel),
)

// planFor returns the fastest plan for a processor.
//
// Measured on Sapphire Rapids at 2.95 GHz, in GB/s with all lanes in use:
// crypto/sha256 1.43, shaX1 1.42, shaX2 1.93, avx512X8 2.45, avx512X16 3.1. A kernel of AVX-512
// takes as long for a few lanes as for all, so 7 of 8 and 13 of 16 are where it begins to pay. On
// EPYC two lanes of the SHA extensions were measured at 3.5, and crypto/sha256
// at 1.65; AVX-512 was not, so it is left to Intel and to those without the SHA extensions.
func planFor(hasSHA, hasAVX512, isIntel bool) (p plan) {
	for n := 1; n <= Width; n++ {
		switch {
		case hasAVX512 && (isIntel || !hasSHA) && n >= 13:
			p[n] = avx512X16
		case hasAVX512 && (isIntel && n >= 7 || !hasSHA):
			p[n] = avx512X8
		case hasSHA && n >= 2:
			p[n] = shaX2
		case hasSHA:
			p[n] = shaX1
		}
	}
	return p
}

func sum(digests [][Size]byte, prefix []byte, messages [][]byte) {
	if best[1] == noKernel || len(messages) == 1 {
		sumInTurn(digests, prefix, messages)
		return
	}
	sumSideBySide(&best, digests, prefix, messages)
}

// lane is one message on its way: the prefix, the message itself and SHA-256's
// padding, as one stream of blocks.
type lane struct {
	state   [8]uint32
	message int // its index
	// where in the stream, in bytes, the next block begins, and where the stream ends
	at, end uint64
	// mixed is a block that does not stand in memory as it is: of prefix and
	// message, or with padding.
	mixed [blockSize]byte
}

// begin makes l the lane of a message that is length bytes long with the prefix.
func (l *lane) begin(message int, length uint64) {
	const padding = 1 + 8 // at least
	l.state = [8]uint32{
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	}
	l.message = message
	l.at, l.end = 0, (length+padding+blockSize-1)/blockSize*blockSize
}

// next returns the next blocks of the stream that stand one after another, and how many.
func (l *lane) next(prefix, message []byte) (blocks *byte, n int) {
	p, m := uint64(len(prefix)), uint64(len(message))
	switch {
	case l.at+blockSize <= p:
		return &prefix[l.at], int((p - l.at) / blockSize)
	case l.at >= p && l.at+blockSize <= p+m:
		return &message[l.at-p], int((p + m - l.at) / blockSize)
	}
	l.mix(prefix, message)
	return &l.mixed[0], 1
}

// mix puts the next block into l.mixed.
func (l *lane) mix(prefix, message []byte) {
	p, length := uint64(len(prefix)), uint64(len(prefix))+uint64(len(message))
	b := l.mixed[:]
	clear(b)
	if l.at < p {
		b = b[copy(b, prefix[l.at:]):]
	}
	if l.at < length {
		b = b[copy(b, message[max(l.at, p)-p:]):]
	}
	if l.at <= length && len(b) > 0 {
		b[0] = 0x80
	}
	if l.at+blockSize == l.end {
		binary.BigEndian.PutUint64(l.mixed[blockSize-8:], 8*length)
	}
}

// sumSideBySide hashes the messages in lanes: as soon as one is done, the next
// takes its lane.
func sumSideBySide(p *plan, digests [][Size]byte, prefix []byte, messages [][]byte) {
	var (
		all    [Width]lane
		unused [8]uint32 // the state of lanes that have no message
		states [Width]*[8]uint32
		blocks [Width]*byte
	)
	for live, begun := 0, 0; ; {
		for ; live < Width && begun < len(messages); live, begun = live+1, begun+1 {
			all[live].begin(begun, uint64(len(prefix))+uint64(len(messages[begun])))
		}
		if live == 0 {
			return
		}
		k := p[live]
		taken := min(lanes[k], live)
		longestFirst(all[:live], taken)
		n := callBlocks / lanes[k]
		for i := range taken {
			var have int
			states[i] = &all[i].state
			blocks[i], have = all[i].next(prefix, messages[all[i].message])
			n = min(n, have)
		}
		for i := taken; i < lanes[k]; i++ {
			states[i], blocks[i] = &unused, blocks[0]
		}
		k.compress(&states, &blocks, n)
		for i := taken - 1; i >= 0; i-- {
			l := &all[i]
			l.at += uint64(n) * blockSize
			if l.at < l.end {
				continue
			}
			for j, word := range l.state {
				binary.BigEndian.PutUint32(digests[l.message][4*j:], word)
			}
			live--
			*l = all[live]
		}
	}
}

// longestFirst moves the n lanes to the front that have the most left to do, so that
// none is left to go on alone as long as there are others.
func longestFirst(live []lane, n int) {
	if n == len(live) {
		return
	}
	for i := range n {
		for j := i + 1; j < len(live); j++ {
			if live[j].end-live[j].at > live[i].end-live[i].at {
				live[i], live[j] = live[j], live[i]
			}
		}
	}
}
