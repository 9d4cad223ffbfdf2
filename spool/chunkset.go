package spool

import "math/bits"

// chunkset is a set of chunk numbers, one bit each: 128 KiB for a file of 1 TiB in chunks of 1 MiB.
// A nil set is empty and may only be read.
type chunkset []uint64

func newChunkset(n int64) chunkset { return make(chunkset, (n+63)/64) }

func (s chunkset) has(i int64) bool {
	w := i / 64
	return w < int64(len(s)) && s[w]&(1<<(i%64)) != 0
}

func (s chunkset) add(i int64)    { s[i/64] |= 1 << (i % 64) }
func (s chunkset) remove(i int64) { s[i/64] &^= 1 << (i % 64) }

// runEnd returns the first chunk number at or after i, and at most end, that is not in the set.
func (s chunkset) runEnd(i, end int64) int64 {
	for i < end {
		w := i / 64
		if w >= int64(len(s)) {
			return i
		}
		// The bits from i up, inverted: the lowest 1 is the first absentee.
		if absent := ^s[w] >> (i % 64); absent != 0 {
			return min(i+int64(bits.TrailingZeros64(absent)), end)
		}
		i = (w + 1) * 64
	}
	return end
}

func (s chunkset) any() bool {
	for _, w := range s {
		if w != 0 {
			return true
		}
	}
	return false
}
