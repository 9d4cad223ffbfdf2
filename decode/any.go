package decode

import (
	"context"
	"time"
)

// fromAny returns what get makes of one share. It tries the preferred share
// first, the next one when that fails, and the next one as well when it is
// slow. All calls of get have returned when it returns. If every share fails, the
// error is *NotEnoughSharesError.
func fromAny[V any](ctx context.Context, f *File, get func(ctx context.Context, o *openShare) (V, error)) (V, error) {
	type result struct {
		share *share
		value V
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	tried := map[*share]bool{}
	wanted := true // another share is to be tried
	patience := time.NewTimer(f.client.patience)
	defer patience.Stop()
	next := func() bool {
		for _, s := range f.candidates() {
			if tried[s] {
				continue
			}
			tried[s] = true
			wanted = false
			patience.Reset(f.client.patience)
			running++
			go func() {
				r := result{share: s}
				var o *openShare
				if o, r.err = s.open(ctx); r.err == nil {
					r.value, r.err = get(ctx, o)
				}
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
		if wanted && !next() && !f.moreToCome() && !next() && running == 0 {
			return none, f.notEnough(func(s *share) bool { return tried[s] })
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				return r.value, nil
			}
			if ctx.Err() != nil {
				return none, context.Cause(ctx)
			}
			r.share.report(r.err)
			wanted = true
		case <-patience.C:
			wanted = true
		case <-changed:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}
