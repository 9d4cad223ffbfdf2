package upload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/decode/chk"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
	"spillway/decode/memory"
	"spillway/decode/upload"
)

var errBroken = errors.New("broken on purpose")

// placed returns which shares of the only file each server holds.
func placed(servers []*gridtest.Faulty) [][]int {
	var all [][]int
	for _, s := range servers {
		nums := []int{}
		for _, shares := range s.Held {
			for num := range shares {
				nums = append(nums, num)
			}
		}
		slices.Sort(nums)
		all = append(all, nums)
	}
	return all
}

// TestPutFails fails one operation of the servers, the first, the second and so on; then all from
// that one on, on one server and on two of them. As long as enough servers are left the file is
// written; if not, nothing is left but what the error says.
func TestPutFails(t *testing.T) {
	data := decodetest.Plaintext(900_000)
	const n, k, happy = 6, 2, 3
	for _, test := range []struct {
		broken int // servers that fail
		once   bool
	}{{4, true}, {1, false}, {2, false}, {4, false}} {
		failures := 0
		for nth := int64(1); ; nth++ {
			servers := gridtest.New(4)
			var count atomic.Int64
			for _, s := range servers[:test.broken] {
				s.OnEverything(func(context.Context) error {
					if i := count.Add(1); i == nth || i > nth && !test.once {
						return errBroken
					}
					return nil
				})
			}
			client := newClient(t, config{Servers: decodetest.Servers(servers)})
			c, err := client.Put(t.Context(), bytes.NewReader(data), upload.Options{K: k, N: n, Happy: happy, SegmentSize: 40_000})
			for _, s := range servers {
				s.OnEverything(func(context.Context) error { return nil })
				if s.Uploading != 0 {
					t.Errorf("%+v, operation %d: %d shares are left half-written on %v", test, nth, s.Uploading, s)
				}
			}
			if err == nil {
				if holding := len(slices.DeleteFunc(placed(servers), func(nums []int) bool { return len(nums) == 0 })); holding < happy {
					t.Errorf("%+v, operation %d: %d servers hold shares", test, nth, holding)
				}
				if got, err := decodetest.Get(t.Context(), client.Client, c); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%+v, operation %d: %v", test, nth, err)
				}
			} else {
				failures++
				var unhappy *upload.UnhappyError
				if !errors.As(err, &unhappy) || len(unhappy.Failed) == 0 || unhappy.Reached >= happy || !strings.Contains(err.Error(), "broken on purpose") {
					t.Fatalf("%+v, operation %d: %v", test, nth, err)
				}
				left := 0
				for i, nums := range placed(servers) {
					for _, num := range nums {
						left++
						if place := (grid.SharePlace{Share: num, Server: servers[i].Name}); !slices.Contains(unhappy.Kept, place) {
							t.Errorf("%+v, operation %d: %v is left behind: %v", test, nth, place, err)
						}
					}
				}
				if left != len(unhappy.Kept) {
					t.Errorf("%+v, operation %d: %d shares are left behind: %v", test, nth, left, err)
				}
			}
			if count.Load() < nth {
				if nth < 6 || err != nil {
					t.Errorf("%+v: %d operations, %v", test, nth, err)
				}
				break
			}
		}
		if fails := test.broken > 1 && !test.once; fails != (failures > 0) {
			t.Errorf("%+v: failed %d times", test, failures)
		}
	}
}

