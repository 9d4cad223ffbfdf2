package decode_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/decodetest"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
)

// anatomy says where the parts of a share stand.
type anatomy struct {
	chk.Header
	width     int // of a header field
	blockSize int
	tailSize  int
	segments  int
	treeSize  int
	size      int
}

// field returns where header field i stands: block size, data size, then offsets.
func (a anatomy) field(i int) int { return 4 + i*a.width }

// flip returns a damage that inverts the lowest bit of a byte.
func flip(at func(a anatomy) int) func(a anatomy, b []byte) []byte {
	return func(a anatomy, b []byte) []byte {
		b[at(a)] ^= 1
		return b
	}
}

// flipField inverts a bit of header field i, in its last byte or in its first.
func flipField(i int, first bool) func(a anatomy, b []byte) []byte {
	return func(a anatomy, b []byte) []byte {
		if first {
			b[a.field(i)] ^= 0x40
		} else {
			b[a.field(i+1)-1] ^= 1
		}
		return b
	}
}

// damages are what can befall a share. Part is what the log and the check must
// call it when a reader meets it that reads headers; "" if it does not. CheckPart is for
// what only a check meets. Blocks: the share's blocks cannot be used by such a reader.
var damages = []struct {
	name      string
	part      string
	checkPart string
	blocks    bool
	do        func(a anatomy, b []byte) []byte
}{
	{"none", "", "", false, func(_ anatomy, b []byte) []byte { return b }},
	{"version", "header", "", true, flip(func(a anatomy) int { return 0 })},
	{"version low byte", "header", "", true, func(_ anatomy, b []byte) []byte { b[3] ^= 4; return b }},
	{"block size", "", "", false, flipField(0, false)},
	{"data size", "", "", false, flipField(1, false)},
	{"data offset low", "block 0", "", true, flipField(2, false)},
	{"data offset high", "blocks 0 to 7", "", true, flipField(2, true)},
	{"plaintext tree offset", "", "", false, flipField(3, true)},
	{"crypttext tree offset low", "crypttext hash tree", "", false, flipField(4, false)},
	{"crypttext tree offset high", "crypttext hash tree", "", false, flipField(4, true)},
	{"block tree offset low", "", "block hash tree", false, flipField(5, false)},
	{"block tree offset high", "", "block hash tree", false, flipField(5, true)},
	{"share chain offset low", "", "share hash chain", false, flipField(6, false)},
	{"share chain offset high", "", "share hash chain", false, flipField(6, true)},
	{"UEB offset low", "UEB", "", false, flipField(7, false)},
	{"UEB offset high", "UEB", "", false, flipField(7, true)},
	{"block first byte", "block 0", "", true, flip(func(a anatomy) int { return int(a.Data) })},
	{"block in the middle", "block 9", "", true, flip(func(a anatomy) int { return int(a.Data) + 9*a.blockSize + 77 })},
	{"block last byte", "block 19", "", true, flip(func(a anatomy) int {
		return int(a.Data) + (a.segments-1)*a.blockSize + a.tailSize - 1
	})},
	{"two blocks", "block 3", "", true, func(a anatomy, b []byte) []byte {
		b[int(a.Data)+3*a.blockSize] ^= 0x80
		b[int(a.Data)+12*a.blockSize] ^= 0x80
		return b
	}},
	{"plaintext tree", "", "", false, flip(func(a anatomy) int { return int(a.CrypttextTree) - 1 })},
	{"crypttext tree root", "", "crypttext hash tree", false, flip(func(a anatomy) int { return int(a.CrypttextTree) })},
	{"crypttext tree leaf", "crypttext hash tree", "", false, flip(func(a anatomy) int { return int(a.CrypttextTree) + 31*32 + 7 })},
	{"crypttext tree padding", "crypttext hash tree", "", false, flip(func(a anatomy) int { return int(a.CrypttextTree) + a.treeSize - 1 })},
	{"block tree root", "", "block hash tree", false, flip(func(a anatomy) int { return int(a.BlockTree) })},
	{"block tree leaf", "", "block hash tree", false, flip(func(a anatomy) int { return int(a.BlockTree) + 31*32 })},
	{"share chain node number", "", "share hash chain", false, flip(func(a anatomy) int { return int(a.ShareChain) + 1 })},
	{"share chain hash", "", "share hash chain", false, flip(func(a anatomy) int { return int(a.ShareChain) + 2 })},
	{"share chain last hash", "", "share hash chain", false, flip(func(a anatomy) int { return int(a.UEB) - 1 })},
	{"UEB length low", "UEB", "", false, flip(func(a anatomy) int { return int(a.UEB) + a.width - 1 })},
	{"UEB length high", "UEB", "", false, flip(func(a anatomy) int { return int(a.UEB) })},
	{"UEB first byte", "UEB", "", false, flip(func(a anatomy) int { return int(a.UEB) + a.width })},
	{"UEB last byte", "UEB", "", false, flip(func(a anatomy) int { return a.size - 1 })},
	{"empty", "header", "", true, func(anatomy, []byte) []byte { return nil }},
	{"one byte", "header", "", true, func(_ anatomy, b []byte) []byte { return b[:1] }},
	{"half a header", "header", "", true, func(a anatomy, b []byte) []byte { return b[:a.Data/2] }},
	{"header alone", "UEB", "", true, func(a anatomy, b []byte) []byte { return b[:a.Data] }},
	{"half a share", "UEB", "", true, func(a anatomy, b []byte) []byte { return b[:len(b)/3] }},
	{"without its UEB", "UEB", "", false, func(a anatomy, b []byte) []byte { return b[:a.UEB] }},
	{"one byte short", "UEB", "", false, func(a anatomy, b []byte) []byte { return b[:len(b)-1] }},
	{"oversized", "", "", false, func(_ anatomy, b []byte) []byte { return append(b, bytes.Repeat([]byte("junk"), 5000)...) }},
	{"zeros", "header", "", true, func(_ anatomy, b []byte) []byte { clear(b); return b }},
	{"header zeros behind the version", "UEB", "", true, func(a anatomy, b []byte) []byte { clear(b[4:a.Data]); return b }},
	{"header ones behind the version", "UEB", "", true, func(a anatomy, b []byte) []byte {
		copy(b[4:], bytes.Repeat([]byte{0xff}, int(a.Data)-4))
		return b
	}},
	{"all ones", "header", "", true, func(_ anatomy, b []byte) []byte { return bytes.Repeat([]byte{0xff}, len(b)) }},
}

