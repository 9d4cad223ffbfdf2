// Package hashtree computes the tagged hashes and the Merkle trees that prove
// the bytes of Tahoe-LAFS's immutable files (docs/specifications/file-encoding.rst,
// "Hashes", and src/allmydata/{hashtree,util/hashutil}.py).
package hashtree

import (
	"crypto/sha256"
	"hash"
	"strconv"

	"spillway/decode/lanes"
)

// Size is the length of a hash in bytes.
const Size = sha256.Size

// Hash is one tagged hash.
type Hash [Size]byte

// Tag says what a hash is of, so that no two uses can be mistaken for one
// another.
type Tag string

// The tags of immutable files.
const (
	StorageIndexTag Tag = "allmydata_immutable_key_to_storage_index_v1"
	BlockTag        Tag = "allmydata_encoded_subshare_v1"
	UEBTag          Tag = "allmydata_uri_extension_v1"
	CrypttextTag    Tag = "allmydata_crypttext_v1"
	SegmentTag      Tag = "allmydata_crypttext_segment_v1"

	convergenceTag Tag = "allmydata_immutable_content_to_key_with_added_secret_v1+"
	nodeTag        Tag = "Merkle tree internal node"
	emptyLeafTag   Tag = "Merkle tree empty leaf"
)

// ConvergenceTag is the tag under which the plaintext of a file hashes to its
// convergent key: the first 16 bytes. Segsize is the segment size in bytes
// after both adjustments (at most the file, a multiple of k).
func ConvergenceTag(secret []byte, k, n int, segsize int64) Tag {
	params := strconv.Itoa(k) + "," + strconv.Itoa(n) + "," + strconv.FormatInt(segsize, 10)
	return convergenceTag + Tag(netstring(string(secret))+netstring(params))
}

// netstring returns s as D. J. Bernstein's netstring.
func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s + "," }

// Tagged returns SHA-256(SHA-256(netstring(tag) || data)).
func Tagged(tag Tag, data []byte) Hash {
	h := NewHasher(tag)
	h.Write(data)
	return h.Sum()
}

// Hasher computes tagged hashes of what is written to it, one after another
// and without allocating. One goroutine uses it at a time.
type Hasher struct {
	prefix []byte
	inner  hash.Hash
	digest [Size]byte
}

// NewHasher returns a Hasher that awaits the first data under the tag.
func NewHasher(tag Tag) *Hasher {
	h := &Hasher{prefix: []byte(netstring(string(tag))), inner: sha256.New()}
	h.Reset()
	return h
}

// Reset forgets what was written.
func (h *Hasher) Reset() {
	h.inner.Reset()
	h.inner.Write(h.prefix)
}

// Write adds to the data; it never fails.
func (h *Hasher) Write(p []byte) (int, error) { return h.inner.Write(p) }

// Sum returns the hash of what was written since the last Reset.
func (h *Hasher) Sum() Hash {
	return sha256.Sum256(h.inner.Sum(h.digest[:0]))
}

// Of returns the hash of data alone.
func (h *Hasher) Of(data []byte) Hash {
	h.Reset()
	h.Write(data)
	return h.Sum()
}

// OfEach sets hashes[i] to the hash of data[i] alone, for all of data. They are hashed side by
// side: that is fastest for lanes.Width of one length at a time. It panics if
// there are not as many hashes as data, and leaves alone what was written.
func (h *Hasher) OfEach(hashes []Hash, data [][]byte) {
	lanes.Sum(hashes, h.prefix, data)
	for i := range hashes {
		hashes[i] = sha256.Sum256(hashes[i][:])
	}
}

// pairPrefix and the layout below are netstring(nodeTag) || netstring(a) || netstring(b).
const (
	pairPrefix = "25:" + string(nodeTag) + ",32:"
	pairMiddle = ",32:"
	pairLength = len(pairPrefix) + Size + len(pairMiddle) + Size + 1
)

// Node returns the hash of an inner node from those of its children.
func Node(left, right *Hash) Hash {
	var b [pairLength]byte
	inner := sha256.Sum256(appendPair(b[:0], left, right))
	return sha256.Sum256(inner[:])
}

func appendPair(b []byte, left, right *Hash) []byte {
	b = append(b, pairPrefix...)
	b = append(b, left[:]...)
	b = append(b, pairMiddle...)
	b = append(b, right[:]...)
	return append(b, ',')
}

// EmptyLeaf returns the hash that stands for leaf i where there is no data for it.
func EmptyLeaf(i int64) Hash {
	return Tagged(emptyLeafTag, strconv.AppendInt(nil, i, 10))
}
