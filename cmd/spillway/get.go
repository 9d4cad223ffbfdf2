package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"spillway/decode"
	"spillway/spool"
)

type getCmd struct {
	gridFlags
	Output string `short:"o" placeholder:"FILE" type:"path" env:"-" help:"File to write; what is right in it already is kept. Without one the bytes go to standard output."`
	Cap    capArg `arg:"" help:"The file's cap, or - to read it from standard input."`
}

func (c *getCmd) Run(ctx context.Context, std streams, log *slog.Logger) error {
	fileCap, err := c.Cap.parse(std)
	if err != nil {
		return err
	}
	if f, ok := std.out.(*os.File); ok && c.Output == "" && term.IsTerminal(int(f.Fd())) {
		return usagef("standard output is a terminal: name a file with -o, or pipe the bytes somewhere")
	}
	bar := newProgress(std.err, "downloading", fileCap.Size())
	defer bar.finish()
	if data, ok := fileCap.Literal(); ok {
		return c.write(literalFile(data), std, func(d *download) error { return d.run(ctx, bar) })
	}
	members, err := c.fleet(log)
	if err != nil {
		return err
	}
	defer members.Close()
	client, err := c.client(members, log)
	if err != nil {
		return err
	}
	defer client.Close()
	file, err := client.Open(ctx, fileCap)
	if err != nil {
		return err
	}
	defer file.Close()
	return c.write(file, std, func(d *download) error { return d.run(ctx, bar) })
}

// write opens the output and runs the download into it.
func (c *getCmd) write(src source, std streams, run func(*download) error) error {
	if c.Output == "" {
		return run(&download{src: src, to: newInOrder(std.out)})
	}
	out, err := os.OpenFile(c.Output, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	info, err := out.Stat()
	if err == nil {
		if d := (&download{src: src, to: out}); info.Mode().IsRegular() {
			d.partial, d.had = out, info.Size()
			err = run(d)
		} else {
			d.to = newInOrder(out) // a pipe or a device
			err = run(d)
		}
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("downloading into %s: %w", c.Output, err)
	}
	return nil
}

// source is a file that can be downloaded: *decode.File, or a LIT cap's.
type source interface {
	spool.Pace
	Size() int64
	ChunkSize() int64
	WriteChunks(ctx context.Context, i, n int64, w io.WriterAt) error
	HoldsChunk(ctx context.Context, i int64, p []byte) (bool, error)
}

var _ source = (*decode.File)(nil)

// download is one run of get.
type download struct {
	src source
	to  io.WriterAt

	// For a regular file: where to look for what an earlier run left, and its length in bytes.
	partial io.ReaderAt
	had     int64

	done atomic.Int64 // bytes
}

// run fetches every chunk that is not there. The last chunk is fetched when all
// others are there, so that a file of the full length is a complete one.
func (d *download) run(ctx context.Context, bar progress) error {
	size, chunkSize := d.src.Size(), d.src.ChunkSize()
	if size == 0 {
		return nil
	}
	last := (size - 1) / chunkSize
	right, err := d.verifyPartial(ctx, bar)
	if err != nil {
		return err
	}
	// fetch fetches what is not there of the n chunks from i on.
	fetch := func(ctx context.Context, i, n int64) error {
		for end := i + n; i < end; i += n {
			n = 1
			if right[i] {
				continue
			}
			for i+n < end && !right[i+n] {
				n++
			}
			if err := d.src.WriteChunks(ctx, i, n, d.to); err != nil {
				return err
			}
			bar.set(d.done.Add(min(n*chunkSize, size-i*chunkSize)))
		}
		return nil
	}
	if err := d.fetchInRuns(ctx, last, fetch); err != nil {
		return err
	}
	return fetch(ctx, last, 1)
}

// fetchInRuns has fetch fetch the chunks below end, several runs at a time, until the first error.
func (d *download) fetchInRuns(ctx context.Context, end int64, fetch func(ctx context.Context, i, n int64) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if ordered, ok := d.to.(*inOrder); ok {
		defer context.AfterFunc(ctx, ordered.end)()
	}
	var (
		mu     sync.Mutex // guards both
		next   int64
		failed error
	)
	spool.Work(d.src, func(_ int, run int64) (i, n int64) {
		mu.Lock()
		defer mu.Unlock()
		i, n = next, min(run, end-next)
		next += n
		return i, n
	}, func(i, n int64) bool {
		err := fetch(ctx, i, n)
		if err == nil {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = err
		}
		cancel()
		return false
	})
	return failed
}

// errForeign: what stands in the output file is not from this download.
var errForeign = errors.New("the file exists, and what is in it is not from this download; remove it or name another")

// verifyPartial tells which chunks the output file holds already. A file that is
// no part of the download is left alone.
func (d *download) verifyPartial(ctx context.Context, bar progress) (right map[int64]bool, err error) {
	right = map[int64]bool{}
	if d.had == 0 {
		return right, nil
	}
	size, chunkSize := d.src.Size(), d.src.ChunkSize()
	if d.had > size {
		return nil, errForeign
	}
	buf := make([]byte, min(chunkSize, size))
	for off := int64(0); off < d.had; off += chunkSize {
		i, want := off/chunkSize, min(chunkSize, size-off)
		n, err := d.partial.ReadAt(buf[:min(want, d.had-off)], off)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("reading what is there already: %w", err)
		}
		if int64(n) == want {
			if right[i], err = d.src.HoldsChunk(ctx, i, buf[:n]); err != nil {
				return nil, err
			}
			if right[i] {
				bar.set(d.done.Add(want))
			}
		} else if i == 0 {
			// Too short to hold a chunk: it must be the beginning of the first one.
			first := &memory{b: make([]byte, want)}
			if err := d.src.WriteChunks(ctx, 0, 1, first); err != nil {
				return nil, err
			}
			if !bytes.HasPrefix(first.b, buf[:n]) {
				return nil, errForeign
			}
			return right, nil
		}
	}
	for _, ok := range right {
		if ok {
			return right, nil
		}
	}
	return nil, errForeign
}

// memory is an io.WriterAt over a slice that is long enough.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.b[off:], p), nil
}

// inOrder makes a stream of writes that adjoin: each waits for the one before it. Those who write
// ahead wait with their memory, which is no more than one download may take.
type inOrder struct {
	w io.Writer

	mu    sync.Mutex
	turn  sync.Cond
	off   int64
	ended bool
}

func newInOrder(w io.Writer) *inOrder {
	o := &inOrder{w: w}
	o.turn.L = &o.mu
	return o
}

var errEnded = errors.New("the download has ended")

// WriteAt writes p when everything before off is written. The error is errEnded after end.
func (o *inOrder) WriteAt(p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for off != o.off && !o.ended {
		o.turn.Wait()
	}
	if off != o.off {
		return 0, errEnded
	}
	n, err := o.w.Write(p)
	o.off += int64(n)
	o.turn.Broadcast()
	return n, err
}

// end ends the writes that wait.
func (o *inOrder) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.turn.Broadcast()
}

// literalFile is the file of a LIT cap, in one chunk.
type literalFile []byte

func (l literalFile) Size() int64      { return int64(len(l)) }
func (l literalFile) ChunkSize() int64 { return max(1, int64(len(l))) }
func (l literalFile) Run() int64       { return 1 }
func (l literalFile) Workers() int     { return 1 }
func (l literalFile) WriteChunks(_ context.Context, _, _ int64, w io.WriterAt) error {
	_, err := w.WriteAt(l, 0)
	return err
}
func (l literalFile) HoldsChunk(_ context.Context, _ int64, p []byte) (bool, error) {
	return bytes.Equal(l, p), nil
}
