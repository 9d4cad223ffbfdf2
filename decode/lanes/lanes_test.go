package lanes_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"spillway/decode/lanes"
)

// eachPlan runs the test for every way of hashing that this processor has.
func eachPlan(t *testing.T, test func(t *testing.T, sum sumFunc)) {
	plans := lanes.Plans()
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		t.Run(name, func(t *testing.T) { test(t, plans[name]) })
	}
}

type sumFunc = func(digests [][lanes.Size]byte, prefix []byte, messages [][]byte)

// check compares sum with crypto/sha256.
func check(t *testing.T, sum sumFunc, prefix []byte, messages [][]byte) {
	t.Helper()
	digests := make([][lanes.Size]byte, len(messages))
	sum(digests, prefix, messages)
	for i, m := range messages {
		if want := sha256.Sum256(slices.Concat(prefix, m)); digests[i] != want {
			t.Fatalf("message %d of %d, %d bytes long with %d of prefix: %x, want %x", i, len(messages), len(m), len(prefix), digests[i], want)
		}
	}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// TestVectors has the messages of NIST's examples and of RFC 6234, section 8.5.
func TestVectors(t *testing.T) {
	vectors := []struct{ message, digest string }{
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{
			"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
			"cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
		},
		{strings.Repeat("a", 1e6), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
		{strings.Repeat("0123456701234567012345670123456701234567012345670123456701234567", 10), "594847328451bdfa85056225462cc1d867d877fb388df0ce35f25ab5562bfbb5"},
	}
	eachPlan(t, func(t *testing.T, sum sumFunc) {
		var messages [][]byte
		for _, v := range vectors {
			messages = append(messages, []byte(v.message))
		}
		digests := make([][lanes.Size]byte, len(messages))
		sum(digests, nil, messages)
		for i, v := range vectors {
			if got := hex.EncodeToString(digests[i][:]); got != v.digest {
				t.Errorf("%.20q: %s, want %s", v.message, got, v.digest)
			}
		}
	})
}

// TestLengths has messages of one length, and of lengths that differ by a byte:
// short ones, and some around what one call of a kernel takes, 64 KiB in all.
func TestLengths(t *testing.T) {
	const call = 64 << 10
	prefix := random(1, 35)
	memory := random(2, 2*call)
	eachPlan(t, func(t *testing.T, sum sumFunc) {
		both := func(number, length int) {
			same, other := make([][]byte, number), make([][]byte, number)
			for i := range number {
				same[i] = memory[i*call/number:][:length]
				other[i] = memory[i*call/number:][:length+i]
			}
			check(t, sum, prefix, same)
			check(t, sum, prefix, other)
		}
		for length := range 301 {
			both(lanes.Width, length)
		}
		for _, number := range []int{1, 2, 8, 16} {
			for beyond := -64 - len(prefix); beyond <= 65; beyond++ {
				both(number, call/number+beyond)
			}
		}
	})
}

func TestPrefixes(t *testing.T) {
	prefix, memory := random(1, 130), random(2, 300)
	eachPlan(t, func(t *testing.T, sum sumFunc) {
		for p := range len(prefix) + 1 {
			for _, n := range []int{0, 1, 20, 55, 56, 63, 64, 65, 119, 120, 127, 128, 200} {
				check(t, sum, prefix[:p], [][]byte{memory[:n], memory[1:][:n], memory[2:][:n]})
			}
		}
	})
}

func TestAlignments(t *testing.T) {
	memory := random(1, 1000)
	eachPlan(t, func(t *testing.T, sum sumFunc) {
		for at := range 64 {
			messages := make([][]byte, lanes.Width)
			for i := range messages {
				messages[i] = memory[(at+i*i)%64:][:700]
			}
			check(t, sum, memory[at:][:at], messages)
		}
	})
}

func TestNumbers(t *testing.T) {
	memory := random(1, 100<<10)
	eachPlan(t, func(t *testing.T, sum sumFunc) {
		for n := range 21 {
			var same, other [][]byte
			for i := range n {
				same = append(same, memory[i:][:20<<10])
				other = append(other, memory[i:][:i*i*i*7%(len(memory)-n)])
			}
			check(t, sum, memory[:35], same)
			check(t, sum, memory[:35], other)
		}
	})
}

// TestBounds has messages that begin or end where readable memory does.
func TestBounds(t *testing.T) {
	const size = 64 << 10
	before, after := guarded(t, size), guarded(t, size)
	copy(before, random(1, size))
	copy(after, random(2, size))
	eachPlan(t, func(t *testing.T, sum sumFunc) {
		for n := range 300 {
			first, last := before[:n], after[size-n:]
			check(t, sum, first, [][]byte{last})
			check(t, sum, last, [][]byte{first, last, first, last, last, last, last, last, last})
			check(t, sum, last[:n/2], slices.Repeat([][]byte{last}, lanes.Width))
		}
		check(t, sum, nil, slices.Repeat([][]byte{before, after}, lanes.Width/2))
	})
}

func TestNames(t *testing.T) {
	type name [lanes.Size]byte
	digests := make([]name, 3)
	lanes.Sum(digests, []byte("a"), [][]byte{[]byte("b"), nil, []byte("c")})
	for i, m := range []string{"ab", "a", "ac"} {
		if digests[i] != sha256.Sum256([]byte(m)) {
			t.Errorf("%q has another digest", m)
		}
	}
}

func TestMismatch(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two digests for one message were accepted")
		}
	}()
	lanes.Sum(make([][lanes.Size]byte, 2), nil, [][]byte{nil})
}

func TestAllocations(t *testing.T) {
	prefix, memory := random(1, 35), random(2, 10<<10)
	for n := range 20 {
		messages := slices.Repeat([][]byte{memory}, n)
		digests := make([][lanes.Size]byte, n)
		if allocs := testing.AllocsPerRun(10, func() { lanes.Sum(digests, prefix, messages) }); allocs != 0 {
			t.Errorf("%d messages: %v allocations", n, allocs)
		}
	}
}

// FuzzSum cuts data into a prefix and messages and has every way of hashing agree.
func FuzzSum(f *testing.F) {
	f.Add([]byte("the prefix and the messages"), uint8(3), uint8(3), uint16(7))
	f.Add(bytes.Repeat([]byte("0123456789"), 1000), uint8(35), uint8(8), uint16(1250))
	f.Add(bytes.Repeat([]byte{0x80}, 5000), uint8(64), uint8(5), uint16(64))
	f.Add([]byte{}, uint8(0), uint8(20), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, prefixLen, n uint8, length uint16) {
		prefix := data[:min(int(prefixLen), len(data))]
		rest := data[len(prefix):]
		var messages [][]byte
		for range n {
			// The data comes round, a byte further, until it is used up.
			m := rest[:min(int(length), len(rest))]
			messages = append(messages, m)
			rest = rest[min(len(m), len(rest)/2):]
		}
		for name, sum := range lanes.Plans() {
			digests := make([][lanes.Size]byte, len(messages))
			sum(digests, prefix, messages)
			for i, m := range messages {
				if digests[i] != sha256.Sum256(slices.Concat(prefix, m)) {
					t.Fatalf("%s: message %d of %d is wrong", name, i, n)
				}
			}
		}
	})
}
