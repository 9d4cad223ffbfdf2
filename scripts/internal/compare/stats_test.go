package compare_test

import (
	"math"
	"testing"

	"spillway/scripts/internal/compare"
)

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, math.NaN()},
		{[]float64{7}, 0, 7},
		{[]float64{7}, 1, 7},
		{[]float64{3, 1, 2}, 0, 1},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{3, 1, 2}, 1, 3},
		{[]float64{4, 3, 2, 1}, 0.5, 2},
		{[]float64{4, 3, 2, 1}, 0.51, 3},
		{[]float64{4, 3, 2, 1}, 0.99, 4},
	} {
		if got := compare.Quantile(test.values, test.q); !same(got, test.want) {
			t.Errorf("compare.Quantile(%v, %v) = %v, want %v", test.values, test.q, got, test.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, math.NaN()},
		{[]float64{5}, 5},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		values := append([]float64(nil), test.values...)
		if got := compare.Median(values); !same(got, test.want) {
			t.Errorf("compare.Median(%v) = %v, want %v", test.values, got, test.want)
		}
		for i := range values {
			if values[i] != test.values[i] {
				t.Errorf("median changed its argument: %v, was %v", values, test.values)
				break
			}
		}
	}
}

func TestRatio(t *testing.T) {
	for _, test := range []struct {
		a, b []float64
		want float64
	}{
		{nil, nil, math.NaN()},
		{[]float64{6}, []float64{3}, 2},
		// The second round was disturbed on both sides: it does not matter.
		{[]float64{6, 60, 6}, []float64{3, 30, 3}, 2},
		// It was disturbed on one side: the median leaves it out.
		{[]float64{6, 6, 6}, []float64{3, 300, 3}, 2},
		// A round that one side does not have does not count.
		{[]float64{6, 8}, []float64{3}, 2},
	} {
		if got := compare.Ratio(test.a, test.b); !same(got, test.want) {
			t.Errorf("compare.Ratio(%v, %v) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

func same(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b)
}
