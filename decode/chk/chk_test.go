package chk_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"spillway/decode/chk"
	"spillway/decode/hashtree"
)

func TestGeometry(t *testing.T) {
	for _, test := range []struct {
		size, max                      int64
		k                              int
		segment, segments, block, tail int64
		data                           int64
	}{
		{56, 1 << 20, 3, 57, 1, 19, 19, 19},
		{1 << 20, 1 << 20, 3, 1048578, 1, 349526, 349526, 349526},
		{1048579, 1 << 20, 3, 1048578, 2, 349526, 1, 349527},
		{1048578, 1 << 20, 3, 1048578, 1, 349526, 349526, 349526},
		{131073, 131072, 1, 131072, 2, 131072, 1, 131073},
		{1000, 10, 10, 10, 100, 1, 1, 100},
		{1001, 9, 10, 10, 101, 1, 1, 101},
		{1, 1, 256, 256, 1, 1, 1, 1},
	} {
		g, err := chk.NewGeometry(test.size, test.max, test.k, 256)
		if err != nil {
			t.Fatal(err)
		}
		last := g.Segments() - 1
		if g.SegmentSize != test.segment || g.Segments() != test.segments || g.BlockSize() != test.block ||
			g.BlockLen(last) != test.tail || g.DataSize() != test.data {
			t.Errorf("%+v: %+v, %d segments, blocks of %d, %d, data %d", test, g, g.Segments(), g.BlockSize(), g.BlockLen(last), g.DataSize())
		}
		sum := int64(0)
		for i := range g.Segments() {
			sum += g.SegmentLen(i)
		}
		if sum != test.size {
			t.Errorf("%+v: the segments have %d bytes", test, sum)
		}
	}
	for _, bad := range [][4]int64{{0, 1, 1, 1}, {-1, 1, 1, 1}, {1 << 62, 1 << 20, 1, 1}, {10, 0, 1, 1}, {10, -3, 1, 1}, {10, 1, 0, 1}, {10, 1, 2, 1}, {10, 1, 1, 257}, {1 << 60, 3, 3, 10}} {
		if g, err := chk.NewGeometry(bad[0], bad[1], int(bad[2]), int(bad[3])); err == nil {
			t.Errorf("%v: %+v", bad, g)
		}
	}
}

// TestLayoutVersion: version 2 begins where an offset does not fit 4 bytes.
func TestLayoutVersion(t *testing.T) {
	for _, size := range []int64{1000, 12 << 30, 13 << 30} {
		g, err := chk.NewGeometry(size, 1<<20, 3, 10)
		if err != nil {
			t.Fatal(err)
		}
		auto, v1, v2 := chk.ShareSize(g, 0), chk.ShareSize(g, 1), chk.ShareSize(g, 2)
		if want := v1; size < 12<<30 && auto != want {
			t.Errorf("%d bytes: %d, want %d", size, auto, want)
		}
		if size > 12<<30 && auto != v2 {
			t.Errorf("%d bytes: %d, want %d", size, auto, v2)
		}
		if v2-v1 != 0x44-0x24+4 {
			t.Errorf("%d bytes: %d and %d", size, v1, v2)
		}
	}
}

func newUEB(t testing.TB) *chk.UEB {
	t.Helper()
	g, err := chk.NewGeometry(100_000, 30_000, 3, 10)
	if err != nil {
		t.Fatal(err)
	}
	return &chk.UEB{Geometry: g, CrypttextHash: hashtree.Hash{1}, CrypttextRootHash: hashtree.Hash{2}, ShareRootHash: hashtree.Hash{3}}
}

