package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"spillway/decode/upload"
	"spillway/server"
	"spillway/server/transport/transporttest"
	"spillway/spool"
)

// newBenchServer serves one file, spooled whole, on plain TCP: its address, its cap and its size.
func newBenchServer(b *testing.B, size int) (s *server.Server, addr, readCap string) {
	b.Helper()
	sp, err := spool.Open(spool.Config{Dir: b.TempDir(), AllowTmpfs: true, Budget: 1 << 30, Retention: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	s = server.New(server.Config{Spool: sp})
	data := pattern(size)
	s.SetOpenSource(func(context.Context, caps.Cap) (spool.Source, error) {
		return &source{data: data, chunk: 1 << 20}, nil
	})
	hs := httptest.NewUnstartedServer(nil)
	hs.Config = s.HTTPServer(s.Public())
	hs.Listener = s.Listener(hs.Listener)
	hs.Start()
	b.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
		hs.CloseClientConnections()
		hs.Close()
		if err := sp.Close(); err != nil {
			b.Error(err)
		}
	})
	readCap = benchCap(size, 0)
	if res, err := http.Get(hs.URL + "/uri/" + readCap); err != nil {
		b.Fatal(err)
	} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
		b.Fatal(err)
	} else {
		res.Body.Close()
	}
	return s, hs.Listener.Addr().String(), readCap
}

// benchCap makes up the n-th cap for size bytes.
func benchCap(size, n int) string {
	key := make([]byte, 16)
	copy(key, strconv.Itoa(n))
	return fmt.Sprintf("URI:CHK:%s:%s:3:10:%d", grid.Base32(key), grid.Base32(make([]byte, 32)), size)
}

// answer is a buffered reader of answers whose bodies nobody looks at.
type answers struct {
	*bufio.Reader
	conn net.Conn
}

// discard reads an answer with a body of n bytes.
func (a *answers) discard(n int) error {
	for {
		line, err := a.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err := a.Discard(n)
			return err
		}
	}
}

// BenchmarkRange is 64 KiB of a spooled file on a connection that stays.
func BenchmarkRange(b *testing.B) {
	const size = 64 << 10
	_, addr, readCap := newBenchServer(b, 16<<20)
	b.SetBytes(size)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		r := &answers{bufio.NewReaderSize(conn, 128<<10), conn}
		request := []byte("GET /uri/" + readCap + " HTTP/1.1\r\nHost: x\r\nRange: bytes=1000000-" + strconv.Itoa(1000000+size-1) + "\r\n\r\n")
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			if err := r.discard(size); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkWhole is a whole file of 64 MiB, over plain TCP and over TLS with either version of
// HTTP.
func BenchmarkWhole(b *testing.B) {
	const size = 64 << 20
	s, addr, readCap := newBenchServer(b, size)
	get := func(b *testing.B, client *http.Client, url string) {
		b.SetBytes(size)
		b.ReportAllocs()
		buf := make([]byte, 256<<10)
		for b.Loop() {
			res, err := client.Get(url + "/uri/" + readCap)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{res.Body}, buf)
			if n != size || err != nil {
				b.Fatal(n, err)
			}
			res.Body.Close()
		}
		client.CloseIdleConnections()
	}
	b.Run("plain", func(b *testing.B) { get(b, &http.Client{Transport: &http.Transport{}}, "http://"+addr) })
	for name, http2 := range map[string]bool{"tls": false, "http2": true} {
		b.Run(name, func(b *testing.B) {
			hs := httptest.NewUnstartedServer(nil)
			hs.Config = s.HTTPServer(s.Public())
			hs.EnableHTTP2 = http2
			hs.StartTLS()
			defer hs.Close()
			transport := hs.Client().Transport.(*http.Transport)
			if !http2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			get(b, hs.Client(), hs.URL)
		})
	}
}

// BenchmarkStalled reports what each of b.N clients costs that asked for a file and take nothing of
// it: the process's memory (resident), in which the clients' own half, descriptors without buffers,
// is a small part. Run it with -benchtime 1000x, or 10000x.
func BenchmarkStalled(b *testing.B) {
	for _, files := range []int{1, 500} {
		b.Run(strconv.Itoa(files), func(b *testing.B) {
			const size = 5 << 20 // more than a socket takes
			s, addr, _ := newBenchServer(b, size)
			tcp, err := net.ResolveTCPAddr("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			for n := range files {
				askAndStall(b, tcp, benchCap(size, n))() // it is spooled now
			}
			debug.FreeOSMemory()
			before := resident(b)
			for n := range b.N {
				defer askAndStall(b, tcp, benchCap(size, n%files))()
			}
			transporttest.Await(b, "all are handed over", func() bool { return s.HandedOver() >= b.N })
			debug.FreeOSMemory()
			b.ReportMetric(float64(resident(b)-before)/float64(b.N), "resident-bytes/client")
		})
	}
}

// askAndStall asks for a file over a connection that neither this process's network poller nor any
// buffer knows, and waits for the first byte of the answer.
func askAndStall(b *testing.B, addr *net.TCPAddr, readCap string) (leave func()) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}); err != nil {
		b.Fatal(err)
	}
	if _, err := syscall.Write(fd, []byte("GET /uri/"+readCap+" HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		b.Fatal(err)
	}
	if _, err := syscall.Read(fd, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	return func() { syscall.Close(fd) }
}

// resident is the process's memory, in bytes.
func resident(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// BenchmarkCold is what a client that takes nothing starts: a file is decoded from shares in the
// page cache into a spool file on the disk, whole, by as many workers as there are processors
// (-cpu).
func BenchmarkCold(b *testing.B) {
	const size = 256 << 20
	data := pattern(size)
	for _, segment := range []int64{128 << 10, 1 << 20} {
		var all []fleet.Server
		for range 10 {
			all = append(all, fleet.Server{Server: dir.New(b.TempDir())})
		}
		_, uploader := decodetest.Clients(b, all)
		readCap, err := uploader.Put(b.Context(), bytes.NewReader(data), upload.Options{SegmentSize: segment})
		if err != nil {
			b.Fatal(err)
		}
		for _, shares := range []struct {
			name    string
			servers []fleet.Server
		}{{"primary", all[:3]}, {"parity", all[7:]}} {
			b.Run(fmt.Sprintf("segment=%d/%s", segment, shares.name), func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					if err := spoolWhole(b.Context(), readCap, shares.servers); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// spoolWhole decodes a file into a spool of its own.
func spoolWhole(ctx context.Context, readCap caps.Cap, servers []fleet.Server) error {
	members, err := fleet.New(fleet.Config{Servers: servers})
	if err != nil {
		return err
	}
	defer members.Close()
	client, err := decode.New(decode.Config{Fleet: members})
	if err != nil {
		return err
	}
	defer client.Close()
	sp, err := spool.Open(spool.Config{Budget: 1 << 30})
	if err != nil {
		return err
	}
	defer sp.Close()
	r, err := sp.Acquire(ctx, readCap.ID(), readCap.Size(), func(ctx context.Context) (spool.Source, error) { return client.Open(ctx, readCap) })
	if err != nil {
		return err
	}
	defer r.Close()
	r.Want(spool.Extent{Off: 0, End: readCap.Size()})
	for off := int64(0); off < readCap.Size(); {
		n, err := r.Wait(ctx, off)
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}
