package decode

import (
	"context"
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
	index  grid.StorageIndex
	share  int
	file   string // its ID, for the log
	reason string
}

// advised is what an advice was about.
type advised struct {
	index grid.StorageIndex
	share int
}

// advise has the server told, if its kind can be, that it holds a corrupt share: in the background, one share
// after another, each once in the life of the Client.
func (c *Client) advise(m *member, a advice) {
	if _, ok := m.Server.Server.(grid.CorruptionReporter); !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := advised{a.index, a.share}
	if c.closed || m.advised[key] {
		return
	}
	if m.advised == nil || len(m.advised) == maxAdvised {
		m.advised = map[advised]bool{}
	}
	m.advised[key] = true
	m.untold = append(m.untold, a)
	if !m.telling {
		m.telling = true
		m.uses++
		c.advising.Go(func() { c.tell(m) })
	}
}

// tell tells the server until there is nothing left to tell.
func (c *Client) tell(m *member) {
	defer c.release([]*member{m})
	for {
		c.mu.Lock()
		if len(m.untold) == 0 || c.adviceCtx.Err() != nil {
			m.telling = false
			c.mu.Unlock()
			return
		}
		a := m.untold[0]
		m.untold = m.untold[1:]
		c.mu.Unlock()
		ctx, cancel := context.WithTimeoutCause(c.adviceCtx, c.timeout, errTimeout)
		err := timeoutCause(ctx, m.Server.Server.(grid.CorruptionReporter).ReportCorrupt(ctx, a.index, a.share, a.reason))
		cancel()
		if err != nil && c.adviceCtx.Err() == nil {
			c.serverErrors.Add(1)
			c.log.Warn("server not told of its corrupt share", "file", a.file, "share", a.share, "server", m.String(), "error", err.Error())
		}
	}
}

// endAdvice waits a while for the servers that are being told, and breaks off.
func (c *Client) endAdvice() {
	defer time.AfterFunc(adviceGrace, func() { c.cancelAdvice(ErrClosed) }).Stop()
	c.advising.Wait()
	c.cancelAdvice(ErrClosed)
}