func TestUEB(t *testing.T) {
	u := newUEB(t)
	text := string(u.Marshal())
	got, err := chk.ParseUEB([]byte(text), 100_000, 3, 10)
	if err != nil || *got != *u {
		t.Fatalf("%+v, %v", got, err)
	}
	insert := func(s string) string { return text + s }
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"unknown key":           {insert("zfuture:3:abc,"), true},
		"old keys":              {insert("plaintext_hash:2:ab,plaintext_root_hash:0:,"), true},
		"no crypttext hash":     {strings.Replace(text, "crypttext_hash:", "crypttext_hasx:", 1), true},
		"short crypttext hash":  {strings.Replace(text, "crypttext_hash:32:\x01", "crypttext_hash:31:", 1), false},
		"no root hash":          {strings.Replace(text, "crypttext_root_hash:", "crypttext_root_hasx:", 1), false},
		"no share root":         {strings.Replace(text, "share_root_hash:", "share_root_hasx:", 1), false},
		"twice":                 {insert("size:6:100000,"), false},
		"codec":                 {strings.Replace(text, "codec_name:3:crs,", "codec_name:3:xor,", 1), false},
		"codec params":          {strings.Replace(text, "codec_params:10:30000-3-10,", "codec_params:10:30003-3-10,", 1), false},
		"tail params":           {strings.Replace(text, "tail_codec_params:10:10002-3-10,", "tail_codec_params:10:10000-3-10,", 1), false},
		"k":                     {strings.Replace(text, "needed_shares:1:3,", "needed_shares:1:4,", 1), false},
		"n":                     {strings.Replace(text, "total_shares:2:10,", "total_shares:2:11,", 1), false},
		"size":                  {strings.Replace(text, "size:6:100000,", "size:6:100001,", 1), false},
		"segments":              {strings.Replace(text, "num_segments:1:4,", "num_segments:1:5,", 1), false},
		"segment size 0":        {strings.Replace(text, "segment_size:5:30000,", "segment_size:1:0,", 1), false},
		"segment size no k":     {strings.Replace(text, "segment_size:5:30000,", "segment_size:5:30001,", 1), false},
		"leading zero":          {strings.Replace(text, "size:6:100000,", "size:7:0100000,", 1), false},
		"length leading zero":   {strings.Replace(text, "size:6:100000,", "size:06:100000,", 1), false},
		"no comma":              {strings.Replace(text, "size:6:100000,", "size:6:100000;", 1), false},
		"cut":                   {text[:len(text)-1], false},
		"cut in a key":          {text + "abc", false},
		"length past the end":   {insert("x:5:abc,"), false},
		"absurd length":         {insert("x:99999999999999999999:abc,"), false},
		"negative length":       {insert("x:-1:abc,"), false},
		"empty":                 {"", false},
		"longer than it may be": {insert("x:40000:" + strings.Repeat("x", 40000) + ","), false},
	} {
		if test.text == text {
			t.Errorf("%s: nothing was replaced", name)
		}
		if _, err := chk.ParseUEB([]byte(test.text), 100_000, 3, 10); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := chk.ParseUEB([]byte(text), 100_001, 3, 10); err == nil {
		t.Error("another size in the cap is accepted")
	}
}

// shares makes all shares of a file of nulls, a number of segments at once, and returns them with
// the UEB's hash.
func shares(t testing.TB, g chk.Geometry, e *chk.Encoder, run int64) ([][]byte, hashtree.Hash) {
	t.Helper()
	defer e.Close()
	made := make([][]byte, g.N)
	for i := range made {
		made[i] = append(make([]byte, 0, e.Size()), e.Header()...)
	}
	for i := int64(0); i < g.Segments(); i += run {
		n := min(run, g.Segments()-i)
		length := int((n-1)*g.BlockSize() + g.BlockLen(i+n-1))
		blocks := make([][]byte, g.N)
		for num, s := range made {
			made[num] = s[:len(s)+length]
			blocks[num] = made[num][len(s):]
		}
		if err := e.Encode(make([]byte, min(n*g.SegmentSize, g.Size-i*g.SegmentSize)), blocks); err != nil {
			t.Fatal(err)
		}
	}
	ueb, err := e.Finish()
	if err != nil {
		t.Fatal(err)
	}
	for num, s := range made {
		if int64(len(s)) != e.TailOffset() {
			t.Fatalf("the blocks end at %d, the tail begins at %d", len(s), e.TailOffset())
		}
		made[num] = s[:e.Size()]
		// In two pieces that meet anywhere.
		tail := made[num][len(s):]
		cut := (1 + num) * len(tail) / (1 + g.N)
		if err := errors.Join(e.ReadTail(num, tail[cut:], e.TailOffset()+int64(cut)), e.ReadTail(num, tail[:cut], e.TailOffset())); err != nil {
			t.Fatal(err)
		}
	}
	return made, chk.Hash(ueb.Marshal())
}

