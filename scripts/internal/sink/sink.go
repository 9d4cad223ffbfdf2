//go:build linux

// Package sink is an HTTP client that throws bodies away at little cost, for measuring servers.
package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Client is an HTTP/1.1 client for one connection that costs as little as it can: bodies never
// leave the kernel, and it is woken once for many packets. A server pays for waking its clients
// too: with one that is woken for each packet, all servers look alike, and less than half as fast
// as they are. It is used by one goroutine.
type Client struct {
	conn  *net.TCPConn
	raw   syscall.RawConn
	stop  func() bool // ends the watch of the context
	host  string
	buf   []byte // what was read of an answer's header
	early int64  // bytes of the body in buf
	mark  int    // so many bytes must have arrived before it is woken
}

// HighMark is how many bytes arrive between two times that a client is woken for a long body.
const HighMark = 512 << 10

// Dial connects to host:port; the connection breaks when the context ends.
func Dial(ctx context.Context, address string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return &Client{
		conn: tcp, raw: raw, host: address,
		buf:  make([]byte, 4096),
		mark: 1, // the kernel's default
		stop: context.AfterFunc(ctx, func() { tcp.Close() }),
	}, nil
}

func (c *Client) Close() {
	c.stop()
	c.conn.Close()
}

// Span is a Range of a file; the zero value asks for all of it.
type Span struct {
	Offset, Length int64 // bytes
}

// Get asks for a file, or a span of it, reads the header of the answer and returns the length of
// its body. The caller calls Discard for all of it before the next Get.
func (c *Client) Get(path string, s Span) (int64, error) {
	wanted, header := 200, ""
	if s.Length > 0 {
		wanted, header = 206, fmt.Sprintf("Range: bytes=%d-%d\r\n", s.Offset, s.Offset+s.Length-1)
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, c.host, header); err != nil {
		return 0, err
	}
	var n int
	for {
		if n == len(c.buf) {
			return 0, errors.New("the header of the answer is too long")
		}
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return 0, fmt.Errorf("reading the header of the answer: %w", err)
		}
		n += m
		if end := bytes.Index(c.buf[:n], []byte("\r\n\r\n")); end >= 0 {
			c.early = int64(n - end - 4)
			length, err := checkHeader(c.buf[:end], wanted)
			if err == nil && s.Length > 0 && length != s.Length {
				err = fmt.Errorf("the answer to a Range of %d bytes has %d", s.Length, length)
			}
			return length, err
		}
	}
}

// checkHeader returns the length of the body.
func checkHeader(header []byte, wanted int) (int64, error) {
	lines := bytes.Split(header, []byte("\r\n"))
	if len(lines[0]) < 12 || string(lines[0][9:12]) != strconv.Itoa(wanted) {
		return 0, fmt.Errorf("answer %q, want %d", lines[0], wanted)
	}
	for _, line := range lines[1:] {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			return strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, errors.New("the answer has no Content-Length")
}

// Discard takes n bytes of the body and throws them away.
func (c *Client) Discard(n int64) error {
	early := min(c.early, n)
	c.early -= early
	n -= early
	for n > 0 {
		mark := HighMark
		if n < HighMark {
			mark = 1
		}
		if err := c.setMark(mark); err != nil {
			return err
		}
		taken, err := c.truncate(n)
		if err != nil {
			return fmt.Errorf("reading the body: %w", err)
		}
		n -= taken
	}
	return nil
}

func (c *Client) setMark(mark int) error {
	if c.mark == mark {
		return nil
	}
	c.mark = mark
	var err error
	err2 := c.raw.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, mark))
	})
	return errors.Join(err, err2)
}

// truncate takes what has arrived, at least one byte, at most n, without copying it (tcp(7),
// MSG_TRUNC).
func (c *Client) truncate(n int64) (int64, error) {
	var taken uintptr
	var errno syscall.Errno
	var nothing byte // never written to
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			taken, _, errno = unix.Syscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&nothing)), uintptr(min(n, 1<<30)), unix.MSG_TRUNC, 0, 0)
			if errno != unix.EINTR {
				return errno != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, errno
	case taken == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return int64(taken), nil
}

// Fetch asks for a file, or a span of it, and throws it away. It returns its length.
func (c *Client) Fetch(path string, s Span) (int64, error) {
	length, err := c.Get(path, s)
	if err != nil {
		return 0, err
	}
	return length, c.Discard(length)
}

// FetchOnce is Fetch on a connection of its own.
func FetchOnce(ctx context.Context, address, path string, s Span) (int64, error) {
	c, err := Dial(ctx, address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.Fetch(path, s)
}

// FirstByte returns how long it takes from before connecting to the first byte of a body.
// The rest is left.
func FirstByte(ctx context.Context, address, path string) (time.Duration, error) {
	start := time.Now()
	c, err := Dial(ctx, address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err = c.Get(path, Span{}); err == nil {
		err = c.Discard(1)
	}
	return time.Since(start), err
}