// TestPutHangs: servers that do not answer are done without when the others have.
func TestPutHangs(t *testing.T) {
	for name, test := range map[string]struct {
		hang    func(s *gridtest.Faulty)
		happy   int
		want    string        // of the error
		seconds time.Duration // that it takes
	}{
		"Shares": {func(s *gridtest.Faulty) { s.OnShares = gridtest.Hang }, 3, "", 5},
		"Shares, needed": {func(s *gridtest.Faulty) { s.OnShares = gridtest.Hang }, 4,
			"4 of 4 must hold shares of their own, 3 would; failed: s1: no answer within the time allowed", 30},
		"Create": {func(s *gridtest.Faulty) {
			s.OnCreate = func(ctx context.Context, _ int) error { return gridtest.Hang(ctx) }
		}, 3, "", 30},
		"Create, needed": {func(s *gridtest.Faulty) {
			s.OnCreate = func(ctx context.Context, _ int) error { return gridtest.Hang(ctx) }
		}, 4,
			"share", 30},
		"Read": {func(s *gridtest.Faulty) {
			s.OnRead = func(ctx context.Context, _ int, _ int64) error { return gridtest.Hang(ctx) }
		}, 3, "", 30},
		"Create, many": {func(s *gridtest.Faulty) {
			s.OnCreate = func(ctx context.Context, _ int) error { return gridtest.Hang(ctx) }
		}, 3, "", 30},
		"Read, many": {func(s *gridtest.Faulty) {
			s.OnRead = func(ctx context.Context, _ int, _ int64) error { return gridtest.Hang(ctx) }
		}, 3, "", 30},
		"Write": {func(s *gridtest.Faulty) {
			s.OnWrite = func(ctx context.Context, _ int) error {
				ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errBroken)
				defer cancel()
				<-ctx.Done()
				return context.Cause(ctx)
			}
		}, 3, "", 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				servers := gridtest.New(4)
				test.hang(servers[1])
				client := newClient(t, config{Servers: decodetest.Servers(servers)})
				begun := time.Now()
				n := 8
				if strings.HasSuffix(name, "many") {
					n = 256
				}
				_, err := client.Put(t.Context(), bytes.NewReader(decodetest.Plaintext(300_000)), upload.Options{K: 2, N: n, Happy: test.happy})
				if took := time.Since(begun); took != test.seconds*time.Second {
					t.Errorf("it took %v", took)
				}
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("%v", err)
				}
				for _, s := range servers {
					if s.Uploading != 0 || err != nil && len(s.Held) != 0 {
						t.Errorf("%d uploads and %d files are left on %v", s.Uploading, len(s.Held), s)
					}
				}
			})
		})
	}
}

