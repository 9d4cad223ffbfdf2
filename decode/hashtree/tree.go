package hashtree

import (
	"crypto/sha256"
	"math/bits"
	"unsafe"

	"spillway/decode/lanes"
)

// A tree is complete: its leaves are padded to a power of two with EmptyLeaf,
// node 0 is the root, and the children of node i are 2i+1 and 2i+2. So every
// level is contiguous, and so are, in every level, the nodes of a subtree.

// Width returns the number of leaves of the tree over n data leaves: n rounded
// up to a power of two. N is 1..2^62.
func Width(n int64) int64 {
	return 1 << bits.Len64(uint64(n-1))
}

// Bytes returns the length of the whole tree over n data leaves, in bytes. N
// is at most 2^56.
func Bytes(n int64) int64 { return (2*Width(n) - 1) * Size }

// LevelOffset returns where, in bytes from the start of a tree, the level of
// width nodes stands. Width is a power of two.
func LevelOffset(width int64) int64 { return (width - 1) * Size }

// Pad appends the empty leaves that the tree over leaves needs.
func Pad(leaves []Hash) []Hash {
	for i, w := int64(len(leaves)), Width(int64(len(leaves))); i < w; i++ {
		leaves = append(leaves, EmptyLeaf(i))
	}
	return leaves
}

// Parents overwrites the first half of level, a whole power of two and at
// least two, with the level above it, and returns that half.
func Parents(level []Hash) []Hash {
	half := level[:len(level)/2]
	var pairs [pairsAtOnce][pairLength]byte
	var messages [pairsAtOnce][]byte
	for first := 0; first < len(half); first += pairsAtOnce {
		nodes := half[first:min(first+pairsAtOnce, len(half))]
		for i := range nodes {
			messages[i] = appendPair(pairs[i][:0], &level[2*(first+i)], &level[2*(first+i)+1])
		}
		lanes.Sum(nodes, nil, messages[:len(nodes)])
		for i := range nodes {
			nodes[i] = sha256.Sum256(nodes[i][:])
		}
	}
	return half
}

// pairsAtOnce is how many inner nodes are hashed side by side.
const pairsAtOnce = 2 * lanes.Width

// Root returns the hash at the top of level, a whole power of two; level is overwritten.
func Root(level []Hash) Hash {
	for len(level) > 1 {
		level = Parents(level)
	}
	return level[0]
}

// AsBytes returns the memory of hashes, to read them into or write them from.
func AsBytes(hashes []Hash) []byte {
	if len(hashes) == 0 {
		return nil
	}
	return unsafe.Slice(&hashes[0][0], len(hashes)*Size)
}

// Path returns the nodes that prove leaf i of the tree over n data leaves: the
// leaf itself, then the sibling of every node on the way to the root, which is
// not among them unless it is the leaf.
func Path(n, i int64) []int64 {
	node := Width(n) - 1 + i
	path := []int64{node}
	for ; node > 0; node = (node - 1) / 2 {
		path = append(path, sibling(node))
	}
	return path
}

// RootOfPath returns the root that leaf i of the tree over n data leaves and
// the hashes of its siblings, bottom first, lead to.
func RootOfPath(n, i int64, leaf Hash, siblings []Hash) Hash {
	node := Width(n) - 1 + i
	for s := range siblings {
		if node%2 == 1 {
			leaf = Node(&leaf, &siblings[s])
		} else {
			leaf = Node(&siblings[s], &leaf)
		}
		node = (node - 1) / 2
	}
	return leaf
}

func sibling(node int64) int64 {
	if node%2 == 1 {
		return node + 1
	}
	return node - 1
}
