package spool_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"spillway/spool"
)

// logged returns a logger, and how many lines it has written.
func logged() (log *slog.Logger, lines func() int, text func() string) {
	var b bytes.Buffer // the handler writes a line at a time; the test reads while nothing is at work
	return slog.New(slog.NewTextHandler(&b, nil)), func() int { return strings.Count(b.String(), "\n") }, b.String
}

// Of a large file that cannot be had at all a few chunks are tried, not all of them, and the log
// says so in a line or two. Who comes back for it costs one try each time.
func TestBrokenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines, text := logged()
		s := openSpool(t, spool.Config{Budget: budget, Log: log, Retention: retention})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 100_000 * 10, chunk: 10, run: 4, workers: 4, before: func(ctx context.Context, _ int64) error {
			time.Sleep(time.Millisecond)
			return errChunk
		}}
		whole := spool.Extent{Off: 0, End: f.size}
		r := acquire(t, s, f, whole)
		if _, err := r.Wait(t.Context(), 0); !errors.Is(err, errChunk) {
			t.Errorf("Wait: %v", err)
		}
		time.Sleep(time.Hour)
		// What was under way when enough had failed, each chunk of a run by itself as well.
		if n := len(f.chunks()); n > 8+4*(4+4) {
			t.Errorf("%d chunks were tried", n)
		}
		check(t, s)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, off := range []int64{0, 500_000} {
			for range 100 {
				closeReader(t, r)
				r = acquire(t, s, f, whole)
				before := len(f.chunks())
				if _, err := r.Wait(t.Context(), off); !errors.Is(err, errChunk) {
					t.Errorf("Wait: %v", err)
				}
				synctest.Wait()
				if n := len(f.chunks()) - before; n != 1 {
					t.Fatalf("%d chunks were tried for one reader", n)
				}
				// Who only looks has nothing tried.
				if _, err := r.Wait(ended, off); !errors.Is(err, context.Canceled) {
					t.Errorf("Wait: %v", err)
				}
				synctest.Wait()
				if n := len(f.chunks()) - before; n != 1 {
					t.Fatalf("%d chunks were tried for one reader that looked again", n)
				}
			}
		}
		check(t, s)
		if n := lines(); n < 1 || n > 2 || !strings.Contains(text(), "failures=1 ") {
			t.Errorf("%d lines:\n%s", n, text())
		}
		closeReader(t, r)
	})
}

// When chunks can be had again, the fill goes on by itself.
func TestBrokenFileMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		var mended atomic.Bool
		f := &file{key: "f", size: 1000 * 10, chunk: 10, before: func(context.Context, int64) error {
			if mended.Load() {
				return nil
			}
			return errChunk
		}}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		synctest.Wait()
		tried := f.chunks()
		mended.Store(true)
		read(t, r, f, spool.Extent{Off: 500 * 10, End: 501 * 10})
		synctest.Wait()
		check(t, s)
		if got := s.Snapshot().Entries[0].SpooledBytes; got != f.size-int64(len(tried))*10 {
			t.Errorf("%d bytes are spooled, %d chunks had failed", got, len(tried))
		}
		read(t, r, f, spool.Extent{Off: 0, End: f.size})
		closeReader(t, r)
	})
}

// A fill that meets a full disk ends: its workers do not begin others in their place.
func TestFullDiskEndsFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
		defer closeSpool(t, s)
		f := &file{key: "f", size: 1000 * 10, chunk: 10, workers: 2, before: func(context.Context, int64) error {
			return unix.ENOSPC
		}}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		synctest.Wait()
		if n := len(f.chunks()); n > 2 {
			t.Errorf("%d chunks were tried", n)
		}
		check(t, s)
		closeReader(t, r)
	})
}

// A file system that stops punching holes is reported, but not for each hole.
func TestPunchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines, text := logged()
		s := openSpool(t, spool.Config{Budget: 100_000, Window: 40_000, Log: log, Retention: retention})
		defer closeSpool(t, s)
		var holes int
		s.SetPunch(func(*os.File, int64, int64) error {
			holes++ // one at a time
			return unix.EIO
		})
		f := &file{key: "f", size: 5_000_000, chunk: 5000}
		r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
		read(t, r, f, spool.Extent{Off: 0, End: f.size})
		closeReader(t, r)
		synctest.Wait()
		if n := lines(); holes < 100 || n < 2 || n > 3 || !strings.Contains(text(), "failures=10 ") {
			t.Errorf("%d holes, %d lines:\n%s", holes, n, text())
		}
	})
}
