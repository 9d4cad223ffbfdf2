//go:build linux

package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"spillway/decode/zfec"
	"spillway/scripts/internal/compare"
	"spillway/spool/nameless"
)

// bound measures every stage of decoding a grid's first file alone, on one core, over the same
// bytes: reading k shares, computing the blocks, hashing every segment once, decrypting and
// writing. The sum of their times is as fast as one core can decode without overlapping them; the
// sample is its throughput.
func bound(g *grid, p placement, dir string) (compare.Sample, error) {
	// One goroutine at a time, also where the erasure code has several.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))

	var s compare.Sample
	var sum time.Duration
	for _, step := range []struct {
		name string
		run  func() (time.Duration, error)
	}{
		{"pread", func() (time.Duration, error) { return readShares(g) }},
		{"Reed-Solomon", func() (time.Duration, error) { return computeBlocks(g, p) }},
		{"SHA-256", func() (time.Duration, error) { return hashSegments(g), nil }},
		{"AES-CTR", func() (time.Duration, error) { return decrypt(g) }},
		{"pwrite", func() (time.Duration, error) { return writeSpool(g.size, g.unit(), dir) }},
	} {
		took, err := step.run()
		if err != nil {
			return compare.Sample{}, fmt.Errorf("%s: %w", step.name, err)
		}
		if took > 0 {
			s.Stages = append(s.Stages, compare.Stage{Name: step.name, Bytes: g.size, Took: took})
			sum += took
		}
	}
	s.Values = []float64{megabytes(g.size, sum)}
	s.Delivered, s.CPU = g.size, sum
	return s, nil
}

// unit is how many bytes a stage works on at a time: a segment, or as many as make a megabyte.
func (r recipe) unit() int64 { return max(r.segment, 1<<20) }

// readShares reads the blocks of every unit from each of the k shares.
func readShares(g *grid) (time.Duration, error) {
	var shares []*os.File
	defer func() {
		for _, f := range shares {
			f.Close()
		}
	}()
	for _, server := range g.servers {
		paths, err := filepath.Glob(filepath.Join(server, "shares", "??", "*", "*"))
		if err != nil || len(paths) == 0 {
			return 0, fmt.Errorf("no share in %s: %w", server, err)
		}
		f, err := os.Open(paths[0])
		if err != nil {
			return 0, err
		}
		shares = append(shares, f)
	}
	blocks := make([]byte, (g.unit()+int64(g.k)-1)/int64(g.k))
	start := time.Now()
	for offset := int64(0); offset < g.size/int64(g.k); offset += int64(len(blocks)) {
		for _, f := range shares {
			if _, err := f.ReadAt(blocks, offset); err != nil && err != io.EOF {
				return 0, err
			}
		}
	}
	return time.Since(start), nil
}

// computeBlocks computes, for every segment, the k blocks that parity shares lack: none if the
// shares are the file's own blocks. It calls the library as decoding does: for many blocks that
// took some finding out.
func computeBlocks(g *grid, p placement) (time.Duration, error) {
	if p == primary {
		return 0, nil
	}
	var have []int
	for number := g.n - g.k; number < g.n; number++ {
		have = append(have, number)
	}
	decoder, err := zfec.New(g.k, g.n).Decoder(have)
	if err != nil {
		return 0, err
	}
	blocks := make([][]byte, g.k+len(decoder.Missing()))
	for i := range blocks {
		blocks[i] = randomBytes((g.segment + int64(g.k) - 1) / int64(g.k))
	}
	start := time.Now()
	for range g.size / g.segment {
		if err := decoder.Decode(blocks); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

func hashSegments(g *grid) time.Duration {
	segment := randomBytes(g.segment)
	start := time.Now()
	for range g.size / g.segment {
		sha256.Sum256(segment)
	}
	return time.Since(start)
}

func decrypt(g *grid) (time.Duration, error) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		return 0, err
	}
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	text := randomBytes(g.unit())
	start := time.Now()
	for range g.size / g.unit() {
		stream.XORKeyStream(text, text)
	}
	return time.Since(start), nil
}

// writeSpool writes into a nameless file whose space is set aside, as the spool does.
func writeSpool(size, unit int64, dir string) (time.Duration, error) {
	f, err := nameless.Create(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return 0, err
	}
	text := randomBytes(unit)
	start := time.Now()
	for offset := int64(0); offset < size; offset += unit {
		if _, err := f.WriteAt(text, offset); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// touchMemory makes sure that so many bytes of free memory are the machine's own. A virtual machine
// may have given free memory back to its host, and gets it back at a tenth of the speed at which a
// file is written to memory.
func (l *lab) touchMemory(n int64) error {
	_, err := writeSpool(n+n/4, 1<<20, l.work)
	return err
}

func randomBytes(n int64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// boundSide is the raw bound as a side of a row.
func boundSide(r recipe, p placement) side {
	return side{
		name: "sum of the stages alone, one core",
		measure: func(ctx context.Context, l *lab, _ *instance) (compare.Sample, error) {
			g, err := l.grid(ctx, r, p)
			if err != nil {
				return compare.Sample{}, err
			}
			if err := l.touchMemory(g.size); err != nil {
				return compare.Sample{}, err
			}
			return bound(g, p, l.work)
		},
	}
}
