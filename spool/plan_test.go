package spool_test

import (
	"fmt"
	"slices"
	"testing"

	"spillway/spool"
)

// upTo returns the numbers below n but for those in without.
func upTo(n int64, without ...int64) (chunks []int64) {
	for c := range n {
		if !slices.Contains(without, c) {
			chunks = append(chunks, c)
		}
	}
	return chunks
}

func TestPlan(t *testing.T) {
	whole := []spool.Extent{{Off: 0, End: 1000}}
	for _, test := range []struct {
		name string
		in   spool.PlanState
		want int64
	}{
		{"nobody reads: the lowest gap", spool.PlanState{}, 0},
		{"nobody reads: the lowest gap above what is there", spool.PlanState{Have: []int64{0, 1, 3}}, 2},
		{"busy is skipped", spool.PlanState{Have: []int64{0}, Busy: []int64{1, 2}}, 3},
		{"bad is skipped", spool.PlanState{Bad: []int64{0, 1}}, 2},
		{"all is there", spool.PlanState{Have: upTo(100)}, -1},
		{"the rest is busy or bad", spool.PlanState{Have: upTo(98), Busy: []int64{98}, Bad: []int64{99}}, -1},
		{"the last chunk", spool.PlanState{Have: upTo(99)}, 99},
		{
			"the chunk of a waiting reader comes first",
			spool.PlanState{Readers: []spool.PlanReader{{Pos: 0, Wants: whole}, {Pos: 505, Waiting: 1}}},
			50,
		},
		{
			"of two waiting, the one that waits longer, whatever their order among the readers",
			spool.PlanState{Readers: []spool.PlanReader{{Pos: 700, Waiting: 7}, {Pos: 300, Waiting: 5}, {Pos: 500, Waiting: 6}}},
			30,
		},
		{
			"of two waiting, the other if the first is under way",
			spool.PlanState{Busy: []int64{30}, Readers: []spool.PlanReader{{Pos: 300, Waiting: 5, Wants: whole}, {Pos: 700, Waiting: 7}}},
			70,
		},
		{
			"read-ahead: the one that reaches its gap sooner",
			spool.PlanState{Have: []int64{10, 11, 12, 50}, Readers: []spool.PlanReader{{Pos: 100, Wants: []spool.Extent{{Off: 100, End: 1000}}}, {Pos: 500, Wants: []spool.Extent{{Off: 500, End: 1000}}}}},
			51,
		},
		{
			"a bad chunk in front is skipped by read-ahead",
			spool.PlanState{Have: []int64{10}, Bad: []int64{11}, Readers: []spool.PlanReader{{Pos: 100, Wants: []spool.Extent{{Off: 100, End: 1000}}}}},
			12,
		},
		{
			"read-ahead ends with what is wanted: then the lowest gap",
			spool.PlanState{Have: []int64{10, 11}, Readers: []spool.PlanReader{{Pos: 100, Wants: []spool.Extent{{Off: 100, End: 120}}}}},
			0,
		},
		{
			"while a reader waits, nothing that nobody wants",
			spool.PlanState{Busy: []int64{50}, Readers: []spool.PlanReader{{Pos: 505, Wants: []spool.Extent{{Off: 505, End: 506}}, Waiting: 1}}},
			-1,
		},
		{
			"while a reader waits, what another one wants",
			spool.PlanState{
				Have: upTo(30), Busy: []int64{50},
				Readers: []spool.PlanReader{{Pos: 505, Wants: []spool.Extent{{Off: 505, End: 506}}, Waiting: 1}, {Pos: 0, Wants: whole}},
			},
			30,
		},
		{
			"read-ahead goes on in the next extent",
			spool.PlanState{Have: []int64{10, 11}, Readers: []spool.PlanReader{{Pos: 100, Wants: []spool.Extent{{Off: 100, End: 120}, {Off: 905, End: 906}}}}},
			90,
		},
		{
			"read-ahead does not go on for ever",
			spool.PlanState{Have: upTo(10+spool.ReadAhead+1, 3)[3:], Readers: []spool.PlanReader{{Pos: 100, Wants: whole}}},
			0,
		},
		{
			"when much has failed, nothing that nobody waits for",
			spool.PlanState{OnlyAwaited: true, Readers: []spool.PlanReader{{Pos: 100, Wants: whole}, {Pos: 500}}},
			-1,
		},
		{
			"when much has failed, of two waiting the one that waits longer",
			spool.PlanState{OnlyAwaited: true, Readers: []spool.PlanReader{{Pos: 700, Waiting: 7}, {Pos: 300, Waiting: 5}, {Pos: 0}}},
			30,
		},
		{
			"when much has failed, of two waiting the other if the first is under way",
			spool.PlanState{OnlyAwaited: true, Busy: []int64{30}, Readers: []spool.PlanReader{{Pos: 300, Waiting: 5}, {Pos: 700, Waiting: 7}}},
			70,
		},
		{
			"extents behind the reader's are passed over",
			spool.PlanState{Have: []int64{50}, Readers: []spool.PlanReader{{Pos: 505, Wants: []spool.Extent{{Off: 0, End: 10}, {Off: 400, End: 410}}}}},
			40,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Size, test.in.ChunkSize = 1000, 10
			if got := test.in.Next(); got != test.want {
				t.Errorf("chunk %d, want %d", got, test.want)
			}
		})
	}
}

