package gridtest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"spillway/decode/grid"
)

// Faulty is a server whose shares lie in memory and whose every operation
// can be made to fail or Hang.
type Faulty struct {
	Name string

	mu        sync.Mutex
	Held      map[grid.StorageIndex]map[int][]byte
	Asked     int // calls of Shares
	Opened    int // shares open now
	Uploading int // shares begun, and neither committed nor aborted
	Aborts    int

	// Called, if not nil, before the operation; an error is its result.
	OnShares func(ctx context.Context) error
	OnOpen   func(ctx context.Context, num int) error
	OnRead   func(ctx context.Context, num int, off int64) error
	OnBytes  func(ctx context.Context, bytes int) error // as many as are read
	OnCreate func(ctx context.Context, num int) error
	OnWrite  func(ctx context.Context, num int) error
	OnCommit func(num int) error
	// Changes, if not nil, what a commit stores; an error is its result nevertheless.
	OnStore func(num int, share []byte) error
}

// New returns count servers named s0, s1, ...
func New(count int) []*Faulty {
	servers := make([]*Faulty, count)
	for i := range servers {
		servers[i] = &Faulty{Name: fmt.Sprintf("s%d", i), Held: map[grid.StorageIndex]map[int][]byte{}}
	}
	return servers
}

// Place puts share i of a file on server i modulo their number.
func Place(servers []*Faulty, si grid.StorageIndex, shares map[int][]byte) {
	for num, b := range shares {
		s := servers[num%len(servers)]
		s.mu.Lock()
		s.holdLocked(si, num, b)
		s.mu.Unlock()
	}
}

func (s *Faulty) holdLocked(si grid.StorageIndex, num int, share []byte) {
	if s.Held[si] == nil {
		s.Held[si] = map[int][]byte{}
	}
	s.Held[si][num] = share
}

// OnEverything has f called before every operation of the server.
func (s *Faulty) OnEverything(f func(ctx context.Context) error) {
	s.OnShares = f
	s.OnOpen = func(ctx context.Context, _ int) error { return f(ctx) }
	s.OnRead = func(ctx context.Context, _ int, _ int64) error { return f(ctx) }
	s.OnCreate = s.OnOpen
	s.OnWrite = s.OnOpen
	s.OnCommit = func(int) error { return f(context.Background()) }
}

// Hang waits for the end of the context, as a server does that is frozen.
func Hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// String returns the name.
func (s *Faulty) String() string { return s.Name }

// Close is grid.Server's.
func (s *Faulty) Close() error { return nil }

// Shares is grid.Server's.
func (s *Faulty) Shares(ctx context.Context, si grid.StorageIndex) ([]int, error) {
	s.mu.Lock()
	s.Asked++
	hook := s.OnShares
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var nums []int
	for num := range s.Held[si] {
		nums = append(nums, num)
	}
	slices.Sort(nums)
	return nums, nil
}

// Open is grid.Server's.
func (s *Faulty) Open(ctx context.Context, si grid.StorageIndex, num int) (grid.Share, error) {
	if s.OnOpen != nil {
		if err := s.OnOpen(ctx, num); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.Held[si][num]
	if !ok {
		return nil, fs.ErrNotExist
	}
	s.Opened++
	return &faultyShare{server: s, num: num, bytes: b}, nil
}

type faultyShare struct {
	server *Faulty
	num    int
	bytes  []byte
}

func (sh *faultyShare) Size() int64 { return int64(len(sh.bytes)) }

func (sh *faultyShare) Close() error {
	sh.server.mu.Lock()
	defer sh.server.mu.Unlock()
	sh.server.Opened--
	return nil
}

func (sh *faultyShare) ReadAt(ctx context.Context, off int64, bufs ...[]byte) (int, error) {
	if sh.server.OnRead != nil {
		if err := sh.server.OnRead(ctx, sh.num, off); err != nil {
			return 0, err
		}
	}
	if sh.server.OnBytes != nil {
		want := 0
		for _, b := range bufs {
			want += len(b)
		}
		if err := sh.server.OnBytes(ctx, want); err != nil {
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

// Create is grid.Server's.
func (s *Faulty) Create(ctx context.Context, si grid.StorageIndex, num int, size int64, _ grid.Lease) (grid.Upload, error) {
	if s.OnCreate != nil {
		if err := s.OnCreate(ctx, num); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.Held[si][num]; ok {
		return nil, fs.ErrExist
	}
	s.Uploading++
	return &faultyUpload{server: s, ctx: ctx, si: si, num: num, bytes: make([]byte, size), written: make([]bool, size)}, nil
}

// faultyUpload also verifies what an Upload promises: every byte written once.
type faultyUpload struct {
	server  *Faulty
	ctx     context.Context
	si      grid.StorageIndex
	num     int
	bytes   []byte
	written []bool
	over    bool // guarded by server.mu
}

func (u *faultyUpload) WriteAt(p []byte, off int64) (int, error) {
	if u.server.OnWrite != nil {
		if err := u.server.OnWrite(u.ctx, u.num); err != nil {
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

func (u *faultyUpload) Commit() error {
	if u.server.OnCommit != nil {
		if err := u.server.OnCommit(u.num); err != nil {
			return err
		}
	}
	if i := slices.Index(u.written, false); i >= 0 {
		return fmt.Errorf("byte %d is not written", i)
	}
	var err error
	if u.server.OnStore != nil {
		err = u.server.OnStore(u.num, u.bytes)
	}
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	u.over = true
	u.server.Uploading--
	u.server.holdLocked(u.si, u.num, u.bytes)
	return err
}

func (u *faultyUpload) Abort() error {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	if !u.over {
		u.over = true
		u.server.Aborts++
		u.server.Uploading--
	}
	return nil
}

// Closing is a Server that counts how often it is closed.
type Closing struct {
	grid.Server
	Closed atomic.Int64
}

// Close is grid.Server's.
func (s *Closing) Close() error {
	s.Closed.Add(1)
	return s.Server.Close()
}
