package decode_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"spillway/decode"
	"spillway/decode/grid"
	"spillway/decode/grid/dir"
)

// closing counts how often a server is closed.
type closing struct {
	grid.Server
	closed atomic.Int64
}

func (s *closing) Close() error {
	s.closed.Add(1)
	return s.Server.Close()
}

// TestSetServers replaces the servers under an open file: it goes on reading from those that it
// began with, finds shares on the new ones, and each server is closed once, when nobody uses it.
func TestSetServers(t *testing.T) {
	mem, data := newGrid(3), plaintext(300_000)
	c := put(t, mem, data, decode.PutOptions{K: 2, N: 3, SegmentSize: 1 << 16})
	var servers []*closing
	for _, s := range mem {
		servers = append(servers, &closing{Server: s})
	}
	client, err := decode.New(decode.Config{Servers: []decode.Server{{Server: servers[0]}, {Server: servers[1]}}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	read := func() {
		t.Helper()
		if got, err := readAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
	}
	if err := client.SetServers([]decode.Server{{Server: servers[2], Nickname: "third"}}); err != nil {
		t.Fatal(err)
	}
	read()
	mem[0].onRead = func(context.Context, int, int64) error { return errors.New("it is gone") }
	read()
	if n := servers[0].closed.Load() + servers[1].closed.Load(); n != 0 {
		t.Errorf("%d servers of an open file are closed", n)
	}
	f.Close()
	if a, b := servers[0].closed.Load(), servers[1].closed.Load(); a != 1 || b != 1 {
		t.Errorf("servers that nobody uses were closed %d and %d times", a, b)
	}
	if err := client.SetServers(nil); err == nil {
		t.Error("no servers at all were accepted")
	}
	client.Close()
	if n := servers[2].closed.Load(); n != 1 {
		t.Errorf("the server left was closed %d times", n)
	}
	late := &closing{Server: mem[1]}
	if err := client.SetServers([]decode.Server{{Server: late}}); !errors.Is(err, decode.ErrClosed) || late.closed.Load() != 1 {
		t.Errorf("%v; a server given to a closed Client was closed %d times", err, late.closed.Load())
	}
}

// TestSetServersKeeps keeps a server whose URL is still there.
func TestSetServersKeeps(t *testing.T) {
	parse := func() decode.Server {
		s, err := decode.ParseServer(dir.New(t.TempDir()).String())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	kept := parse()
	first, second := &closing{Server: kept.Server}, &closing{Server: kept.Server}
	kept.Server = first
	client := newClient(t, decode.Config{Servers: []decode.Server{parse(), kept}})
	kept.Server = second
	if err := client.SetServers([]decode.Server{kept, parse()}); err != nil {
		t.Fatal(err)
	}
	if first.closed.Load() != 0 || second.closed.Load() != 1 {
		t.Errorf("the server that stayed was closed %d times, its double %d times", first.closed.Load(), second.closed.Load())
	}
}
