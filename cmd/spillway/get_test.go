package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
)

// chunks is a source of one byte a chunk, the chunk's number.
type chunks struct {
	size, run int64
	workers   int
	fails     int64 // the chunk that cannot be had; 0 for none

	mu      sync.Mutex
	written []int64 // guarded by mu
}

var errNoChunk = errors.New("no such chunk")

func (c *chunks) Size() int64      { return c.size }
func (c *chunks) ChunkSize() int64 { return 1 }
func (c *chunks) Run() int64       { return c.run }
func (c *chunks) Workers() int     { return c.workers }

func (c *chunks) WriteChunks(ctx context.Context, i, n int64, w io.WriterAt) error {
	c.mu.Lock()
	for j := i; j < i+n; j++ {
		c.written = append(c.written, j)
	}
	c.mu.Unlock()
	if c.fails != 0 && i <= c.fails && c.fails < i+n {
		return errNoChunk
	}
	for j := i; j < i+n; j++ {
		if _, err := w.WriteAt([]byte{byte(j)}, j); err != nil {
			return err
		}
	}
	return nil
}

func (c *chunks) HoldsChunk(_ context.Context, i int64, p []byte) (bool, error) {
	return p[0] == byte(i), nil
}

func (c *chunks) bytes() []byte {
	b := make([]byte, c.size)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// Several workers write into a stream, each chunk once and in order.
func TestGetInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, size := range []int64{1, 2, 7, 200} {
			c := &chunks{size: size, run: 3, workers: 4}
			var out bytes.Buffer
			if err := (&download{src: c, to: newInOrder(&out)}).run(t.Context(), progress{}); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(out.Bytes(), c.bytes()) || int64(len(c.written)) != size {
				t.Errorf("%d chunks: wrote %v by way of %v", size, out.Bytes(), c.written)
			}
		}
	})
}

// A chunk that cannot be had ends the download with its own error. Workers that wait for their
// turn do not wait for ever, and nothing more is begun.
func TestGetFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chunks{size: 200, run: 2, workers: 4, fails: 50}
		var out bytes.Buffer
		err := (&download{src: c, to: newInOrder(&out)}).run(t.Context(), progress{})
		if !errors.Is(err, errNoChunk) {
			t.Errorf("the error is %v", err)
		}
		if !bytes.HasPrefix(c.bytes(), out.Bytes()) || len(out.Bytes()) > 50 {
			t.Errorf("wrote %v", out.Bytes())
		}
		if n := len(c.written); n > 50+2*4+2 {
			t.Errorf("%d chunks were begun", n)
		}
	})
}

// What is there already is left, and what is not is fetched.
func TestGetResumes(t *testing.T) {
	c := &chunks{size: 20, run: 4, workers: 2}
	there := c.bytes()
	there[3], there[11], there[12] = 0, 0, 0
	to := &memory{b: bytes.Clone(there[:17])}
	to.b = append(to.b, 0, 0, 0)
	d := &download{src: c, to: to, partial: bytes.NewReader(there[:17]), had: 17}
	if err := d.run(t.Context(), progress{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(to.b, c.bytes()) || len(c.written) != 6 || d.done.Load() != 20 {
		t.Errorf("wrote %v by way of %v, %d bytes done", to.b, c.written, d.done.Load())
	}
}
