package fleet

import (
	"time"

	"spillway/decode/grid"
)

const (
	// adviceGrace is how long Close waits for servers that are being told of corrupt shares.
	adviceGrace = 2 * time.Second
	// maxAdvised is of how many corrupt shares of one server are remembered that it was told.
	maxAdvised = 10_000
)

// advice is what a server is told of a corrupt share.
type advice struct {
	of     advised
	file   string // its ID, for the log
	reason string
}

// advised is what an advice is about.
type advised struct {
	index grid.StorageIndex
	share int
}

// Advise has the server told, if its kind can be, that its share of the storage index is corrupt:
// in the background, one share after another, each once in the life of the Fleet. Reason is for its
// operator; file names the file in the log.
func (f *Fleet) Advise(m *Member, index grid.StorageIndex, share int, file, reason string) {
	if _, ok := m.Server.Server.(grid.CorruptionReporter); !ok {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := advised{index, share}
	if f.closed || m.advised[key] {
		return
	}
	if m.advised == nil || len(m.advised) == maxAdvised {
		m.advised = map[advised]bool{}
	}
	m.advised[key] = true
	m.untold = append(m.untold, advice{key, file, reason})
	if !m.telling {
		m.telling = true
		m.users++
		f.advising.Go(func() { f.tell(m) })
	}
}

// tell tells the server until there is nothing left to tell.
func (f *Fleet) tell(m *Member) {
	defer f.Leave([]*Member{m})
	for {
		f.mu.Lock()
		if len(m.untold) == 0 || f.adviceCtx.Err() != nil {
			m.telling = false
			f.mu.Unlock()
			return
		}
		a := m.untold[0]
		m.untold = m.untold[1:]
		f.mu.Unlock()
		ctx, cancel := f.Bounded(f.adviceCtx)
		reporter := m.Server.Server.(grid.CorruptionReporter)
		err := grid.Cause(ctx, reporter.ReportCorrupt(ctx, a.of.index, a.of.share, a.reason))
		cancel()
		if err != nil && f.adviceCtx.Err() == nil {
			f.serverErrors.Add(1)
			f.log.Warn("server not told of its corrupt share", "file", a.file, "share", a.of.share, "server", m.String(), "error", err.Error())
		}
	}
}

// endAdvice waits a while for the servers that are being told, and breaks off.
func (f *Fleet) endAdvice() {
	defer time.AfterFunc(adviceGrace, func() { f.cancelAdvice(ErrClosed) }).Stop()
	f.advising.Wait()
	f.cancelAdvice(ErrClosed)
}
