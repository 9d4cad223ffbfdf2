package upload_test

import (
	"math/rand/v2"
	"slices"
	"spillway/decode/upload"
	"testing"
)

// TestHappiness has the examples of docs/specifications/servers-of-happiness.rst and
// happinessutil.py.
func TestHappiness(t *testing.T) {
	for _, test := range []struct {
		holds           [][]int
		happy, distinct int
	}{
		{nil, 0, 0},
		{[][]int{{1, 2, 3, 4}, {6}, {3}, {4}, {2}}, 5, 5},
		{[][]int{{0}, {0}, {0}}, 1, 1},
		{[][]int{{0, 1}, {0}, {1}}, 2, 2},
		{[][]int{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {}, {9}}, 2, 10},
	} {
		if happy, distinct := upload.Happiness(10, test.holds); happy != test.happy || distinct != test.distinct {
			t.Errorf("%v: %d servers, %d shares", test.holds, happy, distinct)
		}
	}
}

// bestMatching tries everything.
func bestMatching(holds [][]int, used uint) int {
	if len(holds) == 0 {
		return 0
	}
	best := bestMatching(holds[1:], used)
	for _, num := range holds[0] {
		if used&(1<<num) == 0 {
			best = max(best, 1+bestMatching(holds[1:], used|1<<num))
		}
	}
	return best
}

// TestAllot: no other allotment could make more servers happy; every share that was nowhere is
// somewhere, no server has a share twice, and none that takes nothing is given anything.
func TestAllot(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		n, servers := 1+random.IntN(5), 1+random.IntN(5)
		holds, open, could := make([][]int, servers), make([]bool, servers), make([][]int, servers)
		anyOpen := false
		for i := range holds {
			open[i] = random.IntN(3) > 0
			anyOpen = anyOpen || open[i]
			for num := range n {
				has := random.IntN(4) == 0
				if has {
					holds[i] = append(holds[i], num)
				}
				if has || open[i] {
					could[i] = append(could[i], num)
				}
			}
		}
		after := make([][]int, servers)
		for i, given := range upload.Allot(n, holds, open) {
			after[i] = append(slices.Clone(holds[i]), given...)
			slices.Sort(after[i])
			if !open[i] && len(given) > 0 || len(slices.Compact(slices.Clone(after[i]))) != len(after[i]) {
				t.Fatalf("%v, %v: %v", holds, open, after)
			}
		}
		happy, distinct := upload.Happiness(n, after)
		if best := bestMatching(could, 0); happy != best || happy != bestMatching(after, 0) {
			t.Fatalf("%v, %v: %v, %d happy servers, not %d", holds, open, after, happy, best)
		}
		if anyOpen && distinct != n {
			t.Fatalf("%v, %v: %v", holds, open, after)
		}
		if again := slices.Concat(upload.Allot(n, after, open)...); len(again) != 0 {
			t.Fatalf("%v, %v: %v, and again %v", holds, open, after, again)
		}
	}
}
