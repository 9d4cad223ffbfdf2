package decode_test

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"testing"

	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gridtest"
	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// nowhere is where benchmarks write.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

const segment128K, segment1M = 131073, 1048578

func BenchmarkStageErasure(b *testing.B) {
	for _, size := range []int{segment128K, segment1M} {
		b.Run(fmt.Sprintf("segment=%d", size), func(b *testing.B) {
			decoder, err := zfec.New(3, 10).Decoder([]int{7, 8, 9})
			if err != nil {
				b.Fatal(err)
			}
			blocks := make([][]byte, 6)
			for i := range blocks {
				blocks[i] = decodetest.Plaintext(size / 3)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := decoder.Decode(blocks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStageHash hashes one segment alone and a run's side by side.
func BenchmarkStageHash(b *testing.B) {
	for _, test := range []struct{ size, segments int }{{segment128K, 1}, {segment128K, 8}, {segment128K, 16}, {segment1M, 1}, {segment1M, 2}} {
		b.Run(fmt.Sprintf("segment=%d/segments=%d", test.size, test.segments), func(b *testing.B) {
			hasher := hashtree.NewHasher(hashtree.SegmentTag)
			segments, hashes := make([][]byte, test.segments), make([]hashtree.Hash, test.segments)
			for i := range segments {
				segments[i] = decodetest.Plaintext(test.size)
			}
			b.SetBytes(int64(test.size * test.segments))
			b.ReportAllocs()
			for b.Loop() {
				hasher.OfEach(hashes, segments)
			}
		})
	}
}

// BenchmarkStageRead reads a run's blocks of one share from a file in the page cache: parity blocks
// into one buffer, primary ones each to its place.
func BenchmarkStageRead(b *testing.B) {
	const block, blocks = segment128K / 3, 16
	server := dir.New(b.TempDir())
	u, err := server.Create(b.Context(), grid.StorageIndex{}, 0, 64*block*blocks, grid.Lease{})
	if err != nil {
		b.Fatal(err)
	}
	share := decodetest.Plaintext(64 * block * blocks)
	if _, err := u.WriteAt(share, 0); err != nil {
		b.Fatal(err)
	}
	if err := u.Commit(); err != nil {
		b.Fatal(err)
	}
	sh, err := server.Open(b.Context(), grid.StorageIndex{}, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer sh.Close()
	for _, buffers := range []int{1, blocks} {
		b.Run(fmt.Sprintf("buffers=%d", buffers), func(b *testing.B) {
			bufs := make([][]byte, buffers)
			for i := range bufs {
				bufs[i] = make([]byte, block*blocks/buffers)
			}
			b.SetBytes(block * blocks)
			b.ReportAllocs()
			i := int64(0)
			for b.Loop() {
				if _, err := sh.ReadAt(b.Context(), i%64*block*blocks, bufs...); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkStageDecrypt(b *testing.B) {
	data := decodetest.Plaintext(segment1M)
	block, err := aes.NewCipher(data[:16])
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		cipher.NewCTR(block, data[:16]).XORKeyStream(data, data)
	}
}

// BenchmarkWriteChunks is the whole path from files in the page cache to a
// writer that does nothing.
func BenchmarkWriteChunks(b *testing.B) {
	for _, segment := range []int64{128 << 10, 1 << 20} {
		data := decodetest.Plaintext(16 << 20)
		server := dir.New(b.TempDir())
		servers := gridtest.New(1)
		c := put(b, servers, data, putOptions{SegmentSize: segment})
		si := decodetest.StorageIndex(b, c)
		for _, choice := range []struct {
			name string
			nums []int
		}{{"parity", []int{7, 8, 9}}, {"primary", []int{0, 1, 2}}} {
			for _, num := range choice.nums {
				share := servers[0].Held[si][num]
				u, err := server.Create(b.Context(), si, num, int64(len(share)), grid.Lease{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := u.WriteAt(share, 0); err != nil {
					b.Fatal(err)
				}
				if err := u.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			b.Run(fmt.Sprintf("segment=%d/%s", segment, choice.name), func(b *testing.B) {
				// Another client would remember which shares there were.
				f, err := newClient(b, config{Servers: []fleet.Server{{Server: server}}}).Open(b.Context(), c)
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				runs := f.Size() / (f.Run() * f.ChunkSize())
				b.SetBytes(f.Run() * f.ChunkSize())
				b.ReportAllocs()
				i := int64(0)
				for b.Loop() {
					if err := f.WriteChunks(b.Context(), i%runs*f.Run(), f.Run(), nowhere{}); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		}
	}
}
