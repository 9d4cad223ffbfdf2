package zfec

// matrix is a matrix over GF(2^8), by rows.
type matrix [][]byte

// field is GF(2^8) by its logarithms to the base 2.
type field struct {
	exp [510]byte // exp[i] = 2^i; twice the period, so that sums of logarithms need no reduction
	log [256]int  // log[0] is not used
}

// gf is constant.
var gf = newField()

func newField() *field {
	var f field
	x := 1
	for i := range 255 {
		f.exp[i], f.exp[i+255] = byte(x), byte(x)
		f.log[x] = i
		if x <<= 1; x >= 256 {
			x ^= 0x11d
		}
	}
	return &f
}

func (f *field) mul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return f.exp[f.log[a]+f.log[b]]
}

func (f *field) inverse(a byte) byte { return f.exp[255-f.log[a]] }

// systematic returns the n x k matrix of the code: the Vandermonde matrix whose
// row 0 is (1, 0, ..., 0) and whose row r > 0 holds (2^(r-1))^c in column c,
// times the inverse of its upper k x k part.
func systematic(k, n int) matrix {
	vandermonde := newMatrix(n, k)
	vandermonde[0][0] = 1
	for r := 1; r < n; r++ {
		for c := range k {
			vandermonde[r][c] = gf.exp[(r-1)*c%255]
		}
	}
	top := vandermonde[:k].inverse()
	m := newMatrix(n, k)
	for r := range m {
		if r < k {
			m[r][r] = 1
			continue
		}
		for i, factor := range vandermonde[r] {
			addScaled(m[r], top[i], factor)
		}
	}
	return m
}

func newMatrix(rows, columns int) matrix {
	m := make(matrix, rows)
	for r := range m {
		m[r] = make([]byte, columns)
	}
	return m
}

// addScaled adds factor times from to row.
func addScaled(row, from []byte, factor byte) {
	for c := range row {
		row[c] ^= gf.mul(factor, from[c])
	}
}

// inverse returns the inverse of m, which is square and, as every choice of k
// rows of the code's matrix is, not singular.
func (m matrix) inverse() matrix {
	k := len(m)
	left, right := newMatrix(k, k), newMatrix(k, k)
	for r := range m {
		copy(left[r], m[r])
		right[r][r] = 1
	}
	for c := range k {
		pivot := c
		for left[pivot][c] == 0 {
			if pivot++; pivot == k {
				panic("internal error: a singular matrix")
			}
		}
		left[c], left[pivot] = left[pivot], left[c]
		right[c], right[pivot] = right[pivot], right[c]
		scale := gf.inverse(left[c][c])
		for i := range k {
			left[c][i] = gf.mul(scale, left[c][i])
			right[c][i] = gf.mul(scale, right[c][i])
		}
		for r := range k {
			if factor := left[r][c]; r != c && factor != 0 {
				addScaled(left[r], left[c], factor)
				addScaled(right[r], right[c], factor)
			}
		}
	}
	return right
}
