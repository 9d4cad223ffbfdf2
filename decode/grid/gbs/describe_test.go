package gbs_test

import (
	"math/big"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"spillway/decode/grid"
)

// TestDescribe: a server that does not know its free space says 2^64.
func TestDescribe(t *testing.T) {
	f := start(t)
	var s grid.Describer = f.client(t)
	want := grid.Description{Software: "tahoe-lafs/1.20.0", Free: 98765432109}
	if d, err := s.Describe(t.Context()); d != want || err != nil {
		t.Errorf("%+v, %v", d, err)
	}
	f.onVersion = func(v map[any]any) {
		storage := v[cbor.ByteString("http://allmydata.org/tahoe/protocols/storage/v1")].(map[any]any)
		storage[cbor.ByteString("available-space")] = new(big.Int).Lsh(big.NewInt(1), 64)
	}
	want.Free = -1
	if d, err := s.Describe(t.Context()); d != want || err != nil {
		t.Errorf("%+v, %v", d, err)
	}
}
