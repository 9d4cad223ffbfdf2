package hashtree_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"testing"

	"spillway/decode/hashtree"
)

// TestKnownAnswers has values from Tahoe-LAFS's own tests (src/allmydata/test/test_hashutil.py).
func TestKnownAnswers(t *testing.T) {
	for _, test := range []struct {
		tag        hashtree.Tag
		data, want string
	}{
		{"tag", "hello world", "yra322btzoqjp4ts2jon5dztgnilcdg6jgztgk7joi6qpjkitg2q"},
		{hashtree.StorageIndexTag, "", "qb5igbhcc5esa6lwqorsy7e6am"},
		{hashtree.StorageIndexTag, "xxxxxxxxxxxxxxxx", "wvggbrnrezdpa5yayrgiw5nzja"},
		{hashtree.BlockTag, "", "msjr5bh4evuh7fa3zw7uovixfbvlnstr5b65mrerwfnvjxig2jvq"},
		{hashtree.UEBTag, "", "wthsu45q7zewac2mnivoaa4ulh5xvbzdmsbuyztq2a5fzxdrnkka"},
		{hashtree.CrypttextTag, "", "itdj6e4njtkoiavlrmxkvpreosscssklunhwtvxn6ggho4rkqwga"},
		{hashtree.SegmentTag, "", "aovy5aa7jej6ym5ikgwyoi4pxawnoj3wtaludjz7e2nb5xijb7aa"},
		{hashtree.ConvergenceTag([]byte("converge"), 3, 10, 100), "", "3mo6ni7xweplycin6nowynw2we"},
	} {
		h := hashtree.Tagged(test.tag, []byte(test.data))
		encoding := base32.StdEncoding.WithPadding(base32.NoPadding)
		size := len(test.want) * 5 / 8
		if got := strings.ToLower(encoding.EncodeToString(h[:size])); got != test.want {
			t.Errorf("%s of %q is %s, want %s", test.tag, test.data, got, test.want)
		}
	}
}

func TestHasher(t *testing.T) {
	hasher := hashtree.NewHasher(hashtree.BlockTag)
	want := taggedBySpec("allmydata_encoded_subshare_v1", "abc")
	for range 3 {
		hasher.Reset()
		hasher.Write([]byte("ab"))
		hasher.Write([]byte("c"))
		if hasher.Sum() != want || hasher.Of([]byte("abc")) != want {
			t.Error("a Hasher is not reset")
		}
	}
}

func TestOfEach(t *testing.T) {
	hasher := hashtree.NewHasher(hashtree.SegmentTag)
	hasher.Write([]byte("a"))
	data := [][]byte{[]byte("abc"), nil, bytes.Repeat([]byte("x"), 1000)}
	hashes := make([]hashtree.Hash, len(data))
	hasher.OfEach(hashes, data)
	for i, d := range data {
		if hashes[i] != hashtree.Tagged(hashtree.SegmentTag, d) {
			t.Errorf("the hash of %d bytes is wrong", len(d))
		}
	}
	if hasher.Sum() != hashtree.Tagged(hashtree.SegmentTag, []byte("a")) {
		t.Error("what was written is lost")
	}
}

func taggedBySpec(tag, data string) hashtree.Hash {
	inner := sha256.Sum256([]byte(fmt.Sprintf("%d:%s,%s", len(tag), tag, data)))
	return sha256.Sum256(inner[:])
}

func nodeBySpec(a, b hashtree.Hash) hashtree.Hash {
	const tag = "Merkle tree internal node"
	inner := sha256.Sum256([]byte(fmt.Sprintf("%d:%s,32:%s,32:%s,", len(tag), tag, a[:], b[:])))
	return sha256.Sum256(inner[:])
}

// flat builds a whole tree node by node, as the specification words it.
func flat(leaves []hashtree.Hash) []hashtree.Hash {
	width := 1
	for width < len(leaves) {
		width *= 2
	}
	tree := make([]hashtree.Hash, 2*width-1)
	for i := range width {
		if i < len(leaves) {
			tree[width-1+i] = leaves[i]
		} else {
			tree[width-1+i] = taggedBySpec("Merkle tree empty leaf", fmt.Sprint(i))
		}
	}
	for i := width - 2; i >= 0; i-- {
		tree[i] = nodeBySpec(tree[2*i+1], tree[2*i+2])
	}
	return tree
}

func TestTrees(t *testing.T) {
	for n := int64(1); n <= 40; n++ {
		var leaves []hashtree.Hash
		for i := range n {
			leaves = append(leaves, taggedBySpec("leaf", fmt.Sprint(i)))
		}
		tree := flat(leaves)
		if hashtree.Bytes(n) != int64(len(tree))*32 {
			t.Errorf("%d leaves: %d bytes", n, hashtree.Bytes(n))
		}
		for level := hashtree.Pad(leaves); ; level = hashtree.Parents(level) {
			at := hashtree.LevelOffset(int64(len(level))) / 32
			for i, h := range level {
				if h != tree[at+int64(i)] {
					t.Fatalf("%d leaves: node %d is wrong", n, at+int64(i))
				}
			}
			if len(level) == 1 {
				break
			}
		}
		for i := range n {
			path := hashtree.Path(n, i)
			var siblings []hashtree.Hash
			for _, node := range path[1:] {
				siblings = append(siblings, tree[node])
			}
			if hashtree.RootOfPath(n, i, tree[path[0]], siblings) != tree[0] {
				t.Errorf("the path %v of leaf %d of %d does not lead to the root", path, i, n)
			}
		}
	}
}

func TestWidth(t *testing.T) {
	for n, want := range map[int64]int64{1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 1 << 40: 1 << 40, 1<<40 + 1: 1 << 41} {
		if got := hashtree.Width(n); got != want {
			t.Errorf("Width(%d) = %d", n, got)
		}
	}
}

func BenchmarkNode(b *testing.B) {
	var x, y hashtree.Hash
	b.ReportAllocs()
	for b.Loop() {
		x = hashtree.Node(&x, &y)
	}
}

// BenchmarkRoot hashes the nodes of a whole page.
func BenchmarkRoot(b *testing.B) {
	level := make([]hashtree.Hash, 2048)
	b.SetBytes(int64(len(level)) * hashtree.Size)
	b.ReportAllocs()
	for b.Loop() {
		hashtree.Root(level)
	}
}
