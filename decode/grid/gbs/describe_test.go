package gbs_test

import (
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"spillway/decode/grid"
	"spillway/decode/grid/gbs"
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

// TestBrief: what readers are told of a server names neither keys nor addresses.
func TestBrief(t *testing.T) {
	f := start(t)
	for want, url := range map[string]string{
		"answered 401":                    "pb://" + f.key() + "@" + f.address() + "/another#v=1",
		"shows a key that is not its own": "pb://" + strings.Repeat("A", 43) + "@" + f.address() + "/" + swissnum + "#v=1",
	} {
		s, err := gbs.Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Version(t.Context())
		if brief := grid.BriefError(nil); !errors.As(err, &brief) || brief.Brief() != want {
			t.Errorf("%v, want %q", err, want)
		}
		s.Close()
	}
}

// TestConnect: what Connect has connected, it uses the next time.
func TestConnect(t *testing.T) {
	f := start(t)
	s := f.client(t)
	var both sync.WaitGroup
	f.intercept(func(http.ResponseWriter, *http.Request) bool {
		both.Done()
		both.Wait() // one after the other would need one connection only
		return false
	})
	for range 3 {
		both.Add(2)
		if err := s.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ever, open := f.connections(); ever != 2 || open != 2 {
		t.Errorf("%d connections, %d of them open", ever, open)
	}
	f.Close()
	if err := s.Connect(t.Context()); err == nil {
		t.Error("connected to a server that is gone")
	}
}
