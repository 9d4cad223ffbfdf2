package spool

import "time"

// reap retires entries whose retention is over. It is the one goroutine that watches the clock.
func (s *Spool) reap() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.soon:
		case <-s.ctx.Done():
			return
		}
		if next := s.expire(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// expire retires what is due, and returns when the next entry will be; zero if nothing is idle.
func (s *Spool) expire() (next time.Time) {
	s.mu.Lock()
	now := time.Now()
	var unused []*entry
	// The list is in the order of leaving, so the first that is not due ends the search.
	for s.idle.Len() > 0 {
		e := s.idle.Front().Value.(*entry)
		if next = e.left.Add(s.cfg.Retention); now.Before(next) {
			break
		}
		next = time.Time{}
		s.retireLocked(e, errUnused)
		s.totals.Expired++
		if e.unusedLocked() {
			unused = append(unused, e)
		}
	}
	s.watched = !next.IsZero()
	s.mu.Unlock()
	for _, e := range unused {
		s.free(e)
	}
	return next
}

// reapLocked tells the reaper that an entry has become idle. While it watches others, whose
// retention ends sooner, it need not know.
func (s *Spool) reapLocked() {
	if s.watched {
		return
	}
	s.watched = true
	select {
	case s.soon <- struct{}{}:
	default:
	}
}