const corruptSize = 20*131073 - 1000 // 20 segments, the last one short; chunks of 8

// corruptFile is written once; every case changes copies of its shares.
func corruptFile(t *testing.T, layout int) (data []byte, c caps.Cap, shares map[int][]byte, a anatomy) {
	data = decodetest.Plaintext(corruptSize)
	servers := gridtest.New(1)
	c = put(t, servers, data, putOptions{SegmentSize: 131072, layout: layout})
	shares = servers[0].Held[decodetest.StorageIndex(t, c)]
	head, err := chk.ParseHeader(shares[0][:chk.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	if head.Version != layout {
		t.Fatalf("version %d", head.Version)
	}
	g, err := chk.NewGeometry(corruptSize, 131072, 3, 10)
	if err != nil {
		t.Fatal(err)
	}
	a = anatomy{Header: head, width: 4 * layout, blockSize: int(g.BlockSize()), tailSize: int(g.BlockLen(19)),
		segments: int(g.Segments()), treeSize: 63 * 32, size: len(shares[0])}
	return data, c, shares, a
}

// lay puts copies of shares on a server, the damage done to share 0.
func lay(s *gridtest.Faulty, si grid.StorageIndex, shares map[int][]byte, nums []int, damage func([]byte) []byte) {
	s.Held[si] = map[int][]byte{}
	for _, num := range nums {
		b := slices.Clone(shares[num])
		if num == 0 && damage != nil {
			b = damage(b)
		}
		s.Held[si][num] = b
	}
}

func TestCorruption(t *testing.T) {
	for _, layout := range []int{1, 2} {
		data, c, shares, a := corruptFile(t, layout)
		si := decodetest.StorageIndex(t, c)
		all := slices.Sorted(maps.Keys(shares))
		for _, d := range damages {
			damage := func(b []byte) []byte { return d.do(a, b) }
			name := fmt.Sprintf("v%d/%s", layout, d.name)
			part, blocks := d.part, d.blocks
			if layout == 1 && damagesHeader(a, shares[0], damage) {
				part, blocks = "", false // the layout is the usual one, so a reader needs no header
			}
			t.Run(name+"/of ten", func(t *testing.T) {
				servers := gridtest.New(1)
				lay(servers[0], si, shares, all, damage)
				checkDownload(t, servers, c, data, part)
				checkReport(t, servers, c, d.part+d.checkPart)
			})
			t.Run(name+"/of three", func(t *testing.T) {
				servers := gridtest.New(1)
				lay(servers[0], si, shares, all[:3], damage)
				if blocks {
					checkNotEnough(t, servers, c, data)
				} else {
					checkDownload(t, servers, c, data, part)
				}
			})
			t.Run(name+"/twice", func(t *testing.T) {
				servers := gridtest.New(2)
				lay(servers[0], si, shares, all[:3], damage)
				lay(servers[1], si, shares, all[:1], nil)
				client := newClient(t, config{Servers: decodetest.Servers(servers)})
				if got, err := decodetest.Get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// damagesHeader tells whether a damage changes the header alone.
func damagesHeader(a anatomy, share []byte, damage func([]byte) []byte) bool {
	b := damage(slices.Clone(share))
	return len(b) == len(share) && bytes.Equal(b[a.Data:], share[a.Data:])
}

// checkDownload reads the file twice through one File and expects exact bytes and a bad
// share named once, if part is not "".
func checkDownload(t *testing.T, servers []*gridtest.Faulty, c caps.Cap, data []byte, part string) {
	t.Helper()
	var log decodetest.LogBook
	client := newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger()})
	f, err := client.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 {
		got, err := decodetest.ReadAll(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data) {
			t.Fatal("wrong bytes")
		}
	}
	want := 0
	if part != "" {
		want = 1
	}
	lines := log.Lines("corrupt share")
	if len(lines) != want || (want == 1 && len(log.Lines("level=WARN", "share=0 ", "server=s0", "storage_index="+decodetest.StorageIndex(t, c).String())) != 1) {
		t.Errorf("the log tells of %q:\n%s", lines, log.B.String())
	}
	if want == 1 && len(log.Lines(fmt.Sprintf("part=%q", part))) != 1 && len(log.Lines("part="+part+" ")) != 1 {
		t.Errorf("the log does not name %s: %q", part, lines)
	}
	if n := client.Stats().CorruptShares; n != int64(want) {
		t.Errorf("%d corrupt shares are counted", n)
	}
	if strings.Contains(log.B.String(), strings.Split(c.Reveal(), ":")[2]) {
		t.Error("the log tells the key")
	}
}

// checkReport expects a check to find share 0 bad, in part, and all others good.
func checkReport(t *testing.T, servers []*gridtest.Faulty, c caps.Cap, part string) {
	t.Helper()
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	r, err := client.Check(t.Context(), decodetest.Verifier(t, c))
	if err != nil {
		t.Fatal(err)
	}
	good := 10
	for _, s := range r.Shares {
		if bad := s.Share == 0 && part != ""; s.Good == bad || s.Good != (len(s.Problems) == 0) || s.Server != "s0" {
			t.Errorf("%+v", s)
		} else if bad {
			good--
			// A check reads more at once than a reader, so it may name other blocks.
			if word := strings.TrimRight(part, "s 0123456789to"); !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.HasPrefix(p, word) }) {
				t.Errorf("%q does not name %s", s.Problems, part)
			}
		}
	}
	if r.GoodDistinct != good || !r.Healthy || r.Needed != 3 || r.Total != 10 || len(r.Shares) != 10 {
		t.Errorf("%+v", r)
	}
}

// checkNotEnough expects a clear error and no wrong byte.
func checkNotEnough(t *testing.T, servers []*gridtest.Faulty, c caps.Cap, data []byte) {
	t.Helper()
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	f, err := client.Open(t.Context(), c)
	if err == nil {
		defer f.Close()
		s := decodetest.NewSink(f.Size())
		for i := int64(0); i*f.ChunkSize() < f.Size(); i++ {
			if chunkErr := f.WriteChunks(t.Context(), i, 1, s); chunkErr != nil {
				err = chunkErr
			}
		}
		for i, b := range s.Bytes {
			if b != data[i] && b != 0xee {
				t.Fatalf("byte %d is wrong", i)
			}
		}
	}
	var missing *decode.NotEnoughSharesError
	if !errors.As(err, &missing) {
		t.Fatalf("the error is %v", err)
	}
	if missing.Needed != 3 || missing.Total != 10 || len(missing.Failed) != 0 || len(missing.Found) != 2 ||
		!slices.Equal(missing.Bad, []grid.SharePlace{{Share: 0, Server: "s0"}}) {
		t.Errorf("%+v", missing)
	}
	for _, part := range []string{"3 of 10 needed, 2 usable", "corrupt: share 0 on s0"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}