// TestPutCancel: the context ends while a server hangs.
func TestPutCancel(t *testing.T) {
	servers := gridtest.New(3)
	ctx, cancel := context.WithCancel(t.Context())
	servers[2].OnWrite = func(ctx context.Context, _ int) error {
		cancel()
		return gridtest.Hang(ctx)
	}
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	_, err := client.Put(ctx, bytes.NewReader(decodetest.Plaintext(5_000_000)), upload.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, s := range servers {
		if s.Uploading != 0 || len(s.Held) != 0 {
			t.Errorf("%d uploads and %d files are left on %v", s.Uploading, len(s.Held), s)
		}
	}
}

// TestPutHappy: how many servers are enough.
func TestPutHappy(t *testing.T) {
	for _, test := range []struct {
		servers, dead, n, happy int
		want                    string
	}{
		{1, 0, 10, 0, ""}, {5, 0, 10, 0, ""}, {9, 2, 10, 0, ""}, {9, 0, 4, 0, ""},
		{5, 1, 10, 0, "5 of 5 must hold shares of their own, 4 would; failed: s0: broken on purpose"},
		{9, 3, 10, 0, "7 of 9 must hold shares of their own, 6 would; failed: s"},
		{9, 3, 10, 6, ""}, {5, 2, 10, 3, ""}, {5, 0, 10, 5, ""},
		{5, 0, 10, 6, "6 of 5 must hold shares of their own, and there are no more"},
		{5, 0, 4, 5, "4 shares cannot be on 5 servers"},
		{5, 0, 4, -1, "cannot be"},
		{3, 3, 10, 1, "1 of 3 must hold shares of their own, 0 would; failed: s"},
	} {
		servers := gridtest.New(test.servers)
		for _, s := range servers[:test.dead] {
			s.OnEverything(func(context.Context) error { return errBroken })
		}
		client := newClient(t, config{Servers: decodetest.Servers(servers)})
		_, err := client.Put(t.Context(), bytes.NewReader(decodetest.Plaintext(1000)), upload.Options{K: 3, N: test.n, Happy: test.happy})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// TestPutTwice: a server that is named twice is one server.
func TestPutTwice(t *testing.T) {
	servers := gridtest.New(2)
	list := append(decodetest.Servers(servers), fleet.Server{Server: servers[0], Nickname: "again"})
	client := newClient(t, config{Servers: list})
	data := bytes.NewReader(decodetest.Plaintext(1000))
	if _, err := client.Put(t.Context(), data, upload.Options{Happy: 3}); err == nil || !strings.Contains(err.Error(), "3 of 2") {
		t.Error(err)
	}
	if _, err := client.Put(t.Context(), data, upload.Options{K: 1, N: 2}); err != nil || len(servers[0].Held) != 1 || len(servers[1].Held) != 1 {
		t.Errorf("%v, %v", placed(servers), err)
	}
}

// TestPutFewShares: one server is happy with what it has, but the file cannot be read.
func TestPutFewShares(t *testing.T) {
	servers := gridtest.New(1)
	servers[0].OnWrite = func(_ context.Context, num int) error {
		if num >= 2 {
			return errBroken
		}
		return nil
	}
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	_, err := client.Put(t.Context(), bytes.NewReader(decodetest.Plaintext(1000)), upload.Options{})
	if err == nil || !strings.Contains(err.Error(), "1 did, but with only 2 shares where 3 are needed") || len(servers[0].Held) != 0 || servers[0].Uploading != 0 {
		t.Error(err)
	}
}

// TestPutExisting: what servers hold stays, counts, and is not written again.
func TestPutExisting(t *testing.T) {
	data := decodetest.Plaintext(1000)
	opts := upload.Options{K: 2, N: 4, Convergence: []byte("secret")}
	servers := gridtest.New(4)
	var written, renewed sync.Map
	for _, s := range servers {
		s.OnWrite = func(_ context.Context, num int) error { written.Store(fmt.Sprint(s, num), true); return nil }
		s.OnCreate = func(_ context.Context, num int) error {
			for _, shares := range s.Held {
				if _, ok := shares[num]; ok {
					renewed.Store(fmt.Sprint(s, num), true)
				}
			}
			return nil
		}
	}
	count := func(m *sync.Map) (n int) {
		m.Range(func(any, any) bool { n++; return true })
		m.Clear()
		return n
	}
	client := newClient(t, config{Servers: decodetest.Servers(servers)})
	put := func() {
		t.Helper()
		if _, err := client.Put(t.Context(), bytes.NewReader(data), opts); err != nil {
			t.Error(err)
		}
	}
	put()
	first := placed(servers)
	if w, r := count(&written), count(&renewed); w != 4 || r != 0 {
		t.Errorf("%d shares written, %d renewed", w, r)
	}
	put()
	if w, r := count(&written), count(&renewed); w != 0 || r != 4 {
		t.Errorf("again: %d shares written, %d renewed", w, r)
	}
	// One is gone, and comes back where it was.
	clear(servers[2].Held)
	put()
	if w, r := count(&written), count(&renewed); w != 1 || r != 3 || !slices.EqualFunc(placed(servers), first, slices.Equal) {
		t.Errorf("one gone: %d shares written, %d renewed, %v", w, r, placed(servers))
	}
	// All are on one server: the others get copies of three of them.
	for si, shares := range servers[0].Held {
		for _, s := range servers[1:] {
			for num, b := range s.Held[si] {
				shares[num] = b
			}
			clear(s.Held)
		}
	}
	put()
	if w, r := count(&written), count(&renewed); w != 3 || r != 4 {
		t.Errorf("all on one: %d shares written, %d renewed, %v", w, r, placed(servers))
	}
	// Another program may have put the records of the hash chain in another order.
	for _, shares := range servers[1].Held {
		for num, b := range shares {
			h, err := chk.ParseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			chain := b[h.ShareChain:h.UEB]
			shares[num] = slices.Concat(b[:h.ShareChain], chain[34:], chain[:34], b[h.UEB:])
		}
	}
	put()
	if w, r := count(&written), count(&renewed); w != 0 || r != 7 {
		t.Errorf("another order: %d shares written, %d renewed, %v", w, r, placed(servers))
	}
	// What is there and is something else does not count.
	for _, s := range servers[:2] {
		for _, shares := range s.Held {
			for num := range shares {
				shares[num] = make([]byte, 100)
			}
		}
	}
	_, err := client.Put(t.Context(), bytes.NewReader(data), opts)
	if err == nil || !strings.Contains(err.Error(), "2 would; failed: ") || !strings.Contains(err.Error(), "s1: share ") || !strings.Contains(err.Error(), "none of this file") {
		t.Errorf("corrupt shares: %v", err)
	}
}

// TestPutPlacement: a share for each server in permuted order, then around again. Full and dead
// servers are passed over, at whatever point they say so.
func TestPutPlacement(t *testing.T) {
	seeded := func(servers []*gridtest.Faulty) (list []fleet.Server) {
		for i, s := range servers {
			list = append(list, fleet.Server{Server: s, Seed: []byte{byte(i)}})
		}
		return list
	}
	for _, test := range []struct {
		n                    int
		dead, full, halfFull []int
		want                 [][]int // by place in the order
	}{
		{3, nil, nil, nil, [][]int{{0}, {1}, {2}, {}, {}}},
		{8, nil, nil, nil, [][]int{{0, 5}, {1, 6}, {2, 7}, {3}, {4}}},
		{3, []int{1}, nil, nil, [][]int{{0}, {}, {1}, {2}, {}}},
		{3, nil, []int{1}, nil, [][]int{{0}, {}, {2}, {1}, {}}},
		{8, nil, []int{0, 3}, nil, [][]int{{}, {1, 3, 6}, {2, 5, 7}, {}, {0, 4}}},
		{6, []int{4}, nil, []int{0}, [][]int{{0}, {1, 5}, {2, 4}, {3}, {}}},
	} {
		servers := gridtest.New(5)
		opts := upload.Options{K: 1, N: test.n, Happy: 3, Convergence: []byte("secret")}
		data := decodetest.Plaintext(1000)
		c, err := newClient(t, config{Servers: seeded(servers)}).Put(t.Context(), bytes.NewReader(data), opts)
		if err != nil {
			t.Fatal(err)
		}
		order := decodetest.Permuted(t, seeded(servers), decodetest.StorageIndex(t, c))
		at := func(place int) *gridtest.Faulty { return servers[order[place][1]-'0'] }
		for _, s := range servers {
			clear(s.Held)
		}
		for _, i := range test.dead {
			at(i).OnEverything(func(context.Context) error { return errBroken })
		}
		for _, i := range test.full {
			at(i).OnCreate = func(context.Context, int) error { return errBroken }
		}
		for _, i := range test.halfFull {
			at(i).OnCreate = func(_ context.Context, num int) error {
				if num > 2 {
					return errBroken
				}
				return nil
			}
		}
		if _, err := newClient(t, config{Servers: seeded(servers)}).Put(t.Context(), bytes.NewReader(data), opts); err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		ordered := make([]*gridtest.Faulty, len(servers))
		for i := range ordered {
			ordered[i] = at(i)
		}
		if got := placed(ordered); !slices.EqualFunc(got, test.want, slices.Equal) {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// TestPutProof: servers that hold something else than they were given, and those whose last answer
// is lost.
func TestPutProof(t *testing.T) {
	for name, test := range map[string]struct {
		store func(share []byte) error
		after func(s *gridtest.Faulty)
		happy int
		want  string
	}{
		"header":       {func(b []byte) error { b[3] ^= 1; return nil }, nil, 3, "reading it back: the server does not hold what it was given"},
		"UEB":          {func(b []byte) error { b[len(b)-9] ^= 1; return nil }, nil, 3, "does not hold what it was given"},
		"hash tree":    {func(b []byte) error { b[len(b)-2000] ^= 1; return nil }, nil, 3, "does not hold what it was given"},
		"enough":       {func(b []byte) error { b[3] ^= 1; return nil }, nil, 2, ""},
		"lost answer":  {func([]byte) error { return errBroken }, nil, 3, ""},
		"lost, broken": {func(b []byte) error { b[3] ^= 1; return errBroken }, nil, 3, "committing it: broken on purpose"},
		"not read":     {nil, func(s *gridtest.Faulty) { s.OnRead = func(context.Context, int, int64) error { return errBroken } }, 3, "reading it back: broken on purpose"},
		"not listed": {nil, func(s *gridtest.Faulty) {
			s.OnShares = func(context.Context) error {
				if s.Asked > 1 {
					return errBroken
				}
				return nil
			}
		}, 3, "reading it back: broken on purpose"},
	} {
		servers := gridtest.New(3)
		if test.store != nil {
			servers[1].OnStore = func(_ int, share []byte) error { return test.store(share) }
		}
		if test.after != nil {
			test.after(servers[1])
		}
		var log decodetest.LogBook
		client := newClient(t, config{Servers: decodetest.Servers(servers), Log: log.Logger()})
		c, err := client.Put(t.Context(), bytes.NewReader(decodetest.Plaintext(200_000)), upload.Options{K: 1, N: 3, SegmentSize: 1000, Happy: test.happy})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), "s1: share") || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "left behind: share")) {
			t.Errorf("%s: %v", name, err)
		}
		if warned := len(log.Lines("server failed", "s1")); warned != map[bool]int{true: 0, false: 1}[name == "lost answer"] {
			t.Errorf("%s: %d warnings: %s", name, warned, log.B.String())
		}
		if err == nil {
			if r, err := client.Check(t.Context(), decodetest.Verifier(t, c)); err != nil || r.GoodDistinct < test.happy {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
	}
}

// TestPutMemory: what is in memory does not depend on the file's size, and pieces wait for one
// another.
func TestPutMemory(t *testing.T) {
	const limit = 300_000
	live := func(segments int64) (peak int64) {
		client := newClient(t, config{Servers: []fleet.Server{{Server: &void{}}}, Memory: limit})
		size := segments * 30
		var before runtime.MemStats
		runtime.GC()
		runtime.GC() // what had finalizers is freed by the second one
		runtime.ReadMemStats(&before)
		opts := upload.Options{SegmentSize: 30, Progress: func(done int64) {
			if used := client.MemoryInUse(); used > limit || used == 0 {
				t.Errorf("%d bytes are in use", used)
			}
			if done == size {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				peak = int64(m.HeapAlloc) - int64(before.HeapAlloc)
			}
		}}
		if _, err := client.Put(t.Context(), io.NewSectionReader(zeros{}, 0, size), opts); err != nil {
			t.Fatal(err)
		}
		return peak
	}
	few, many := live(1<<10), live(1<<15)
	t.Logf("%d and %d bytes are alive", few, many)
	if many > few+1<<19 {
		t.Errorf("%d bytes are alive with few segments, %d with many", few, many)
	}
	client := newClient(t, config{Servers: []fleet.Server{{Server: &void{}}}, Memory: limit})
	var tooLarge *memory.Error
	if _, err := client.Put(t.Context(), io.NewSectionReader(zeros{}, 0, 1<<20), upload.Options{}); !errors.As(err, &tooLarge) {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// void is a server that keeps of shares only what is read back.
type void struct{ shares sync.Map }

func (*void) String() string { return "void" }
func (*void) Close() error   { return nil }
func (v *void) Shares(context.Context, grid.StorageIndex) (nums []int, _ error) {
	v.shares.Range(func(num, _ any) bool { nums = append(nums, num.(int)); return true })
	return nums, nil
}
func (v *void) Create(_ context.Context, _ grid.StorageIndex, num int, size int64, _ grid.Lease) (grid.Upload, error) {
	return &voidShare{v: v, num: num, size: size}, nil
}
func (v *void) Open(_ context.Context, _ grid.StorageIndex, num int) (grid.Share, error) {
	s, _ := v.shares.Load(num)
	return s.(*voidShare), nil
}

type voidShare struct {
	v          *void
	num        int
	size       int64
	head, tail [4096]byte
}

func (s *voidShare) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(s.head)) {
		copy(s.head[off:], p)
	}
	if from := s.size - int64(len(s.tail)); off+int64(len(p)) > from {
		copy(s.tail[max(0, off-from):], p[max(0, from-off):])
	}
	return len(p), nil
}
func (s *voidShare) Commit() error { s.v.shares.Store(s.num, s); return nil }
func (s *voidShare) Abort() error  { return nil }
func (s *voidShare) Size() int64   { return s.size }
func (s *voidShare) Close() error  { return nil }
func (s *voidShare) ReadAt(_ context.Context, off int64, bufs ...[]byte) (int, error) {
	if off == 0 {
		return copy(bufs[0], s.head[:]), nil
	}
	return copy(bufs[0], s.tail[off-(s.size-int64(len(s.tail))):]), io.EOF
}

// BenchmarkPut encodes a file and throws its shares away.
func BenchmarkPut(b *testing.B) {
	for _, shape := range []struct {
		k, n    int
		segment int64
	}{{3, 10, 1 << 20}, {3, 10, 128 << 10}, {71, 255, 1 << 20}} {
		b.Run(fmt.Sprintf("%d-of-%d,segment=%d", shape.k, shape.n, shape.segment), func(b *testing.B) {
			const size = 64 << 20
			client := newClient(b, config{Servers: []fleet.Server{{Server: &void{}}}, Memory: 128 << 20})
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				opts := upload.Options{K: shape.k, N: shape.n, SegmentSize: shape.segment}
				if _, err := client.Put(b.Context(), io.NewSectionReader(zeros{}, 0, size), opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
