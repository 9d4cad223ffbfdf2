package chk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"spillway/decode/hashtree"
)

// A share hash chain is a row of records, each a node number in the share hash
// tree (2 bytes, big-endian) and its hash.
const chainRecord = 2 + hashtree.Size

// ChainSize returns the length in bytes of the share hash chain of each of n shares.
func ChainSize(n int) int64 { return int64(len(hashtree.Path(int64(n), 0))) * chainRecord }

// marshalChain returns the chain of share num from the tree's levels, the
// leaves first, each as wide as half the one before.
func marshalChain(levels [][]hashtree.Hash, n, num int) []byte {
	var b []byte
	for i, node := range hashtree.Path(int64(n), int64(num)) {
		level := levels[max(0, i-1)] // the leaf and its sibling stand on one level
		h := level[node-int64(len(level)-1)]
		b = append(binary.BigEndian.AppendUint16(b, uint16(node)), h[:]...)
	}
	return b
}

var errChain = errors.New("chk: the share hash chain does not lead to the share root hash")

// VerifyChain verifies the chain of share num of n against the share root
// hash and returns what it proves: the root of the share's block hash tree.
// Records may stand in any order; those that are not on the path are ignored.
func VerifyChain(chain []byte, n, num int, shareRoot hashtree.Hash) (hashtree.Hash, error) {
	if len(chain)%chainRecord != 0 {
		return hashtree.Hash{}, fmt.Errorf("chk: a share hash chain of %d bytes", len(chain))
	}
	nodes := make(map[int64]hashtree.Hash, len(chain)/chainRecord)
	for ; len(chain) > 0; chain = chain[chainRecord:] {
		nodes[int64(binary.BigEndian.Uint16(chain))] = hashtree.Hash(chain[2:chainRecord])
	}
	var hashes []hashtree.Hash
	for _, node := range hashtree.Path(int64(n), int64(num)) {
		h, ok := nodes[node]
		if !ok {
			return hashtree.Hash{}, fmt.Errorf("chk: the share hash chain lacks node %d", node)
		}
		hashes = append(hashes, h)
	}
	if hashtree.RootOfPath(int64(n), int64(num), hashes[0], hashes[1:]) != shareRoot {
		return hashtree.Hash{}, errChain
	}
	return hashes[0], nil
}
