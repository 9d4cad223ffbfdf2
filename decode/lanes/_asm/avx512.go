package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Truth tables for VPTERNLOGD. Bit 4a+2b+c is the result for the bits a of the
// destination, b of the second source and c of the first.
const (
	xor      = 0x96 // a ^ b ^ c
	choose   = 0xca // a ? b : c
	majority = 0xe8
)

// avx512 makes a kernel that compresses lanes messages side by side, 8 in
// 256-bit registers or 16 in 512-bit ones: each register has one word of every
// message. State and words stay in the 32 registers, rotations are
// instructions, and each of SHA-256's functions of three bits is one.
type avx512 struct{ lanes int }

// vector is a register of any width.
type vector interface {
	Register
	Vec
}

// temp returns a register that is free.
func (k avx512) temp() vector {
	if k.lanes == 16 {
		return ZMM()
	}
	return YMM()
}

// fixed returns the register that v is a part of.
func (k avx512) fixed(v VecPhysical) vector {
	if k.lanes == 16 {
		return v.AsZ().(vector)
	}
	return v.AsY().(vector)
}

// write writes the kernel.
func (k avx512) write() {
	TEXT(fmt.Sprintf("compressAVX512x%d", k.lanes), NOSPLIT, signature)
	Pragma("noescape")
	Doc(fmt.Sprintf("compressAVX512x%d compresses n >= 1 blocks into each of the first %d states.", k.lanes, k.lanes),
		"It needs AVX512F, AVX512BW and AVX512VL.")
	states := Load(Param("states"), GP64())
	blocks := Load(Param("blocks"), GP64())
	n := Load(Param("n"), GP64())
	size := 4 * k.lanes
	saved := AllocLocal(size * 8)
	table := GP64()
	LEAQ(constants, table)

	// The state is in the registers whose instructions are shorter.
	var s [8]vector
	for i, x := range []VecPhysical{X0, X1, X2, X3, X4, X5, X6, X7} {
		s[i] = k.fixed(x)
	}
	row := GP64()
	for half := range 2 {
		rows := k.loadRows(func(lane int) Mem {
			MOVQ(Mem{Base: states, Disp: 8 * lane}, row)
			return Mem{Base: row, Disp: 16 * half}
		})
		k.transpose(rows, [4]vector(s[4*half:]))
	}
	var w [16]vector
	for i, x := range []VecPhysical{X16, X17, X18, X19, X20, X21, X22, X23, X24, X25, X26, X27, X28, X29, X30, X31} {
		w[i] = k.fixed(x)
	}
	at := GP64()
	XORQ(at, at)

	Label("block")
	for i := range s {
		VMOVDQU32(s[i], saved.Offset(size*i))
	}
	for quarter := range 4 {
		rows := k.loadRows(func(lane int) Mem {
			MOVQ(Mem{Base: blocks, Disp: 8 * lane}, row)
			return Mem{Base: row, Index: at, Scale: 1, Disp: 16 * quarter}
		})
		for _, r := range rows {
			VPSHUFB(swap, r, r)
		}
		k.transpose(rows, [4]vector(w[4*quarter:]))
	}
	for i := range 64 {
		// Instead of moving every word of the state to the next register, the
		// registers change their roles: after 64 rounds they are back.
		reg := func(j int) vector { return s[(j+64-i)%8] }
		a, b, c, d, e, f, g, h := reg(0), reg(1), reg(2), reg(3), reg(4), reg(5), reg(6), reg(7)
		word := w[i%16]
		if i >= 16 {
			VPADDD(w[(i+9)%16], word, word)
			VPADDD(k.sigma(w[(i+1)%16], VPSRLD, 7, 18, 3), word, word)
			VPADDD(k.sigma(w[(i+14)%16], VPSRLD, 17, 19, 10), word, word)
		}
		VPADDD(word, h, h)
		VPADDD_BCST(Mem{Base: table, Disp: 4 * i}, h, h)
		VPADDD(k.ternary(choose, e, f, g), h, h)
		VPADDD(k.sigma(e, VPRORD, 6, 11, 25), h, h)
		VPADDD(h, d, d)
		VPADDD(k.ternary(majority, a, b, c), h, h)
		VPADDD(k.sigma(a, VPRORD, 2, 13, 22), h, h)
	}
	for i := range s {
		VPADDD(saved.Offset(size*i), s[i], s[i])
	}
	ADDQ(Imm(blockSize), at)
	DECQ(n)
	JNZ(LabelRef("block"))

	for half := range 2 {
		var rows [4]vector
		for i := range rows {
			rows[i] = k.temp()
		}
		k.transpose([4]vector(s[4*half:]), rows)
		for i, r := range rows {
			for lane := i; lane < k.lanes; lane += 4 {
				MOVQ(Mem{Base: states, Disp: 8 * lane}, row)
				if lane < 4 {
					VMOVDQU32(r.AsX(), Mem{Base: row, Disp: 16 * half})
				} else {
					VEXTRACTI32X4(Imm(uint64(lane/4)), r, Mem{Base: row, Disp: 16 * half})
				}
			}
		}
	}
	VZEROUPPER()
	RET()
}

// loadRows loads four words of each lane: those of lanes i, i+4, ... into register i.
func (k avx512) loadRows(of func(lane int) Mem) (rows [4]vector) {
	for i := range rows {
		rows[i] = k.temp()
		VBROADCASTI32X4(of(i), rows[i])
		for lane := i + 4; lane < k.lanes; lane += 4 {
			VINSERTI32X4(Imm(uint64(lane/4)), of(lane), rows[i], rows[i])
		}
	}
	return rows
}

// transpose transposes four by four words, in every 128 bits of the registers.
func (k avx512) transpose(from, to [4]vector) {
	t := [4]vector{k.temp(), k.temp(), k.temp(), k.temp()}
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
func (k avx512) sigma(x vector, third func(...Op), r1, r2, r3 uint64) vector {
	t1, t2, t3 := k.temp(), k.temp(), k.temp()
	VPRORD(Imm(r1), x, t1)
	VPRORD(Imm(r2), x, t2)
	third(Imm(r3), x, t3)
	VPTERNLOGD(Imm(xor), t3, t2, t1)
	return t1
}

// ternary returns the function that table gives of the bits of a, b and c.
func (k avx512) ternary(table uint64, a, b, c vector) vector {
	t := k.temp()
	VMOVDQA32(a, t)
	VPTERNLOGD(Imm(table), c, b, t)
	return t
}
