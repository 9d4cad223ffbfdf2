package fleet_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
)

// TestPermute compares with Tahoe-LAFS's permute_server_hash, given the same storage index and
// seeds.
func TestPermute(t *testing.T) {
	var servers []fleet.Server
	for i, s := range gridtest.New(8) {
		seed := bytes.Repeat([]byte{byte(i)}, 20+i%2*12)
		servers = append(servers, fleet.Server{Server: s, Seed: seed})
	}
	si := grid.StorageIndex{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	want := "s3 s4 s2 s7 s0 s1 s5 s6"
	if got := strings.Join(decodetest.Permuted(t, servers, si), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// A node without a seed is known by its ID, others by their names.
	for i := range servers {
		if i%2 == 0 {
			servers[i] = fleet.Server{Server: node{servers[i].Server, byte(i)}}
		}
	}
	if got := strings.Join(decodetest.Permuted(t, servers, si), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	a, b := decodetest.Permuted(t, unseeded(), si), decodetest.Permuted(t, unseeded(), grid.StorageIndex{})
	if slices.Equal(a, b) || !slices.Equal(a, decodetest.Permuted(t, unseeded(), si)) {
		t.Errorf("%v and %v", a, b)
	}
}

// node is a server with an ID.
type node struct {
	grid.Server
	id byte
}

func (n node) NodeID() (id grid.NodeID, known bool) {
	for i := range id {
		id[i] = n.id
	}
	return id, true
}

// unseeded returns eight servers that are known by their names.
func unseeded() (servers []fleet.Server) {
	for _, s := range gridtest.New(8) {
		servers = append(servers, fleet.Server{Server: s})
	}
	return servers
}
