// Package transporttest has what tests of answers need: sockets that take little, and patience.
package transporttest

import (
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"spillway/server/transport"
)

// A Hindrance is what a narrow socket does at its byte n.
type Hindrance int

const (
	Free     Hindrance = iota
	CutShort           // takes a part of a write, up to byte n, and says no error
	FullOnce           // so, and then says once that it is full
	Trickle            // takes n bytes at most of each write, and is full before each
)

func (h Hindrance) String() string {
	return [...]string{"free", "cut short", "full once", "trickle"}[h]
}

// Narrow is how the sockets of a Transport take bytes, all of them together. Its methods may be
// called concurrently.
type Narrow struct {
	write func(fd int, p []byte) (int, error)

	mu        sync.Mutex // guards all below
	hindrance Hindrance
	n         int
	left      int // bytes until the hindrance
	full      bool
}

// NewNarrow stands in front of t's Write, before t is in use.
func NewNarrow(t *transport.Transport) *Narrow {
	s := &Narrow{write: t.Write}
	t.Write = s.send
	return s
}

// Hinder sets what happens from now on. All but Trickle and Free happens once.
func (s *Narrow) Hinder(h Hindrance, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hindrance, s.n, s.left, s.full = h, n, n, h == Trickle
}

// room says how many of n bytes a write may have.
func (s *Narrow) room(fd, n int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		s.full = false
		// Whoever waits for room is woken, as if the client had taken something.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16<<10); err != nil {
			panic(fmt.Sprint("internal error: ", err))
		}
		return 0, syscall.EAGAIN
	}
	switch {
	case s.hindrance == Trickle:
		s.full = true
		return min(n, s.n), nil
	case s.hindrance != Free && n >= s.left:
		s.full = s.hindrance == FullOnce
		s.hindrance = Free
		return s.left, nil
	}
	s.left -= n
	return n, nil
}

func (s *Narrow) send(fd int, p []byte) (int, error) {
	n, err := s.room(fd, len(p))
	if err != nil {
		return 0, err
	}
	return s.write(fd, p[:n])
}

// Content is c on its way by Sendfile to a narrow socket.
func (s *Narrow) Content(c transport.Content) transport.Content { return &content{c, s} }

type content struct {
	transport.Content
	socket *Narrow
}

func (c *content) Sendfile(fd int, off, n int64) (int64, error) {
	room, err := c.socket.room(fd, int(n))
	if err != nil {
		return 0, err
	}
	return c.Content.Sendfile(fd, off, int64(room))
}
