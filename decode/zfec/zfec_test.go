package zfec_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"spillway/decode/zfec"
)

// mul multiplies in GF(2^8) the slow way, independent of the package.
func mul(a, b int) (product int) {
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			product ^= a
		}
		if a <<= 1; a >= 256 {
			a ^= 0x11d
		}
	}
	return product
}

// TestInterpolates: the code's blocks are the values of one polynomial of
// degree below k at the points 0, 1, 2, 4, 8, ... That defines the matrix.
func TestInterpolates(t *testing.T) {
	const k, n = 3, 10
	point := []int{0, 1}
	for len(point) < n {
		point = append(point, mul(point[len(point)-1], 2))
	}
	encoder, err := zfec.New(k, n).Encoder()
	if err != nil {
		t.Fatal(err)
	}
	coefficients := []int{17, 200, 91}
	value := func(x int) byte {
		v := 0
		for i := k - 1; i >= 0; i-- {
			v = mul(v, x) ^ coefficients[i]
		}
		return byte(v)
	}
	blocks := make([][]byte, n)
	for i := range blocks {
		blocks[i] = []byte{0}
		if i < k {
			blocks[i][0] = value(point[i])
		}
	}
	if err := encoder.Encode(blocks); err != nil {
		t.Fatal(err)
	}
	for i, b := range blocks {
		if b[0] != value(point[i]) {
			t.Errorf("block %d is %d, want %d", i, b[0], value(point[i]))
		}
	}
}

func TestEncodeDecode(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, code := range [][2]int{{1, 1}, {1, 2}, {1, 256}, {2, 3}, {3, 10}, {5, 5}, {10, 20}, {71, 255}, {128, 256}, {255, 256}, {256, 256}} {
		k, n := code[0], code[1]
		c := zfec.New(k, n)
		encoder, err := c.Encoder()
		if err != nil {
			t.Fatal(err)
		}
		for _, length := range []int{1, 31, 1000} {
			blocks := make([][]byte, n)
			for i := range blocks {
				blocks[i] = make([]byte, length)
				for j := range blocks[i] {
					blocks[i][j] = byte(random.Uint32())
				}
			}
			if err := encoder.Encode(blocks); err != nil {
				t.Fatalf("%d-of-%d: %v", k, n, err)
			}
			for range 3 {
				have := random.Perm(n)[:k]
				decoder, err := c.Decoder(have)
				if err != nil {
					t.Fatal(err)
				}
				var row [][]byte
				for _, num := range have {
					row = append(row, blocks[num])
				}
				for range decoder.Missing() {
					row = append(row, make([]byte, length))
				}
				if err := decoder.Decode(row); err != nil {
					t.Fatalf("%d-of-%d from %v: %v", k, n, have, err)
				}
				for i, num := range decoder.Missing() {
					if !bytes.Equal(row[k+i], blocks[num]) || slices.Contains(have, num) {
						t.Fatalf("%d-of-%d from %v: block %d is wrong", k, n, have, num)
					}
				}
			}
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for _, have := range [][]int{nil, {0, 1}, {0, 1, 2, 3}, {0, 1, 1}, {0, 1, 10}, {-1, 0, 1}} {
		if _, err := zfec.New(3, 10).Decoder(have); err == nil {
			t.Errorf("%v is accepted", have)
		}
	}
}
