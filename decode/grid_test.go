package decode_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/grid"
)

// memServer is a server whose shares lie in memory and whose every operation
// can be made to fail or hang.
type memServer struct {
	name string

	mu        sync.Mutex
	shares    map[grid.StorageIndex]map[int][]byte
	asked     int // calls of Shares
	opened    int // shares open now
	uploading int // shares begun, and neither committed nor aborted
	aborts    int

	// Called, if not nil, before the operation; an error is its result.
	onShares func(ctx context.Context) error
	onOpen   func(ctx context.Context, num int) error
	onRead   func(ctx context.Context, num int, off int64) error
	onBytes  func(ctx context.Context, bytes int) error // as many as are read
	onCreate func(ctx context.Context, num int) error
	onWrite  func(ctx context.Context, num int) error
	onCommit func(num int) error
	// Changes, if not nil, what a commit stores; an error is its result nevertheless.
	onStore func(num int, share []byte) error
}

// newGrid returns count servers named s0, s1, ...
func newGrid(count int) []*memServer {
	servers := make([]*memServer, count)
	for i := range servers {
		servers[i] = &memServer{name: fmt.Sprintf("s%d", i), shares: map[grid.StorageIndex]map[int][]byte{}}
	}
	return servers
}

func asServers(servers []*memServer) []decode.Server {
	var list []decode.Server
	for _, s := range servers {
		list = append(list, decode.Server{Server: s})
	}
	return list
}

// hang waits for the end of the context, as a server does that is frozen.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *memServer) String() string { return s.name }
func (s *memServer) Close() error   { return nil }

func (s *memServer) Shares(ctx context.Context, si grid.StorageIndex) ([]int, error) {
	s.mu.Lock()
	s.asked++
	hook := s.onShares
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var nums []int
	for num := range s.shares[si] {
		nums = append(nums, num)
	}
	slices.Sort(nums)
	return nums, nil
}

