package decode

import (
	"context"
	"time"
)

// exclusions are shares that are left out for a while, or for good.
type exclusions map[*share]time.Time // when they may be tried again; the zero time: never

// has tells whether the share is left out now.
func (e exclusions) has(s *share) bool {
	again, out := e[s]
	return out && (again.IsZero() || time.Now().Before(again))
}

// persistence is how long somebody waits for servers that failed, where no others have
// enough, so that a server that is started anew ends no download.
const persistence = 10 * time.Second

// shortage is a time in which there are too few shares.
type shortage struct{ since time.Time }

// end returns when a server that failed may be tried again, false if that is not worth
// waiting for. Servers that did not say which shares they hold are asked again meanwhile.
func (s *shortage) end(f *File, left exclusions) (time.Time, bool) {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	next := f.askAgain()
	for _, again := range left {
		if !again.IsZero() && again.Before(next) {
			next = again
		}
	}
	return next, next.Before(s.since.Add(persistence))
}

// fromAny returns what get makes of one share. It tries the preferred share
// first, the next one when that fails, and the next one as well when it is
// late. All calls of get have returned when it returns. If every share fails, the
// error is *NotEnoughSharesError.
func fromAny[V any](ctx context.Context, f *File, get func(ctx context.Context, o *openShare) (V, error)) (V, error) {
	type result struct {
		share *share
		value V
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := map[*share]bool{}
	defer func() {
		cancel()
		for range running {
			<-results
		}
	}()
	left := exclusions{}
	var short shortage
	var ranked []candidate
	var latest *share // of those that run; nil when another one is wanted
	var began time.Time
	competitors := 0
	tick := time.NewTimer(time.Hour)
	defer tick.Stop()
	next := func() bool {
		ranked = f.rank(ranked[:0], smallRead, competitors > 0, false)
		for _, candidate := range ranked {
			s := candidate.share
			if running[s] || left.has(s) {
				continue
			}
			latest, began, running[s] = s, time.Now(), true
			tick.Reset(f.client.lateNext(s.member, smallRead, competitors))
			go func() {
				r := result{share: s}
				r.err = s.use(ctx, func(o *openShare) (err error) {
					r.value, err = get(ctx, o)
					return err
				})
				results <- r
			}()
			return true
		}
		return false
	}
	var none V
	for {
		changed := f.watch()
		// A share may come between the look and the question, so look again.
		if latest == nil && !next() && !f.moreToCome() && !next() && len(running) == 0 {
			again, ok := short.end(f, left)
			if !ok {
				return none, f.notEnough(left.has)
			}
			tick.Reset(time.Until(again))
		}
		select {
		case r := <-results:
			delete(running, r.share)
			if r.err == nil {
				return r.value, nil
			}
			if ctx.Err() != nil {
				return none, context.Cause(ctx)
			}
			left[r.share] = r.share.report(r.err)
			latest = nil
		case now := <-tick.C:
			if latest != nil {
				f.client.hedged.Add(1)
				latest.isLate(now, began)
				latest = nil
				competitors++
			}
		case <-changed:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}
