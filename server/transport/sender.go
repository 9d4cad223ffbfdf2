package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// A sender sends the rest of an answer on a connection that net/http has let go. It costs one
// goroutine with a small stack, so keep its frames small; while the client takes nothing that is
// parked, and holds no buffer.
type sender struct {
	conn     *conn
	rejoin   bool // the connection serves further requests
	deadline writeDeadline
}

// run sends the rest and ends the answer.
func (s *sender) run(ctx context.Context) {
	c := s.conn
	err := s.send(ctx)
	s.deadline.finish()
	_ = c.SetWriteDeadline(time.Time{})
	c.delivery.answer.Done(c.delivery.sent, err)
	c.delivery = delivery{}
	if err == nil {
		c.transport.outside.await(c, s.rejoin)
		return
	}
	if err == ErrStalled {
		_ = c.SetLinger(0) // nor will the client take what the kernel holds for it
	}
	c.Close()
}

// send returns when the last piece is out. Like net/http it survives a bug: the connection is given
// up, and no other.
func (s *sender) send(ctx context.Context) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			err = &PanicError{fmt.Sprintf("%v\n%s", bug, debug.Stack())}
		}
	}()
	for {
		p, err := s.push()
		switch {
		case s.deadline.isCut():
			return ErrCut
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ErrStalled
		case err != nil:
			return &SendError{err}
		}
		switch p {
		case allSent:
			return nil
		case broken:
			return s.conn.delivery.failed
		}
		if err := s.awaitBytes(ctx); err != nil {
			return err
		}
	}
}

// push sends until the last piece is out, or a byte is missing, or nothing moved for the limit.
func (s *sender) push() (p progress, err error) {
	c := s.conn
	s.deadline.extend()
	err = c.raw.Write(func(fd uintptr) bool {
		before := c.delivery.sent - int64(len(c.head))
		if p = c.pushTo(fd); p != socketFull {
			return true
		}
		if c.delivery.sent-int64(len(c.head)) > before {
			s.deadline.extend()
		}
		if len(c.head) == 0 {
			c.head = nil // it would wait with the client
		}
		return false
	})
	return p, err
}

// awaitBytes waits for the content's next byte, as long as the client is there.
func (s *sender) awaitBytes(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := s.conn.watch(cancel)
	piece := &s.conn.delivery.piece
	_, err := piece.Content.Wait(waiting, piece.Off)
	stop()
	switch {
	case s.deadline.isCut(), ctx.Err() != nil:
		return ErrCut
	case err != nil && waiting.Err() != nil:
		return &SendError{err} // the client has left
	}
	return err
}
