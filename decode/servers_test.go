package decode_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/gridtest"
)

// TestSetServers replaces the servers under an open file: it goes on reading from those that it
// began with, finds shares on the new ones, and each server is closed once, when nobody uses it.
func TestSetServers(t *testing.T) {
	mem, data := gridtest.New(3), decodetest.Plaintext(300_000)
	c := put(t, mem, data, putOptions{K: 2, N: 3, SegmentSize: 1 << 16})
	var servers []*gridtest.Closing
	for _, s := range mem {
		servers = append(servers, &gridtest.Closing{Server: s})
	}
	client, members := config{Servers: []fleet.Server{{Server: servers[0]}, {Server: servers[1]}}}.open(t)
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	read := func() {
		t.Helper()
		if got, err := decodetest.ReadAll(t.Context(), f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v", err)
		}
	}
	if err := members.SetServers([]fleet.Server{{Server: servers[2], Nickname: "third"}}); err != nil {
		t.Fatal(err)
	}
	read()
	mem[0].OnRead = func(context.Context, int, int64) error { return errors.New("it is gone") }
	read()
	if n := servers[0].Closed.Load() + servers[1].Closed.Load(); n != 0 {
		t.Errorf("%d servers of an open file are closed", n)
	}
	f.Close()
	if a, b := servers[0].Closed.Load(), servers[1].Closed.Load(); a != 1 || b != 1 {
		t.Errorf("servers that nobody uses were closed %d and %d times", a, b)
	}
	if err := members.SetServers(nil); err == nil {
		t.Error("no servers at all were accepted")
	}
	client.Close()
	members.Close()
	if n := servers[2].Closed.Load(); n != 1 {
		t.Errorf("the server left was closed %d times", n)
	}
	late := &gridtest.Closing{Server: mem[1]}
	if err := members.SetServers([]fleet.Server{{Server: late}}); !errors.Is(err, fleet.ErrClosed) || late.Closed.Load() != 1 {
		t.Errorf("%v; a server given to a closed Client was closed %d times", err, late.Closed.Load())
	}
}
