package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spillway/spool"
)

// clients is how many goroutines do random things at once.
const clients = 6

// world is one spool, the files that can be had in it, and what became of them.
type world struct {
	t     *testing.T
	s     *spool.Spool
	files []*file
	fails atomic.Bool // sources may fail

	full, failures, purges atomic.Int64 // how often a download met that
}

// TestMetamorphic does random things in a spool that is too small for them, and compares whatever
// it reads with what the files hold. After each step the spool's whole state must hold together.
// SPILLWAY_SEED chooses the seed.
func TestMetamorphic(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("SPILLWAY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	small := func() []*file {
		return []*file{
			{size: 1, chunk: 1}, {size: 40, chunk: 7}, {size: 5000, chunk: 700},
			{size: 20 * 4097, chunk: 4097}, {size: 20*4096 + 1, chunk: 4096},
			{size: 4 << 16, chunk: 1 << 16}, {size: 300_001, chunk: 10_007},
			{size: 400_000, chunk: 25_003}, {size: 1 << 30, chunk: 1 << 16}, {size: 1_000_000, chunk: 999},
		}
	}
	for _, test := range []struct {
		name  string
		steps int
		cfg   spool.Config
		files []*file
	}{
		{
			"small", 120,
			spool.Config{Budget: 300_000, Window: 32 << 10, Retention: time.Minute, Linger: time.Second},
			small(),
		},
		{
			"nothing kept", 120,
			spool.Config{Budget: 300_000, Window: 32 << 10},
			small(),
		},
		{
			"large", 40,
			spool.Config{Budget: 9 << 20, Window: 1 << 20, Retention: time.Minute, Linger: time.Second},
			[]*file{
				{size: 5*1_000_003 + 17, chunk: 1_000_003}, {size: 3 << 20, chunk: 1 << 20},
				{size: 3<<20 + 1, chunk: 1 << 20}, {size: 12 << 20, chunk: 100_003}, {size: 20_000_000, chunk: 1_000_003},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Real I/O is slow beside the bubble's clock: nothing here is compared with it.
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, s: openSpool(t, test.cfg), files: test.files}
				w.fails.Store(true)
				for i, f := range w.files {
					f.key, f.seed, f.run, f.workers = fmt.Sprintf("file%d", i), seed+uint64(i), 1+int64(i%4), 1+i%3
					source := rand.New(rand.NewPCG(seed, uint64(i)))
					var mu sync.Mutex
					f.before = func(ctx context.Context, _ int64) error {
						mu.Lock()
						dice := source.IntN(100)
						mu.Unlock()
						return w.mishap(ctx, dice)
					}
					f.opening = func(ctx context.Context) error { return f.before(ctx, 0) }
				}
				defer func() {
					if t.Failed() {
						t.Logf("SPILLWAY_SEED=%d", seed)
					}
				}()
				var running sync.WaitGroup
				for i := range clients {
					running.Go(func() { w.client(rand.New(rand.NewPCG(seed, 1000+uint64(i))), test.steps) })
				}
				running.Wait()
				w.settle()
				snap := w.s.Snapshot()
				closeSpool(t, w.s)
				t.Logf("%d full, %d failures, %d purged readers, %+v", w.full.Load(), w.failures.Load(), w.purges.Load(), snap.Totals)
			})
		})
	}
}

// mishap is what may happen to a source: it takes its time, or fails, or both.
func (w *world) mishap(ctx context.Context, dice int) error {
	if dice < 20 {
		select {
		case <-time.After(time.Duration(dice) * 50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if dice >= 15 && dice < 18 && w.fails.Load() {
		return errChunk
	}
	return nil
}

// settle reads every file once with nobody else there: whatever happened, nothing is stuck.
func (w *world) settle() {
	w.fails.Store(false)
	synctest.Wait()
	for _, f := range w.files {
		r := acquire(w.t, w.s, f)
		x := spool.Extent{Off: f.size - min(f.size, 1<<20), End: f.size}
		r.Want(x)
		read(w.t, r, f, x)
		closeReader(w.t, r)
		check(w.t, w.s)
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if got := ids(w.s); len(got) > 0 {
		w.t.Errorf("retention is over, there are still %v", got)
	}
}

// client does steps random things.
func (w *world) client(random *rand.Rand, steps int) {
	for range steps {
		switch n := random.IntN(20); {
		case n < 15:
			w.download(random, w.files[random.IntN(len(w.files))])
		case n < 17:
			time.Sleep(time.Duration(random.Int64N(int64(20 * time.Second))))
		case n < 18:
			if all := ids(w.s); len(all) > 0 {
				if _, err := w.s.Purge(all[random.IntN(len(all))], random.IntN(2) == 0); err != nil && !isGone(err) {
					w.t.Error(err)
				}
			}
		case n < 19:
			w.s.PurgeAll(true)
		default:
			if random.IntN(4) == 0 {
				w.s.PurgeAll(false)
			}
		}
		if err := w.s.Check(); err != nil {
			w.t.Error(err)
		}
		if w.t.Failed() {
			return
		}
	}
}

// download reads random extents of f, once or a few times, perhaps breaking off.
func (w *world) download(random *rand.Rand, f *file) {
	ctx, cancel := context.Background(), func() {}
	if random.IntN(10) == 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	}
	r, err := w.s.Acquire(ctx, f.key, f.size, f.open)
	cancel()
	switch {
	case err == nil:
	case errors.Is(err, spool.ErrFull):
		w.full.Add(1)
		return
	case errors.Is(err, errChunk) && w.fails.Load(), errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		w.failures.Add(1)
		return
	default:
		w.t.Error(err)
		return
	}
	defer func() {
		if err := r.Close(); err != nil {
			w.t.Error(err)
		}
	}()
	var cuts atomic.Int32
	r.OnCut(func() { cuts.Add(1) })
	for range 1 + random.IntN(3) {
		var wants []spool.Extent
		for range 1 + random.IntN(4) {
			off := random.Int64N(f.size)
			length := 1 + random.Int64N(min(f.size-off, 1+random.Int64N(1<<20)))
			wants = append(wants, spool.Extent{Off: off, End: off + length})
		}
		if random.IntN(5) > 0 {
			r.Want(wants...)
		} else {
			r.Want() // and read all the same
		}
		for _, x := range wants {
			ctx, cancel := context.Background(), func() {}
			if random.IntN(10) == 0 {
				ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(2000))*time.Millisecond)
			}
			breakOff := random.IntN(30)
			err := tryRead(ctx, r, f, x, func(spool.Extent) error {
				if breakOff--; breakOff == 0 {
					return context.Canceled // this client's, who has had enough
				}
				if random.IntN(4) == 0 { // this client is slow
					time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
				}
				return w.s.Check()
			})
			cancel()
			switch {
			case err == nil:
			case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
				return
			case errors.Is(err, errChunk):
				w.failures.Add(1)
			case errors.Is(err, spool.ErrPurged):
				w.purges.Add(1)
				return
			case errors.Is(err, spool.ErrFull) && r.Private():
				w.full.Add(1)
				return
			default:
				w.t.Errorf("%s, %v of %v: %v", f.key, x, wants, err)
				return
			}
		}
	}
	if n := cuts.Load(); n > 1 {
		w.t.Errorf("cut %d times", n)
	}
}
