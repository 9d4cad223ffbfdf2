package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// width is the number of 32-bit words in a ymm register: one for each message.
const width = 8

// Truth tables for VPTERNLOGD. Bit 4a+2b+c is the result for the bits a of the
// destination, b of the second source and c of the first.
const (
	xor      = 0x96 // a ^ b ^ c
	choose   = 0xca // a ? b : c
	majority = 0xe8
)

// avx512 writes a kernel that compresses eight messages side by side: each
// register has one word of every message. State and words stay in the 32
// registers, rotations are instructions, and each of SHA-256's functions of
// three bits is one.
func avx512() {
	TEXT("compressAVX512", NOSPLIT, "func(states *[8]*[8]uint32, blocks *[8]*byte, n int)")
	Pragma("noescape")
	Doc("compressAVX512 compresses n >= 1 blocks into each of the states. It needs AVX512F, AVX512BW and AVX512VL.")
	states := Load(Param("states"), GP64())
	blocks := Load(Param("blocks"), GP64())
	n := Load(Param("n"), GP64())
	saved := AllocLocal(4 * width * 8)

	var s [8]VecVirtual
	for i := range s {
		s[i] = YMM()
	}
	row := GP64()
	for half := range 2 {
		rows := loadRows(func(lane int) Mem {
			MOVQ(Mem{Base: states, Disp: 8 * lane}, row)
			return Mem{Base: row, Disp: 16 * half}
		})
		transpose(rows, [4]VecVirtual(s[4*half:]))
	}
	var block [width]GPVirtual
	for lane := range block {
		block[lane] = GP64()
		MOVQ(Mem{Base: blocks, Disp: 8 * lane}, block[lane])
	}
	var w [16]VecVirtual
	for i := range w {
		w[i] = YMM()
	}
	at := GP64()
	XORQ(at, at)

	Label("block")
	for i := range s {
		VMOVDQU32(s[i], saved.Offset(32*i))
	}
	for quarter := range 4 {
		rows := loadRows(func(lane int) Mem {
			return Mem{Base: block[lane], Index: at, Scale: 1, Disp: 16 * quarter}
		})
		for _, r := range rows {
			VPSHUFB(swap, r, r)
		}
		transpose(rows, [4]VecVirtual(w[4*quarter:]))
	}
	for i := range 64 {
		// Instead of moving every word of the state to the next register, the
		// registers change their roles: after 64 rounds they are back.
		reg := func(j int) VecVirtual { return s[(j+64-i)%8] }
		a, b, c, d, e, f, g, h := reg(0), reg(1), reg(2), reg(3), reg(4), reg(5), reg(6), reg(7)
		word := w[i%16]
		if i >= 16 {
			VPADDD(w[(i+9)%16], word, word)
			VPADDD(sigma(w[(i+1)%16], VPSRLD, 7, 18, 3), word, word)
			VPADDD(sigma(w[(i+14)%16], VPSRLD, 17, 19, 10), word, word)
		}
		VPADDD(word, h, h)
		VPADDD_BCST(constants.Offset(4*i), h, h)
		VPADDD(ternary(choose, e, f, g), h, h)
		VPADDD(sigma(e, VPRORD, 6, 11, 25), h, h)
		VPADDD(h, d, d)
		VPADDD(ternary(majority, a, b, c), h, h)
		VPADDD(sigma(a, VPRORD, 2, 13, 22), h, h)
	}
	for i := range s {
		VPADDD(saved.Offset(32*i), s[i], s[i])
	}
	ADDQ(Imm(blockSize), at)
	DECQ(n)
	JNZ(LabelRef("block"))

	for half := range 2 {
		var rows [4]VecVirtual
		for i := range rows {
			rows[i] = YMM()
		}
		transpose([4]VecVirtual(s[4*half:]), rows)
		for i, r := range rows {
			MOVQ(Mem{Base: states, Disp: 8 * i}, row)
			VMOVDQU32(r.AsX(), Mem{Base: row, Disp: 16 * half})
			MOVQ(Mem{Base: states, Disp: 8 * (i + 4)}, row)
			VEXTRACTI32X4(Imm(1), r, Mem{Base: row, Disp: 16 * half})
		}
	}
	VZEROUPPER()
	RET()
}

// loadRows loads four words of each lane: those of lane i and i+4 into register i.
func loadRows(of func(lane int) Mem) (rows [4]VecVirtual) {
	for i := range rows {
		low := YMM()
		VMOVDQU32(of(i), low.AsX())
		rows[i] = YMM()
		VINSERTI32X4(Imm(1), of(i+4), low, rows[i])
	}
	return rows
}

// transpose transposes four by four words, in both 128-bit halves of the registers.
func transpose(from, to [4]VecVirtual) {
	t := [4]VecVirtual{YMM(), YMM(), YMM(), YMM()}
	VPUNPCKLDQ(from[1], from[0], t[0])
	VPUNPCKHDQ(from[1], from[0], t[1])
	VPUNPCKLDQ(from[3], from[2], t[2])
	VPUNPCKHDQ(from[3], from[2], t[3])
	VPUNPCKLQDQ(t[2], t[0], to[0])
	VPUNPCKHQDQ(t[2], t[0], to[1])
	VPUNPCKLQDQ(t[3], t[1], to[2])
	VPUNPCKHQDQ(t[3], t[1], to[3])
}

// sigma returns the exclusive or of x rotated right by r1, by r2, and rotated or shifted by r3.
func sigma(x VecVirtual, third func(...Op), r1, r2, r3 uint64) VecVirtual {
	t1, t2, t3 := YMM(), YMM(), YMM()
	VPRORD(Imm(r1), x, t1)
	VPRORD(Imm(r2), x, t2)
	third(Imm(r3), x, t3)
	VPTERNLOGD(Imm(xor), t3, t2, t1)
	return t1
}

func ternary(table uint64, a, b, c VecVirtual) VecVirtual {
	t := YMM()
	VMOVDQA32(a, t)
	VPTERNLOGD(Imm(table), c, b, t)
	return t
}
