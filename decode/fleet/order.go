package fleet

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"slices"

	"spillway/decode/grid"
)

// Permute returns the members in the order in which Tahoe-LAFS's clients search the grid for the
// shares of si, and in which they place them (permute_server_hash in
// src/allmydata/util/hashutil.py). A storage node is known by its seed, else by its node ID, which
// is the seed of old ones. What is neither is known by its URL: that order is stable, and nobody
// else's.
func Permute(members []*Member, si grid.StorageIndex) []*Member {
	places := make(map[*Member][]byte, len(members))
	for _, m := range members {
		seed := m.Seed
		if node, ok := m.Server.Server.(grid.Node); ok && seed == nil {
			if id, known := node.NodeID(); known {
				seed = id[:]
			}
		}
		if seed == nil {
			hash := sha256.Sum256([]byte(m.Server.Server.String()))
			seed = hash[:]
		}
		place := sha1.Sum(append(si[:], seed...))
		places[m] = place[:]
	}
	sorted := slices.Clone(members)
	slices.SortStableFunc(sorted, func(a, b *Member) int { return bytes.Compare(places[a], places[b]) })
	return sorted
}
