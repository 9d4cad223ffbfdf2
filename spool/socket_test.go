package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/spool"
)

// What goes through a window and a socket arrives as it is in the file, though the
// client is slower than the spool. With sendfile it would not: the socket's queues
// would hold the file's own pages, long after they had been punched out.
func TestWindowSocket(t *testing.T) {
	s := openSpool(t, spool.Config{Budget: 64 << 20, Window: 1 << 20, Retention: retention})
	defer closeSpool(t, s)
	f := &file{key: "f", size: 70<<20 + 1, chunk: 100_003, seed: 5}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sent := make(chan error, 1)
	go func() { sent <- send(t.Context(), s, f, listener) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The larger, the more is on its way.
	if err := conn.(*net.TCPConn).SetReadBuffer(8 << 20); err != nil {
		t.Fatal(err)
	}
	stored := io.NewSectionReader(f, 0, f.size)
	got, want := make([]byte, 1<<16), make([]byte, 1<<16)
	for off := int64(0); ; {
		n, err := conn.Read(got)
		if _, err := io.ReadFull(stored, want[:n]); err != nil {
			t.Fatal(err)
		}
		if string(got[:n]) != string(want[:n]) {
			t.Fatalf("other bytes within [%d, %d)", off, off+int64(n))
		}
		if off += int64(n); err == nil {
			continue
		}
		if err != io.EOF || off != f.size {
			t.Errorf("%d bytes, %v", off, err)
		}
		break
	}
	conn.Close()
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// send sends f to whoever comes first.
func send(ctx context.Context, s *spool.Spool, f *file, listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := s.Acquire(context.Background(), f.key, f.size, f.open)
	if err != nil {
		return err
	}
	defer r.Close()
	if !r.Private() {
		return fmt.Errorf("no window")
	}
	r.Want(spool.Extent{Off: 0, End: f.size})
	for off := int64(0); off < f.size; {
		n, err := r.Wait(ctx, off)
		if err != nil {
			return err
		}
		if _, err := r.Sendfile(-1, off, n); !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("the kernel may send a window's file: %v", err)
		}
		moved, err := io.Copy(conn, io.NewSectionReader(r, off, n))
		if err != nil || moved != n {
			return fmt.Errorf("%d of %d bytes, %w", moved, n, err)
		}
		off += n
	}
	// A closed socket with a full queue may be reset where TCP is short of memory.
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return err
	}
	return s.Check()
}

// Readers of one file send it at offsets of their own, though they share a descriptor.
func TestSendfile(t *testing.T) {
	s := openSpool(t, spool.Config{Budget: budget, Retention: retention})
	defer closeSpool(t, s)
	f := &file{key: "f", size: 300_001, chunk: 4097, seed: 5}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	peer := os.NewFile(uintptr(fds[1]), "peer")
	defer peer.Close()
	want := []spool.Extent{{Off: 0, End: 100}, {Off: 123_456, End: 200_000}, {Off: 50, End: 60}, {Off: 300_000, End: 300_001}}
	for _, x := range want {
		r := acquire(t, s, f, x)
		defer r.Close()
		for off := x.Off; off < x.End; {
			n, err := r.Wait(t.Context(), off)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := r.Sendfile(fds[0], off, min(n, x.End-off))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, sent)
			if _, err := io.ReadFull(peer, got); err != nil || string(got) != string(f.bytes(off, off+sent)) {
				t.Fatalf("other bytes within [%d, %d), %v", off, off+sent, err)
			}
			off += sent
		}
	}
	// A socket that is full is EAGAIN, and one without a peer no panic.
	r := acquire(t, s, f, spool.Extent{Off: 0, End: f.size})
	defer r.Close()
	read(t, r, f, spool.Extent{Off: 0, End: f.size})
	for err = nil; err == nil; {
		_, err = r.Sendfile(fds[0], 0, f.size)
	}
	if err != syscall.EAGAIN {
		t.Errorf("a full socket: %v", err)
	}
}
