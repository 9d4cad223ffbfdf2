// Package zfec is the erasure code of Tahoe-LAFS, bit for bit that of the zfec
// library: a systematic Reed-Solomon code over GF(2^8), polynomial 0x11d,
// generator 2 (zfec's fec.c, fec_new). The arithmetic on blocks is
// klauspost/reedsolomon's, which has the same field and takes our matrix.
package zfec

import (
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// MaxShares is the greatest n.
const MaxShares = 256

// Code is the code that makes n blocks of k. It is safe for concurrent use.
type Code struct {
	k, n   int
	matrix func() matrix // n x k, identity on top; computed when first wanted
}

// New returns the code k-of-n; it panics unless 1 <= k <= n <= 256.
func New(k, n int) *Code {
	if k < 1 || k > n || n > MaxShares {
		panic(fmt.Sprintf("internal error: no code is %d-of-%d", k, n))
	}
	return &Code{k: k, n: n, matrix: sync.OnceValue(func() matrix { return systematic(k, n) })}
}

// Encoder computes the n-k parity blocks. It is safe for concurrent use.
type Encoder struct {
	k, parity int
	rs        reedsolomon.Encoder
}

// Encoder returns the encoder of the code.
func (c *Code) Encoder() (*Encoder, error) {
	rs, err := multiplier(c.k, c.matrix()[c.k:])
	if err != nil {
		return nil, err
	}
	return &Encoder{k: c.k, parity: c.n - c.k, rs: rs}, nil
}

// Encode fills blocks[k:] from the primary blocks[:k]. All n have one length, not 0.
func (e *Encoder) Encode(blocks [][]byte) error {
	if e.parity == 0 {
		return nil
	}
	return e.rs.Encode(blocks)
}

// Decoder computes the primary blocks that one choice of k blocks lacks. It is
// safe for concurrent use.
type Decoder struct {
	missing []int
	rs      reedsolomon.Encoder
}

// Decoder returns the decoder of the choice have: k distinct share numbers, in
// the order in which Decode is given their blocks.
func (c *Code) Decoder(have []int) (*Decoder, error) {
	if len(have) != c.k {
		return nil, fmt.Errorf("zfec: %d blocks instead of %d", len(have), c.k)
	}
	rows := make(matrix, c.k)
	for i, num := range have {
		if num < 0 || num >= c.n || slices.Contains(have[:i], num) {
			return nil, fmt.Errorf("zfec: %v are not distinct numbers below %d", have, c.n)
		}
		rows[i] = c.matrix()[num]
	}
	d := &Decoder{}
	for num := range c.k {
		if !slices.Contains(have, num) {
			d.missing = append(d.missing, num)
		}
	}
	if len(d.missing) == 0 {
		return d, nil
	}
	inverse := rows.inverse()
	wanted := make(matrix, len(d.missing))
	for i, num := range d.missing {
		wanted[i] = inverse[num]
	}
	var err error
	d.rs, err = multiplier(c.k, wanted)
	return d, err
}

// Missing returns the numbers of the primary blocks that Decode computes, ascending.
func (d *Decoder) Missing() []int { return d.missing }

// Decode fills the blocks after the first k, one for each of Missing, from the
// first k, one for each of the chosen shares. All have one length, not 0.
func (d *Decoder) Decode(blocks [][]byte) error {
	if len(d.missing) == 0 {
		return nil
	}
	return d.rs.Encode(blocks)
}

// FewBlocks is the greatest k for which the arithmetic is so fast that what a
// call costs by itself does not matter, however short the blocks are.
const FewBlocks = 10

// multiplier returns what multiplies k blocks by the rows.
//
// Few blocks are multiplied as fast as memory brings them, by AVX2 as by GFNI, with which
// klauspost/reedsolomon 1.14 allocates in every call; two goroutines cost more than they give. For
// many blocks GFNI takes 0.4 of the time, and one goroutine alone never uses it there; as soon as
// it may use two, it does, on one core too.
func multiplier(k int, rows matrix) (reedsolomon.Encoder, error) {
	options := []reedsolomon.Option{reedsolomon.WithCustomMatrix(rows), reedsolomon.WithInversionCache(false)}
	if k <= FewBlocks && len(rows) <= FewBlocks {
		options = append(options, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithGFNI(false), reedsolomon.WithAVXGFNI(false))
	} else {
		options = append(options, reedsolomon.WithMaxGoroutines(2), reedsolomon.WithMinSplitSize(1<<10))
	}
	return reedsolomon.New(k, len(rows), options...)
}
