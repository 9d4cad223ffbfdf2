package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// shaLane is one message of a SHA-NI kernel: the two halves of its state, in
// the order that SHA256RNDS2 wants, and the 16 words that are next.
type shaLane struct {
	abef, cdgh VecVirtual
	words      [4]VecVirtual
	block      GPVirtual
}

// shani writes a kernel that compresses lanes messages side by side with the
// SHA extensions. SHA256RNDS2 takes its time: while one lane waits for it,
// another one goes on. All that two lanes need fits in the 16 registers.
func shani(lanes int) {
	TEXT(fmt.Sprintf("compressSHAx%d", lanes), NOSPLIT, signature)
	Pragma("noescape")
	Doc(fmt.Sprintf("compressSHAx%d compresses n >= 1 blocks into each of the first %d states.", lanes, lanes),
		"It needs SHA, SSE4.1 and AVX.")
	states := Load(Param("states"), GP64())
	blocks := Load(Param("blocks"), GP64())
	n := Load(Param("n"), GP64())
	k := GP64()
	LEAQ(constants, k)
	saved := AllocLocal(32 * lanes)
	// The SHA extensions are legacy SSE: they must not meet dirty upper halves.
	VZEROUPPER()

	all := make([]*shaLane, lanes)
	for i := range all {
		l := &shaLane{abef: XMM(), cdgh: XMM(), block: GP64()}
		all[i] = l
		for w := range l.words {
			l.words[w] = XMM()
		}
		MOVQ(Mem{Base: blocks, Disp: 8 * i}, l.block)
		state := GP64()
		MOVQ(Mem{Base: states, Disp: 8 * i}, state)
		badc, hgfe := XMM(), XMM()
		VPSHUFD(Imm(0xb1), Mem{Base: state}, badc)
		VPSHUFD(Imm(0x1b), Mem{Base: state, Disp: 16}, hgfe)
		VPALIGNR(Imm(8), hgfe, badc, l.abef)
		VPBLENDW(Imm(0xf0), badc, hgfe, l.cdgh)
	}

	Label("block")
	for i, l := range all {
		VMOVDQU(l.abef, saved.Offset(32*i))
		VMOVDQU(l.cdgh, saved.Offset(32*i+16))
		for w, x := range l.words {
			VMOVDQU(Mem{Base: l.block, Disp: 16 * w}, x)
			VPSHUFB(swap, x, x)
		}
		ADDQ(Imm(blockSize), l.block)
	}
	for i := range 16 {
		for _, l := range all {
			w0, w1, w2, w3 := l.words[i%4], l.words[(i+1)%4], l.words[(i+2)%4], l.words[(i+3)%4]
			VPADDD(Mem{Base: k, Disp: 16 * i}, w0, X0)
			SHA256RNDS2(X0, l.abef, l.cdgh)
			VPSHUFD(Imm(0x0e), X0, X0)
			SHA256RNDS2(X0, l.cdgh, l.abef)
			if i < 12 {
				SHA256MSG1(w1, w0)
				VPALIGNR(Imm(4), w2, w3, X0)
				VPADDD(X0, w0, w0)
				SHA256MSG2(w3, w0)
			}
		}
	}
	for i, l := range all {
		VPADDD(saved.Offset(32*i), l.abef, l.abef)
		VPADDD(saved.Offset(32*i+16), l.cdgh, l.cdgh)
	}
	DECQ(n)
	JNZ(LabelRef("block"))

	for i, l := range all {
		state := GP64()
		MOVQ(Mem{Base: states, Disp: 8 * i}, state)
		feba, dchg := XMM(), XMM()
		VPSHUFD(Imm(0x1b), l.abef, feba)
		VPSHUFD(Imm(0xb1), l.cdgh, dchg)
		abcd, efgh := XMM(), XMM()
		VPBLENDW(Imm(0xf0), dchg, feba, abcd)
		VPALIGNR(Imm(8), feba, dchg, efgh)
		VMOVDQU(abcd, Mem{Base: state})
		VMOVDQU(efgh, Mem{Base: state, Disp: 16})
	}
	RET()
}
