package transport

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

// outside is the connections that net/http has let go: those with senders, and those that wait
// for their next request.
type outside struct {
	ctx    context.Context // ends when the senders are cut
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards all below
	senders  map[*sender]struct{}
	idle     map[*conn]struct{}
	crowd    int  // of senders, when memory was last given back; at least minCrowd
	stopping bool // connections do not become idle any more
}

func newOutside() *outside {
	o := &outside{senders: make(map[*sender]struct{}), idle: make(map[*conn]struct{}), crowd: minCrowd}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// start runs s in a goroutine of its own.
func (o *outside) start(s *sender) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.senders[s] = struct{}{}
	o.countLocked()
	if o.ctx.Err() != nil {
		s.deadline.cutNow()
	}
	o.tasks.Go(func() {
		s.run(o.ctx)
		o.mu.Lock()
		delete(o.senders, s)
		o.countLocked()
		o.mu.Unlock()
	})
}

// minCrowd is how many senders are a crowd. See decision hand-over.
const minCrowd = 250

// countLocked has memory given back to the system when a crowd has doubled, with what net/http
// had for each before it let it go, or has halved: a gateway that has nothing to do any more
// would collect garbage minutes later only.
func (o *outside) countLocked() {
	if n := len(o.senders); n >= 2*o.crowd || (n <= o.crowd/2 && o.crowd > minCrowd) {
		o.crowd = max(n, minCrowd)
		o.tasks.Go(debug.FreeOSMemory)
	}
}

// await gives c back to its listener when its next request begins, or, without rejoin, closes it
// when the client has. Not before: what the kernel still holds for a client it may throw away
// once nobody has the connection any more, when its memory is short. A client that sends
// nothing is given as long as by net/http. It waits in a goroutine of its own, whose stack is
// smaller than that of one that has sent and logged.
func (o *outside) await(c *conn, rejoin bool) {
	if !rejoin {
		_ = c.CloseWrite()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopping {
		c.Close()
		return
	}
	o.idle[c] = struct{}{}
	o.tasks.Go(func() {
		there := rejoin && len(c.early) > 0
		if !there {
			_ = c.SetReadDeadline(time.Now().Add(IdleTimeout))
			there, _ = c.awaitInput()
			_ = c.SetReadDeadline(time.Time{})
		}
		o.mu.Lock()
		delete(o.idle, c)
		o.mu.Unlock()
		if !there || !rejoin {
			c.Close()
			return
		}
		c.listener.arrive(arrival{conn: c})
	})
}

// shutdown is Transport.Shutdown.
func (o *outside) shutdown(ctx context.Context) error {
	o.mu.Lock()
	o.stopping = true
	for c := range o.idle {
		c.Close()
	}
	o.mu.Unlock()
	done := make(chan struct{})
	go func() {
		o.tasks.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	o.mu.Lock()
	o.cancel()
	left := len(o.senders)
	for s := range o.senders {
		s.deadline.cutNow()
	}
	o.mu.Unlock()
	<-done
	if left == 0 {
		return nil
	}
	return ctx.Err()
}

// handedOver returns how many senders there are.
func (o *outside) handedOver() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.senders)
}