// encode makes the shares of a file.
func encode(t testing.TB, version int) ([][]byte, *chk.UEB, chk.Header) {
	t.Helper()
	g := newUEB(t).Geometry
	e, err := chk.NewEncoder(g, version)
	if err != nil {
		t.Fatal(err)
	}
	shares, hash := shares(t, g, e, 3)
	h, err := chk.ParseHeader(shares[0][:chk.HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	text := shares[0][int(h.UEB)+h.UEBLengthSize():]
	if chk.Hash(text) != hash {
		t.Fatal("the UEB is not at the end, or its hash is wrong")
	}
	u, err := chk.ParseUEB(text, g.Size, g.K, g.N)
	if err != nil {
		t.Fatal(err)
	}
	return shares, u, h
}

// TestEncoderRuns: how many segments are encoded at once does not matter, nor where the hashes
// wait.
func TestEncoderRuns(t *testing.T) {
	for _, segments := range []int64{1, 2, 63, 64, 65, 127, 128, 2049, 5000} {
		g, err := chk.NewGeometry(segments*8-3, 8, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		var want [][]byte
		for _, run := range []int64{64, 1, 7, 63} {
			for _, inMemory := range []int64{0, 1 << 40} {
				e, err := chk.NewEncoderIn(g, 0, inMemory)
				if err != nil {
					t.Fatal(err)
				}
				got, _ := shares(t, g, e, run)
				if want == nil {
					want = got
				}
				for num := range got {
					if !bytes.Equal(got[num], want[num]) {
						t.Errorf("%d segments, %d at once, %d bytes in memory: another share %d", segments, run, inMemory, num)
					}
				}
			}
		}
	}
}

// TestEncoderMemory: what an Encoder keeps does not depend on the number of segments.
func TestEncoderMemory(t *testing.T) {
	kept := func(segments int64) (before, after int64) {
		g, err := chk.NewGeometry(segments*3, 3, 3, 10)
		if err != nil {
			t.Fatal(err)
		}
		live := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		none := live()
		e, err := chk.NewEncoder(g, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		blocks := make([][]byte, g.N)
		for i := range blocks {
			blocks[i] = make([]byte, chk.MaxRun)
		}
		crypttext := make([]byte, 3*chk.MaxRun)
		for range segments / chk.MaxRun {
			if err := e.Encode(crypttext, blocks); err != nil {
				t.Fatal(err)
			}
		}
		before = live() - none
		if _, err := e.Finish(); err != nil {
			t.Fatal(err)
		}
		after = live() - none
		return before, after
	}
	const segments = 1 << 17 // whose hashes have 46 MB, and their trees as much again
	before, after := kept(segments)
	t.Logf("%d and %d bytes are kept", before, after)
	if before > 1<<20 || after > 1<<20 {
		t.Errorf("%d bytes are kept of %d segments, %d with their trees", before, segments, after)
	}
}

func TestEncoderChain(t *testing.T) {
	for _, version := range []int{1, 2} {
		shares, u, h := encode(t, version)
		if h.Version != version {
			t.Errorf("version %d", h.Version)
		}
		for num, share := range shares {
			chain := share[h.ShareChain:h.UEB]
			root, err := chk.VerifyChain(chain, u.N, num, u.ShareRootHash)
			if err != nil {
				t.Fatalf("share %d: %v", num, err)
			}
			if !bytes.Equal(root[:], share[h.BlockTree:][:32]) {
				t.Errorf("share %d: another root", num)
			}
			if _, err := chk.VerifyChain(chain, u.N, (num+2)%u.N, u.ShareRootHash); err == nil {
				t.Errorf("the chain of share %d proves one that is not its neighbour", num)
			}
			for i := range chain {
				chain[i] ^= 1
				if _, err := chk.VerifyChain(chain, u.N, num, u.ShareRootHash); err == nil {
					t.Fatalf("share %d: byte %d of the chain does not matter", num, i)
				}
				chain[i] ^= 1
			}
			if _, err := chk.VerifyChain(chain[1:], u.N, num, u.ShareRootHash); err == nil {
				t.Error("a chain that is cut is accepted")
			}
		}
	}
}

func TestParseHeader(t *testing.T) {
	for _, version := range []int{1, 2} {
		shares, _, _ := encode(t, version)
		for n := range chk.HeaderSize {
			_, err := chk.ParseHeader(shares[0][:n])
			if whole := n >= []int{0, 0x24, 0x44}[version]; (err == nil) != whole {
				t.Errorf("version %d, %d bytes: %v", version, n, err)
			}
		}
	}
	if _, err := chk.ParseHeader(bytes.Repeat([]byte{3}, chk.HeaderSize)); err == nil {
		t.Error("version 0x03030303 is accepted")
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, version := range []int{1, 2} {
		shares, _, _ := encode(f, version)
		f.Add([]byte(shares[0][:chk.HeaderSize]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := chk.ParseHeader(b)
		if err != nil {
			return
		}
		for _, off := range []int64{h.Data, h.CrypttextTree, h.BlockTree, h.ShareChain, h.UEB} {
			if off < 0 || off > 1<<61 {
				t.Errorf("offset %d", off)
			}
		}
	})
}

func FuzzParseUEB(f *testing.F) {
	f.Add(newUEB(f).Marshal())
	f.Add([]byte("size:6:100000,"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := chk.ParseUEB(b, 100_000, 3, 10)
		if err != nil {
			return
		}
		again, err := chk.ParseUEB(u.Marshal(), 100_000, 3, 10)
		if err != nil || *again != *u {
			t.Errorf("%+v, %+v, %v", u, again, err)
		}
		if u.DataSize() < 0 || u.Segments() < 1 || u.BlockLen(u.Segments()-1) < 1 {
			t.Errorf("%+v", u)
		}
	})
}

func FuzzVerifyChain(f *testing.F) {
	shares, u, h := encode(f, 1)
	for num, share := range shares {
		f.Add([]byte(share[h.ShareChain:h.UEB]), num)
	}
	roots := map[int]hashtree.Hash{}
	for num, share := range shares {
		roots[num] = hashtree.Hash(share[h.BlockTree:][:32])
	}
	f.Fuzz(func(t *testing.T, chain []byte, num int) {
		if num < 0 || num >= u.N {
			return
		}
		if root, err := chk.VerifyChain(chain, u.N, num, u.ShareRootHash); err == nil && root != roots[num] {
			t.Errorf("share %d: %x is proven", num, root)
		}
	})
}
