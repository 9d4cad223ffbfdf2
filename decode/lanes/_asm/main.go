// Command _asm writes the assembly of package lanes: SHA-256's compression
// function (FIPS 180-4, section 6.2.2) for several messages at once.
package main

import (
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

//go:generate go run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg lanes

// signature is that of every kernel: lanes.Width states and blocks, of which it
// uses as many as it has lanes.
const signature = "func(states *[16]*[8]uint32, blocks *[16]*byte, n int)"

// blockSize is the length of SHA-256's block in bytes.
const blockSize = 64

// constants is where the kernels find K, swap where they find the shuffle that
// turns four words from big-endian to little-endian, four times.
var constants, swap Mem

func main() {
	ConstraintExpr("amd64,!purego")
	constants = GLOBL("constants", RODATA|NOPTR)
	for i, k := range roundConstants() {
		DATA(4*i, U32(k))
	}
	swap = GLOBL("swap", RODATA|NOPTR)
	for i := range 64 {
		DATA(i, U8(i%16^3))
	}
	shani(1)
	shani(2)
	avx512{lanes: 8}.write()
	avx512{lanes: 16}.write()
	Generate()
}

// roundConstants returns K: the first 32 bits of the fractional parts of the
// cube roots of the first 64 primes.
func roundConstants() (k []uint32) {
	for n := uint64(2); len(k) < 64; n++ {
		if isPrime(n) {
			k = append(k, uint32(cubeRoot(n)))
		}
	}
	return k
}

func isPrime(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

// cubeRoot returns the cube root of n < 2^9 times 2^32, rounded down: the
// greatest r with r^3 <= n * 2^96.
func cubeRoot(n uint64) (r uint64) {
	for bit := uint64(1) << 34; bit != 0; bit >>= 1 {
		if c := r | bit; cubeAtMost(c, n) {
			r = c
		}
	}
	return r
}

// cubeAtMost reports whether r^3 <= n * 2^96, for r < 2^36.
func cubeAtMost(r, n uint64) bool {
	hi, lo := bits.Mul64(r, r) // r^2 < 2^72
	mid, low := bits.Mul64(lo, r)
	high := hi*r + mid // r^3 = high * 2^64 + low
	limit := n << 32
	return high < limit || high == limit && low == 0
}