func TestPlanRun(t *testing.T) {
	whole := []spool.Extent{{Off: 0, End: 1000}}
	for _, test := range []struct {
		name string
		in   spool.PlanState
		c, n int64
	}{
		{"nobody reads: a whole run", spool.PlanState{}, 0, 4},
		{"up to what is there", spool.PlanState{Have: []int64{3}}, 0, 3},
		{"up to what is under way", spool.PlanState{Busy: []int64{0, 3}}, 1, 2},
		{"up to what is bad", spool.PlanState{Bad: []int64{1}}, 0, 1},
		{"up to the end", spool.PlanState{Have: upTo(98)}, 98, 2},
		{"nothing", spool.PlanState{Have: upTo(100)}, 0, 0},
		{
			"when much has failed, one chunk alone",
			spool.PlanState{OnlyAwaited: true, Have: upTo(5), Readers: []spool.PlanReader{{Pos: 50, Wants: whole, Waiting: 1}}},
			5, 1,
		},
		{"a reader that begins gets the first chunk alone", spool.PlanState{Readers: []spool.PlanReader{{Pos: 0, Wants: whole, Waiting: 1}}}, 0, 1},
		{"and the next one meanwhile", spool.PlanState{Busy: []int64{0}, Readers: []spool.PlanReader{{Pos: 0, Wants: whole, Waiting: 1}}}, 1, 1},
		{"then runs", spool.PlanState{Have: []int64{0}, Busy: []int64{1}, Readers: []spool.PlanReader{{Pos: 10, Wants: whole, Waiting: 2}}}, 2, 4},
		{"a reader that goes on gets a run", spool.PlanState{Have: upTo(5), Readers: []spool.PlanReader{{Pos: 50, Wants: whole, Waiting: 1}}}, 5, 4},
		{"a reader somewhere new waits for one", spool.PlanState{Have: upTo(5), Readers: []spool.PlanReader{{Pos: 500, Wants: []spool.Extent{{Off: 500, End: 1000}}, Waiting: 1}}}, 50, 1},
		{"not beyond what is wanted", spool.PlanState{Have: []int64{50}, Readers: []spool.PlanReader{{Pos: 500, Wants: []spool.Extent{{Off: 500, End: 525}}}}}, 51, 2},
		{
			"but into what another one wants",
			spool.PlanState{Have: []int64{50}, Readers: []spool.PlanReader{{Pos: 500, Wants: []spool.Extent{{Off: 500, End: 525}}}, {Pos: 0, Wants: []spool.Extent{{Off: 0, End: 5}, {Off: 530, End: 535}}}}},
			0, 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Size, test.in.ChunkSize, test.in.Run = 1000, 10, 4
			if c, n := test.in.NextRun(); c != test.c || n != test.n {
				t.Errorf("%d chunks from %d on, want %d from %d on", n, c, test.n, test.c)
			}
		})
	}
}

