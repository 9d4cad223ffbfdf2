package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// A sender sends the rest of a body on a connection that net/http has let go. It costs one goroutine with a
// small stack, so keep its frames small; while the client takes nothing that
// is parked, and holds no buffer.
type sender struct {
	server   *Server
	conn     *conn
	body     body
	log      *entry
	rejoin   bool // the connection serves further requests
	deadline writeDeadline
}

// sendOn sends an answer on a connection of ours: at once as far as the client takes it,
// and with a sender what is left.
//
// net/http writes the status, the date, and the two fields that are its own business, length and connection. The file's fields,
// as text, are added to that: they are the same in each answer, and as entries of a map, copied,
// sorted and written, they cost more than sending the file does.
func (s *Server) sendOn(conn *conn, c echo.Context, log *entry, f *file, b body) error {
	r, res := c.Request(), c.Response()
	if len(f.text) > maxFields {
		return errLongHeader
	}
	clear(res.Header())
	b.plan.setLength(res.Header())
	conn.head = conn.head[:0] // whatever an earlier answer has left there is not of this one
	conn.held = true
	res.WriteHeader(b.plan.status)
	res.Writer.(http.Flusher).Flush()
	conn.held = false
	head, ok := bytes.CutSuffix(conn.head, []byte("\r\n"))
	if !ok {
		return &writeError{errors.New("net/http wrote no header")}
	}
	conn.head = append(head, f.text...)
	conn.head = append(b.plan.appendFields(conn.head, f.rep), "\r\n"...)
	// The header says whether the client expects to use the connection again.
	rejoin := r.ProtoAtLeast(1, 1) && !bytes.Contains(conn.head, []byte("\r\nConnection: close\r\n"))

	conn.body = b
	progress := conn.push()
	res.Size = conn.body.sent
	switch progress {
	case allSent:
		conn.body = body{}
		_, err := res.Writer.(io.ReaderFrom).ReadFrom(booking{conn, res.Size})
		return err
	case broken:
		err := conn.body.failed
		conn.body = body{}
		return err
	}
	log.status = res.Status
	return s.handOver(conn, res.Writer, log, rejoin)
}

// maxFields is how many bytes of an answer's header may follow from what was asked for. Names are cut, so a
// file needs half of it at most.
const maxFields = 4 << 10

// errLongHeader is the answer in place of one whose header would be longer. Nothing of that one has been sent.
var errLongHeader = &failure{status: http.StatusInternalServerError, line: "the header of this answer would be too long"}

// handOver takes the connection from net/http and starts a sender for what is left of its body.
func (s *Server) handOver(c *conn, w http.ResponseWriter, log *entry, rejoin bool) error {
	b := c.body
	c.body, c.last, c.lastURI = body{}, nil, ""
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return &writeError{err}
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		c.early = append(bytes.Clone(early), c.early...)
	}
	d := &sender{server: s, conn: c, body: b, log: log, rejoin: rejoin, deadline: writeDeadline{rc: c, limit: s.stallLimit}}
	if len(c.head) == 0 {
		c.head = nil
	}
	d.body.content.OnCut(d.deadline.cutNow)
	s.outside.start(d)
	return errHandedOver
}

// errHandedOver: a sender goes on with the answer, and ends its log entry.
var errHandedOver = errors.New("server: handed over")

// run sends the body and ends the request.
func (d *sender) run(ctx context.Context) {
	s, c := d.server, d.conn
	err := d.send(ctx)
	d.deadline.finish()
	_ = c.SetWriteDeadline(time.Time{})
	d.body.content.Close()
	d.log.bytes = d.body.sent
	s.conclude(d.log, err)
	s.end(d.log)
	if err == nil {
		s.outside.await(c, d.rejoin)
		return
	}
	if d.log.outcome == stalled {
		_ = c.SetLinger(0) // nor will the client take what the kernel holds for it
	}
	c.Close()
}

// send returns when the body is out. Like net/http it survives a bug: the connection is given up, and no other.
func (d *sender) send(ctx context.Context) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			err = &panicError{fmt.Sprintf("%v\n%s", bug, debug.Stack())}
		}
	}()
	for {
		p, err := d.push()
		switch {
		case d.deadline.isCut():
			return errCut
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errStalled
		case err != nil:
			return &writeError{err}
		}
		switch p {
		case allSent:
			return nil
		case broken:
			return d.body.failed
		}
		if err := d.awaitBytes(ctx); err != nil {
			return err
		}
	}
}

// push sends until the body is out, or a byte of the file is missing, or nothing moved for the limit.
func (d *sender) push() (p progress, err error) {
	d.deadline.extend()
	err = d.conn.raw.Write(func(fd uintptr) bool {
		before := d.body.sent
		if p = d.conn.pushTo(fd, &d.body); p != socketFull {
			return true
		}
		if d.body.sent > before {
			d.deadline.extend()
		}
		if len(d.conn.head) == 0 {
			d.conn.head = nil // it would wait with the client
		}
		return false
	})
	return p, err
}

// awaitBytes waits for the file's next byte, as long as the client is there.
func (d *sender) awaitBytes(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := d.conn.watch(cancel)
	_, err := d.body.content.Wait(waiting, d.body.rest.Off)
	stop()
	switch {
	case d.deadline.isCut(), ctx.Err() != nil:
		return errCut
	case err != nil && waiting.Err() != nil:
		return clientGone(err)
	}
	return err
}

// A panicError is a bug that did not end the process.
type panicError struct{ text string }

func (e *panicError) Error() string { return "server: internal error: " + e.text }

// outside is the connections that net/http has let go: those with senders, and those that wait
// for their next request.
type outside struct {
	ctx    context.Context // ends when the senders are cut
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards all below
	senders  map[*sender]struct{}
	idle     map[*conn]struct{}
	crowd    int  // how many senders there were when memory was last given back, and at least minCrowd
	stopping bool // connections do not become idle any more
}

func newOutside() *outside {
	o := &outside{senders: make(map[*sender]struct{}), idle: make(map[*conn]struct{}), crowd: minCrowd}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// start runs d in a goroutine of its own.
func (o *outside) start(d *sender) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.senders[d] = struct{}{}
	o.countLocked()
	if o.ctx.Err() != nil {
		d.deadline.cutNow()
	}
	o.tasks.Go(func() {
		d.run(o.ctx)
		o.mu.Lock()
		delete(o.senders, d)
		o.countLocked()
		o.mu.Unlock()
	})
}

// minCrowd is how many senders are a crowd.
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

// await gives c back to its listener when its next request begins, or, without rejoin, closes it when the client has: what
// the kernel still holds for a client it may throw away once nobody has the connection any more, when its memory is short. A client that
// sends nothing is given as long as by net/http. It waits in a goroutine of its own,
// whose stack is smaller than that of one that has sent and logged.
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
			_ = c.SetReadDeadline(time.Now().Add(idleTimeout))
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

// shutdown closes the connections without a request, waits for the senders until
// ctx ends, and cuts those that are left; then the error is ctx's. It returns when all are gone.
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
	cut := len(o.senders)
	for d := range o.senders {
		d.deadline.cutNow()
	}
	o.mu.Unlock()
	<-done
	if cut == 0 {
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
