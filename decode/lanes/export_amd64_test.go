//go:build !purego

package lanes

import (
	"slices"

	"github.com/klauspost/cpuid/v2"
)

// Plans returns Sum as it would be with each plan, and with each kernel alone, that this
// processor can follow, by name.
func Plans() map[string]func(digests [][Size]byte, prefix []byte, messages [][]byte) {
	hasSHA := cpuid.CPU.Supports(cpuid.SHA, cpuid.SSE4, cpuid.AVX)
	hasAVX512 := cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512VL)
	plans := map[string]func([][Size]byte, []byte, [][]byte){"crypto": sumInTurn, "best": sum}
	add := func(name string, p plan) {
		for _, k := range p[1:] {
			if (k == sha1 || k == sha2) && !hasSHA || k == avx512 && !hasAVX512 {
				return
			}
		}
		plans[name] = func(digests [][Size]byte, prefix []byte, messages [][]byte) {
			sumSideBySide(&p, digests, prefix, messages)
		}
	}
	for name, k := range map[string]kernel{"sha1": sha1, "sha2": sha2, "avx512": avx512} {
		add(name, plan(slices.Repeat([]kernel{k}, Width+1)))
	}
	add("Intel", planFor(true, true, true))
	add("SHA", planFor(true, false, false))
	add("AVX512", planFor(false, true, true))
	return plans
}
