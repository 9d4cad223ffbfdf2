package fleet

import (
	"context"
	"sync"
	"time"

	"spillway/decode/grid"
)

// stayInterval is how often connections are used that nobody else uses. Twice that is less than
// what the impatient ends of connections wait: 45 seconds.
const stayInterval = 20 * time.Second

// StayConnected makes connections to the servers, and keeps them while no file is read, until the
// context or the Fleet ends. Without them the first byte of a file would have to wait for
// handshakes: for two round trips, and for two more when two requests are sent at once (see
// decision connections-kept-open). What goes wrong shows when a file is read.
func (f *Fleet) StayConnected(ctx context.Context) {
	ctx, done, err := f.life.Join(ctx)
	if err != nil {
		return
	}
	defer done()
	ticks := time.NewTicker(stayInterval)
	defer ticks.Stop()
	var last time.Time
	for {
		now := time.Now()
		f.connect(ctx, last)
		last = now
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// connect uses the connections to those servers that have answered nothing since then, and are not
// in doubt.
func (f *Fleet) connect(ctx context.Context, since time.Time) {
	ctx, cancel := context.WithTimeoutCause(ctx, stayInterval, grid.ErrTimeout)
	defer cancel()
	members := f.Join(nil)
	defer f.Leave(members)
	var wg sync.WaitGroup
	for _, m := range members {
		s, ok := m.Server.Server.(grid.Connector)
		if ok && !m.pace.isInUse(time.Now(), since) {
			wg.Go(func() { s.Connect(ctx) })
		}
	}
	wg.Wait()
}
