package fleet_test

import (
	"spillway/decode/fleet"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gridtest"
	"testing"
)

// newFleet returns a Fleet that is closed at the end of the test.
func newFleet(t *testing.T, cfg fleet.Config) *fleet.Fleet {
	t.Helper()
	f, err := fleet.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// TestSetServersKeeps keeps a server whose URL is still there.
func TestSetServersKeeps(t *testing.T) {
	named := func() fleet.Server {
		s := dir.New(t.TempDir())
		return fleet.Server{Server: s, URL: s.String()}
	}
	kept := named()
	first, second := &gridtest.Closing{Server: kept.Server}, &gridtest.Closing{Server: kept.Server}
	kept.Server = first
	members := newFleet(t, fleet.Config{Servers: []fleet.Server{named(), kept}})
	kept.Server = second
	if err := members.SetServers([]fleet.Server{kept, named()}); err != nil {
		t.Fatal(err)
	}
	if first.Closed.Load() != 0 || second.Closed.Load() != 1 {
		t.Errorf("the server that stayed was closed %d times, its double %d times", first.Closed.Load(), second.Closed.Load())
	}
}
