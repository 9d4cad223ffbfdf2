package gbs

import (
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// conn is a connection whose answers are acknowledged at once. Servers send an answer in several
// small segments, the later of which wait for the acknowledgement of the earlier (Nagle's
// algorithm, RFC 9293 section 3.7.4). After an idle while that would come only 40 ms later.
type conn struct {
	*net.TCPConn
	raw      syscall.RawConn
	received *atomic.Int64 // bytes, of all connections to the server
}

func newConn(c *net.TCPConn, received *atomic.Int64) (*conn, error) {
	raw, err := c.SyscallConn()
	return &conn{c, raw, received}, err
}

// Read counts what comes.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

// Write sends a request or a part of one. It is after writing that a system believes in a
// conversation whose acknowledgements can wait, so it is told otherwise then.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.raw.Control(acknowledgeSoon)
	return n, err
}

// acknowledgeSoon fails where the system does not know the option, and then everything only takes
// longer.
func acknowledgeSoon(fd uintptr) {
	unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}