func TestPlanWindow(t *testing.T) {
	for _, test := range []struct {
		name string
		in   spool.PlanState
		want int64
	}{
		{"the reader's chunk", spool.PlanState{Ahead: 30}, 0},
		{"ahead of it", spool.PlanState{Ahead: 30, Have: []int64{0, 1}}, 2},
		{"not beyond the window", spool.PlanState{Ahead: 30, Have: []int64{0, 1, 2}}, -1},
		{"the reader's chunk even in a window smaller than it", spool.PlanState{Ahead: 1}, 0},
		{"but nothing else", spool.PlanState{Ahead: 1, Busy: []int64{0}}, -1},
		{"never the lowest gap", spool.PlanState{Ahead: 30, Readers: []spool.PlanReader{{Pos: 985, Wants: []spool.Extent{{Off: 985, End: 1000}}}}, Have: []int64{98, 99}}, -1},
		{"short extents count as what is decoded for them", spool.PlanState{Ahead: 30, Have: []int64{0, 20, 40},
			Readers: []spool.PlanReader{{Wants: []spool.Extent{{Off: 0, End: 1}, {Off: 200, End: 201}, {Off: 400, End: 401}, {Off: 600, End: 601}}}}}, -1},
		{"backwards", spool.PlanState{Ahead: 30, Have: []int64{90},
			Readers: []spool.PlanReader{{Pos: 900, Wants: []spool.Extent{{Off: 900, End: 910}, {Off: 100, End: 110}}}}}, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Size, test.in.ChunkSize = 1000, 10
			if test.in.Readers == nil {
				test.in.Readers = []spool.PlanReader{{Wants: []spool.Extent{{Off: 0, End: 1000}}}}
			}
			if got := test.in.NextInWindow(); got != test.want {
				t.Errorf("chunk %d, want %d", got, test.want)
			}
		})
	}
}

func TestUpcoming(t *testing.T) {
	for _, test := range []struct {
		pos   int64
		wants []spool.Extent
		want  []int64
	}{
		{0, nil, []int64{0}},
		{99, nil, []int64{9}},
		{0, []spool.Extent{{0, 31}}, []int64{0, 1, 2, 3}},
		{15, []spool.Extent{{0, 30}}, []int64{1, 2}},
		{95, []spool.Extent{{95, 101}}, []int64{9, 10}},
		{0, []spool.Extent{{0, 5}, {5, 10}, {10, 11}}, []int64{0, 1}},
		{50, []spool.Extent{{50, 60}, {0, 20}, {50, 60}}, []int64{5, 0, 1, 5}},
		{70, []spool.Extent{{0, 10}, {20, 30}}, []int64{7, 2}},
		{20, []spool.Extent{{60, 70}}, []int64{2, 6}},
	} {
		in := spool.PlanState{Size: 101, ChunkSize: 10, Readers: []spool.PlanReader{{Pos: test.pos, Wants: test.wants}}}
		if got := in.Upcoming(); !slices.Equal(got, test.want) {
			t.Errorf("at %d, wanting %v: %v, want %v", test.pos, test.wants, got, test.want)
		}
	}
}

