package decode_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/chk"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/gridtest"
)

// config is a Client's and its Fleet's.
type config struct {
	Servers []fleet.Server
	Memory  int64
	Timeout time.Duration
	Log     *slog.Logger
}

// open returns a Client and its Fleet, which the test closes in this order.
func (cfg config) open(t testing.TB) (*decode.Client, *fleet.Fleet) {
	t.Helper()
	f, err := fleet.New(fleet.Config{Servers: cfg.Servers, Timeout: cfg.Timeout, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	c, err := decode.New(decode.Config{Fleet: f, Memory: cfg.Memory, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	return c, f
}

// newClient returns a Client that is closed at the end of the test.
func newClient(t testing.TB, cfg config) *decode.Client {
	t.Helper()
	c, f := cfg.open(t)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

const (
	keyText = "q6m3rml7l6w4ztvqvfbdrwl7ei"
	chkText = "URI:CHK:" + keyText + ":orpk7m7ebzops5333umhrpfxb3s63ar4dtrq4yvyultpis4kjpya:3:10:56"
)

// putOptions say how a file is encoded.
type putOptions struct {
	K, N        int   // 0 means 3 and 10
	SegmentSize int64 // 0 means 1 MiB
	layout      int   // version of the shares' layout; 0: the first one that can hold them
}

// put encodes a file, puts share i on server i modulo their number, and returns its cap.
func put(t testing.TB, servers []*gridtest.Faulty, data []byte, opts putOptions) caps.Cap {
	t.Helper()
	if opts.K == 0 {
		opts.K, opts.N = 3, 10
	}
	if opts.SegmentSize == 0 {
		opts.SegmentSize = 1 << 20
	}
	c, shares, err := encode(data, opts)
	if err != nil {
		t.Fatal(err)
	}
	gridtest.Place(servers, decodetest.StorageIndex(t, c), maps.Collect(slices.All(shares)))
	return c
}

// encode makes a file's cap and shares. The key follows from the file.
func encode(data []byte, opts putOptions) (_ caps.Cap, shares [][]byte, err error) {
	g, err := chk.NewGeometry(int64(len(data)), opts.SegmentSize, opts.K, opts.N)
	if err != nil {
		return caps.Cap{}, nil, err
	}
	encoder, err := chk.NewEncoder(g, opts.layout)
	if err != nil {
		return caps.Cap{}, nil, err
	}
	defer func() { err = errors.Join(err, encoder.Close()) }()
	hash := sha256.Sum256(data)
	key := caps.NewKey([16]byte(hash[:]))
	crypttext := bytes.Clone(data)
	chk.Crypt(key.Cipher(), crypttext, 0)
	for range g.N {
		shares = append(shares, make([]byte, encoder.Size()))
	}
	at := copy(shares[0], encoder.Header())
	for _, share := range shares {
		copy(share, encoder.Header())
	}
	for i := int64(0); i < g.Segments(); i += chk.MaxRun {
		last := min(i+chk.MaxRun, g.Segments()) - 1
		n := int((last-i)*g.BlockSize() + g.BlockLen(last))
		blocks := make([][]byte, g.N)
		for num := range blocks {
			blocks[num] = shares[num][at:][:n]
		}
		if err := encoder.Encode(crypttext[i*g.SegmentSize:min((last+1)*g.SegmentSize, g.Size)], blocks); err != nil {
			return caps.Cap{}, nil, err
		}
		at += n
	}
	ueb, err := encoder.Finish()
	if err != nil {
		return caps.Cap{}, nil, err
	}
	for num, share := range shares {
		if err := encoder.ReadTail(num, share[encoder.TailOffset():], encoder.TailOffset()); err != nil {
			return caps.Cap{}, nil, err
		}
	}
	v := caps.Verifier{StorageIndex: key.StorageIndex(), UEBHash: chk.Hash(ueb.Marshal()), K: g.K, N: g.N, Size: g.Size}
	return caps.NewCHK(key, v), shares, nil
}

// putInto encodes a file, writes all shares to one server, and returns its cap.
func putInto(t testing.TB, s grid.Server, data []byte, opts putOptions) caps.Cap {
	t.Helper()
	held := gridtest.New(1)
	c := put(t, held, data, opts)
	si := decodetest.StorageIndex(t, c)
	for num, b := range held[0].Held[si] {
		copyShare(t, s, si, num, b)
	}
	return c
}

// copyShare writes a share to a server.
func copyShare(t testing.TB, s grid.Server, si grid.StorageIndex, num int, b []byte) {
	t.Helper()
	u, err := s.Create(t.Context(), si, num, int64(len(b)), grid.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(); err != nil {
		t.Fatal(err)
	}
}