func (s *memServer) Open(ctx context.Context, si grid.StorageIndex, num int) (grid.Share, error) {
	if s.onOpen != nil {
		if err := s.onOpen(ctx, num); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.shares[si][num]
	if !ok {
		return nil, fs.ErrNotExist
	}
	s.opened++
	return &memShare{server: s, num: num, bytes: b}, nil
}

type memShare struct {
	server *memServer
	num    int
	bytes  []byte
}

func (sh *memShare) Size() int64 { return int64(len(sh.bytes)) }

func (sh *memShare) Close() error {
	sh.server.mu.Lock()
	defer sh.server.mu.Unlock()
	sh.server.opened--
	return nil
}

func (sh *memShare) ReadAt(ctx context.Context, off int64, bufs ...[]byte) (int, error) {
	if sh.server.onRead != nil {
		if err := sh.server.onRead(ctx, sh.num, off); err != nil {
			return 0, err
		}
	}
	if sh.server.onBytes != nil {
		want := 0
		for _, b := range bufs {
			want += len(b)
		}
		if err := sh.server.onBytes(ctx, want); err != nil {
			return 0, err
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	total := 0
	for _, b := range bufs {
		n := 0
		if off < int64(len(sh.bytes)) {
			n = copy(b, sh.bytes[off:])
		}
		total += n
		off += int64(n)
		if n < len(b) {
			return total, io.EOF
		}
	}
	return total, nil
}

func (s *memServer) Create(ctx context.Context, si grid.StorageIndex, num int, size int64, _ grid.Lease) (grid.Upload, error) {
	if s.onCreate != nil {
		if err := s.onCreate(ctx, num); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.shares[si][num]; ok {
		return nil, fs.ErrExist
	}
	s.uploading++
	return &memUpload{server: s, ctx: ctx, si: si, num: num, bytes: make([]byte, size), written: make([]bool, size)}, nil
}

// memUpload also verifies what an Upload promises: every byte written once.
type memUpload struct {
	server  *memServer
	ctx     context.Context
	si      grid.StorageIndex
	num     int
	bytes   []byte
	written []bool
	over    bool // guarded by server.mu
}

func (u *memUpload) WriteAt(p []byte, off int64) (int, error) {
	if u.server.onWrite != nil {
		if err := u.server.onWrite(u.ctx, u.num); err != nil {
			return 0, err
		}
	}
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	for i := range p {
		if u.written[off+int64(i)] {
			return i, fmt.Errorf("byte %d is written twice", off+int64(i))
		}
		u.written[off+int64(i)] = true
	}
	return copy(u.bytes[off:], p), nil
}

func (u *memUpload) Commit() error {
	if u.server.onCommit != nil {
		if err := u.server.onCommit(u.num); err != nil {
			return err
		}
	}
	if i := slices.Index(u.written, false); i >= 0 {
		return fmt.Errorf("byte %d is not written", i)
	}
	var err error
	if u.server.onStore != nil {
		err = u.server.onStore(u.num, u.bytes)
	}
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	u.over = true
	u.server.uploading--
	if u.server.shares[u.si] == nil {
		u.server.shares[u.si] = map[int][]byte{}
	}
	u.server.shares[u.si][u.num] = u.bytes
	return err
}

func (u *memUpload) Abort() error {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	if !u.over {
		u.over = true
		u.server.aborts++
		u.server.uploading--
	}
	return nil
}

// keep removes every share of si that the function does not want.
func keep(servers []*memServer, si grid.StorageIndex, want func(num int) bool) {
	for _, s := range servers {
		for num := range s.shares[si] {
			if !want(num) {
				delete(s.shares[si], num)
			}
		}
	}
}

// newClient returns a Client that is closed at the end of the test.
func newClient(t testing.TB, cfg decode.Config) *decode.Client {
	t.Helper()
	c, err := decode.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

const (
	keyText = "q6m3rml7l6w4ztvqvfbdrwl7ei"
	chkText = "URI:CHK:" + keyText + ":orpk7m7ebzops5333umhrpfxb3s63ar4dtrq4yvyultpis4kjpya:3:10:56"
)

// storageIndex returns the name of a CHK cap's shares.
func storageIndex(t testing.TB, c caps.Cap) grid.StorageIndex {
	t.Helper()
	v, ok := c.Verifier()
	if !ok {
		t.Fatal("not a CHK cap")
	}
	return v.StorageIndex
}

// plaintext returns size bytes that depend on nothing else.
func plaintext(size int) []byte {
	b := make([]byte, size)
	x := uint32(size)*2654435761 + 12345
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// put writes a file and returns its cap. Then share i is moved to server i modulo their number, and
// the servers forget that they were asked.
func put(t testing.TB, servers []*memServer, data []byte, opts decode.PutOptions) caps.Cap {
	t.Helper()
	if opts.Convergence == nil {
		opts.Convergence = []byte("secret of the tests")
	}
	c, err := newClient(t, decode.Config{Servers: asServers(servers)}).Put(t.Context(), bytes.NewReader(data), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, literal := c.Literal(); literal {
		return c
	}
	si := storageIndex(t, c)
	all := map[int][]byte{}
	for _, s := range servers {
		maps.Copy(all, s.shares[si])
		delete(s.shares, si)
		s.asked = 0
	}
	for num, b := range all {
		s := servers[num%len(servers)]
		if s.shares[si] == nil {
			s.shares[si] = map[int][]byte{}
		}
		s.shares[si][num] = b
	}
	return c
}

// sink takes a file's chunks and remembers which bytes it was given.
type sink struct {
	mu    sync.Mutex
	bytes []byte
	calls int
}

func newSink(size int64) *sink { return &sink{bytes: bytes.Repeat([]byte{0xee}, int(size))} }

func (s *sink) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return copy(s.bytes[off:], p), nil
}

// readAll reads the whole file: a chunk, then run after run.
func readAll(ctx context.Context, f *decode.File) ([]byte, error) {
	s := newSink(f.Size())
	chunks := (f.Size()-1)/f.ChunkSize() + 1
	for i, n := int64(0), int64(1); i < chunks; i, n = i+n, min(f.Run(), chunks-i-n) {
		before := s.calls
		err := f.WriteChunks(ctx, i, n, s)
		if err == nil && s.calls != before+1 || err != nil && s.calls != before {
			return nil, fmt.Errorf("%d writes for %d chunks (%v)", s.calls-before, n, err)
		}
		if err != nil {
			return s.bytes, err
		}
	}
	return s.bytes, nil
}

// get opens and reads the whole file.
func get(ctx context.Context, c *decode.Client, cap caps.Cap) ([]byte, error) {
	f, err := c.Open(ctx, cap)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(ctx, f)
}

// logBook collects log lines.
type logBook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// lines returns those that hold all the parts.
func (l *logBook) lines(parts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			found = append(found, line)
		}
	}
	return found
}
