package fleet_test

import (
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"sync/atomic"
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

// closing counts how often a server is closed.
type closing struct {
	grid.Server
	closed atomic.Int64
}

func (s *closing) Close() error {
	s.closed.Add(1)
	return s.Server.Close()
}

// TestSetServersKeeps keeps a server whose URL is still there.
func TestSetServersKeeps(t *testing.T) {
	named := func() fleet.Server {
		s := dir.New(t.TempDir())
		return fleet.Server{Server: s, URL: s.String()}
	}
	kept := named()
	first, second := &closing{Server: kept.Server}, &closing{Server: kept.Server}
	kept.Server = first
	members := newFleet(t, fleet.Config{Servers: []fleet.Server{named(), kept}})
	kept.Server = second
	if err := members.SetServers([]fleet.Server{kept, named()}); err != nil {
		t.Fatal(err)
	}
	if first.closed.Load() != 0 || second.closed.Load() != 1 {
		t.Errorf("the server that stayed was closed %d times, its double %d times", first.closed.Load(), second.closed.Load())
	}
}
