package spool_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"spillway/spool"
)

// What goes through a window and a socket arrives as it is in the file, though the
// client is slower than the spool. With sendfile it would not: the socket's queues
// would hold the file's own pages, long after they had been punched out.
func TestWindowSocket(t *testing.T) {
	s := openSpool(t, spool.Config{Budget: 64 << 20, Window: 1 << 20})
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
	if err := conn.(*net.TCPConn).SetReadBuffer(8 << 20); err != nil { // the larger, the more is on its way
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
	r, err := s.Acquire(f.key, f.size, f.open)
	if err != nil {
		return err
	}
	defer r.Close()
	if !r.Private() {
		return fmt.Errorf("no window")
	}
	r.Want(spool.Extent{Off: 0, End: f.size})
	g, err := r.File()
	if err != nil {
		return err
	}
	if _, ok := g.(*os.File); ok {
		return fmt.Errorf("the kernel may send a window's file")
	}
	for off := int64(0); off < f.size; {
		n, err := r.Wait(ctx, off)
		if err != nil {
			return err
		}
		if _, err := g.Seek(off, io.SeekStart); err != nil {
			return err
		}
		moved, err := io.Copy(conn, &io.LimitedReader{R: g, N: n})
		if err != nil || moved != n {
			return fmt.Errorf("%d of %d bytes, %w", moved, n, err)
		}
		off += n
	}
	return s.Check()
}
