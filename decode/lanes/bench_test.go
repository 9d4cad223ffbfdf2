package lanes_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"spillway/decode/lanes"
)

// BenchmarkSum hashes segments as a chunk has them: all of one length, under a
// prefix as long as the tag of a segment.
func BenchmarkSum(b *testing.B) {
	plans := lanes.Plans()
	for _, size := range []int{32, 128 << 10, 1 << 20} {
		for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16} {
			for _, name := range slices.Sorted(maps.Keys(plans)) {
				b.Run(fmt.Sprintf("%dx%d/%s", n, size, name), func(b *testing.B) {
					sum := plans[name]
					prefix := make([]byte, 35)
					memory := random(1, n*size)
					messages := make([][]byte, n)
					for i := range messages {
						messages[i] = memory[i*size:][:size]
					}
					digests := make([][lanes.Size]byte, n)
					b.SetBytes(int64(n * size))
					b.ReportAllocs()
					for b.Loop() {
						sum(digests, prefix, messages)
					}
				})
			}
		}
	}
}
