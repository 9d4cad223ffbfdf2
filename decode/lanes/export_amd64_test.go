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
			if (k == shaX1 || k == shaX2) && !hasSHA || (k == avx512X8 || k == avx512X16) && !hasAVX512 {
				return
			}
		}
		plans[name] = func(digests [][Size]byte, prefix []byte, messages [][]byte) {
			sumSideBySide(&p, digests, prefix, messages)
		}
	}
	for name, k := range map[string]kernel{"SHAx1": shaX1, "SHAx2": shaX2, "AVX512x8": avx512X8, "AVX512x16": avx512X16} {
		add(name, plan(slices.Repeat([]kernel{k}, Width+1)))
	}
	add("all", planFor(true, true, true))
	add("no AVX512", planFor(true, false, true))
	add("no SHA", planFor(false, true, true))
	return plans
}
