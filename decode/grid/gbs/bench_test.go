package gbs_test

import (
	"testing"

	"spillway/decode/grid/gridtest"
)

// BenchmarkReadAt reads a third of a segment of 1 MiB, server and TLS on both sides included.
func BenchmarkReadAt(b *testing.B) {
	const block = 349526
	f := start(b)
	s := f.client(b)
	si := gridtest.StorageIndex()
	f.shares[si.String()+"/0"] = make([]byte, 10*block)
	sh, err := s.Open(b.Context(), si, 0)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, block)
	b.SetBytes(block)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		if _, err := sh.ReadAt(b.Context(), i%10*block, buf); err != nil {
			b.Fatal(err)
		}
	}
}