func TestChunkset(t *testing.T) {
	for _, n := range []int64{1, 63, 64, 65, 200} {
		s, model := spool.NewChunkset(n), make([]bool, n)
		if s.Any() {
			t.Fatalf("a new set of %d has something", n)
		}
		set := func(i int64, in bool) {
			if model[i] = in; in {
				s.Add(i)
			} else {
				s.Remove(i)
			}
			if s.Any() != slices.Contains(model, true) {
				t.Fatalf("n=%d: Any is %v", n, s.Any())
			}
			for from := range n {
				if s.Has(from) != model[from] {
					t.Fatalf("n=%d: Has(%d) is %v", n, from, s.Has(from))
				}
				for _, end := range []int64{from, from + 1, n} {
					want := from
					for want < end && model[want] {
						want++
					}
					if got := s.RunEnd(from, end); got != want {
						t.Fatalf("n=%d: RunEnd(%d, %d) is %d, want %d", n, from, end, got, want)
					}
				}
			}
		}
		for i := range n {
			set(i, true)
		}
		for i := int64(0); i < n; i += 3 {
			set(i, false)
		}
	}
	var none spool.Chunkset
	if none.Has(0) || none.Any() || none.RunEnd(3, 9) != 3 {
		t.Error("the nil set is not empty")
	}
}

// FuzzPlan compares plan with what its comment says, worked out slowly.
func FuzzPlan(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 0, 0, 0, 0}, uint16(0), uint16(3), uint16(5), uint16(9), true)
	f.Add([]byte{1, 1, 1, 1, 0, 2, 0, 3}, uint16(77), uint16(10), uint16(5), uint16(30), false)
	f.Add([]byte{1}, uint16(0), uint16(0), uint16(1), uint16(1), true)
	f.Fuzz(func(t *testing.T, chunks []byte, pos, off, length, other uint16, waits bool) {
		if len(chunks) == 0 || len(chunks) > 500 {
			return
		}
		const chunkSize = 7
		in := spool.PlanState{Size: int64(len(chunks))*chunkSize - 3, ChunkSize: chunkSize}
		free := false
		for c, state := range chunks {
			switch c := int64(c); state % 4 {
			case 0:
				free = true
			case 1:
				in.Have = append(in.Have, c)
			case 2:
				in.Busy = append(in.Busy, c)
			case 3:
				in.Bad = append(in.Bad, c)
			}
		}
		clip := func(x uint16) int64 { return int64(x) % in.Size }
		in.Readers = []spool.PlanReader{
			{Pos: clip(pos), Wants: []spool.Extent{{Off: clip(pos), End: clip(pos) + 1}, {Off: clip(off), End: min(clip(off)+int64(length), in.Size)}}},
			{Pos: clip(other)},
		}
		if waits {
			in.Readers[1].Waiting = 3
		}
		got, want := in.Next(), naivePlan(in, chunks)
		if got != want {
			t.Fatalf("chunk %d, want %d, of %+v", got, want, in)
		}
		if got < 0 && free && !waits {
			t.Fatal("something is free, and nobody waits")
		}
	})
}

// naivePlan ranks the free chunks: by how many chunks a reader reads before, a waiting
// reader first; then it is the lowest one, but while a reader waits only if it is wanted.
func naivePlan(in spool.PlanState, chunks []byte) int64 {
	best, bestRank := int64(-1), ""
	try := func(c int64, rank string) {
		if chunks[c]%4 == 0 && (best < 0 || rank < bestRank) {
			best, bestRank = c, rank
		}
	}
	for i, r := range in.Readers {
		one := in
		one.Readers = in.Readers[i : i+1]
		for distance, c := range one.Upcoming() {
			if distance > spool.ReadAhead {
				break
			}
			wait := uint64(9)
			if distance == 0 && r.Waiting != 0 {
				wait = r.Waiting
			}
			try(c, fmt.Sprintf("%03d %d %d", distance, wait, i))
		}
	}
	if best >= 0 {
		return best
	}
	waits, wanted := false, map[int64]bool{}
	for i, r := range in.Readers {
		one := in
		one.Readers = in.Readers[i : i+1]
		for _, c := range one.Upcoming() {
			wanted[c] = true
		}
		waits = waits || r.Waiting != 0
	}
	lowest := int64(slices.IndexFunc(chunks, func(state byte) bool { return state%4 == 0 }))
	if waits && !wanted[lowest] {
		return -1
	}
	return lowest
}
