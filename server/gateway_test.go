package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
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
	"spillway/spool"
)

const adminToken = "correct horse battery staple"

// gateway is a server on a spool and a grid of five storage directories, with
// both listeners. Files in the test's memory take the grid's place where a test
// wants to hold or fail the decoding.
type gateway struct {
	*server.Server
	t        *testing.T
	spool    *spool.Spool
	client   *decode.Client
	uploader *upload.Uploader
	storage  []string // the directories
	log      *logLines
	public   *httptest.Server
	admin    *httptest.Server

	mu      sync.Mutex
	sources map[string]func(context.Context) (spool.Source, error) // by cap id
	// what must not be seen in the log or a body
	secrets []string
}

func newGateway(t *testing.T, cfg spool.Config) *gateway {
	t.Helper()
	g := &gateway{t: t, log: newLogLines(), sources: map[string]func(context.Context) (spool.Source, error){}}
	g.spool = newSpool(t, cfg, g.log)
	g.client, g.uploader, g.storage = newGrid(t)
	g.Server = server.New(server.Config{Spool: g.spool, Client: g.client, Log: slog.New(slog.NewJSONHandler(g.log, nil)), AdminToken: adminToken, Version: "test"})
	g.SetOpenSource(func(ctx context.Context, readCap caps.Cap) (spool.Source, error) {
		g.mu.Lock()
		open := g.sources[readCap.ID()]
		g.mu.Unlock()
		if open == nil {
			f, err := g.client.Open(ctx, readCap)
			if err != nil {
				return nil, err
			}
			return f, nil
		}
		return open(ctx)
	})
	g.start()
	return g
}

// newGrid returns a client and an uploader of five empty storage directories.
func newGrid(t *testing.T) (client *decode.Client, uploader *upload.Uploader, storage []string) {
	t.Helper()
	var servers []fleet.Server
	for range 5 {
		storage = append(storage, t.TempDir())
		servers = append(servers, fleet.Server{Server: dir.New(storage[len(storage)-1])})
	}
	client, uploader = decodetest.Clients(t, servers)
	return client, uploader, storage
}

func newSpool(t *testing.T, cfg spool.Config, log io.Writer) *spool.Spool {
	t.Helper()
	cfg.Dir, cfg.AllowTmpfs = t.TempDir(), true
	cfg.Log = slog.New(slog.NewJSONHandler(log, nil))
	if cfg.Budget == 0 {
		cfg.Budget = 1 << 30
	}
	if cfg.Retention == 0 {
		cfg.Retention = time.Hour
	}
	sp, err := spool.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

// start listens, and undoes everything when the test ends.
func (g *gateway) start() {
	listen := func(h http.Handler, wrap func(net.Listener) net.Listener) *httptest.Server {
		s := httptest.NewUnstartedServer(nil)
		s.Config = g.HTTPServer(h)
		s.Listener = wrap(s.Listener)
		s.Start()
		return s
	}
	g.public = listen(g.Public(), g.Listener)
	g.admin = listen(g.Admin(), func(l net.Listener) net.Listener { return l })
	g.t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		g.Shutdown(now)
		g.public.CloseClientConnections()
		g.public.Close()
		g.admin.Close()
		if err := g.spool.Close(); err != nil {
			g.t.Error(err)
		}
		if err := g.client.Close(); err != nil {
			g.t.Error(err)
		}
		g.checkSecrets("the log", g.log.String())
	})
}

func (g *gateway) checkSecrets(where, text string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, secret := range g.secrets {
		if strings.Contains(text, secret) {
			g.t.Errorf("%s holds a secret %q:\n%s", where, secret, text)
		}
	}
}

// secret declares a cap whose key must not be seen.
func (g *gateway) secret(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if parts := strings.Split(text, ":"); len(parts) > 2 && len(parts[2]) > 8 {
		g.secrets = append(g.secrets, parts[2])
	}
}

// capOf makes up a CHK cap for size bytes, different for each name.
func (g *gateway) capOf(name string, size int64) string {
	key, hash := sha256.Sum256([]byte("key "+name)), sha256.Sum256([]byte("hash "+name))
	readCap := fmt.Sprintf("URI:CHK:%s:%s:3:10:%d", grid.Base32(key[:16]), grid.Base32(hash[:]), size)
	g.secret(readCap)
	return readCap
}

func idOf(t *testing.T, text string) string {
	t.Helper()
	readCap, err := caps.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return readCap.ID()
}

// put writes data into the grid and returns its cap.
func (g *gateway) put(data []byte) string {
	g.t.Helper()
	readCap, err := g.uploader.Put(g.t.Context(), bytes.NewReader(data), upload.Options{K: 3, N: 5, SegmentSize: 128 << 10})
	if err != nil {
		g.t.Fatal(err)
	}
	g.secret(readCap.Reveal())
	return readCap.Reveal()
}

// chunks returns how many chunks the grid's file of cap has.
func (g *gateway) chunks(text string) int64 {
	g.t.Helper()
	readCap, err := caps.Parse(text)
	if err != nil {
		g.t.Fatal(err)
	}
	f, err := g.client.Open(g.t.Context(), readCap)
	if err != nil {
		g.t.Fatal(err)
	}
	defer f.Close()
	return (f.Size() + f.ChunkSize() - 1) / f.ChunkSize()
}

// keep makes data a file in memory and returns its cap.
func (g *gateway) keep(name string, data []byte) string {
	readCap := g.capOf(name, int64(len(data)))
	g.serve(readCap, func(context.Context) (spool.Source, error) { return &source{data: data, chunk: 1 << 16}, nil })
	return readCap
}

// serve makes open the grid's answer for cap.
func (g *gateway) serve(readCap string, open func(context.Context) (spool.Source, error)) {
	id := idOf(g.t, readCap)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sources[id] = open
}

// get sends a request with the header fields given as pairs and reads the
// whole answer, which must not be broken off.
func (g *gateway) get(method, path string, header ...string) (*http.Response, []byte) {
	g.t.Helper()
	res, body, err := g.try(method, g.public.URL+path, header...)
	if err != nil {
		g.t.Fatalf("%s: %v", method, err)
	}
	return res, body
}

func (g *gateway) try(method, url string, header ...string) (*http.Response, []byte, error) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, url, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	g.checkSecrets("a body", string(body))
	return res, body, err
}

// copied returns how many bytes of files went through the process instead of by sendfile.
func (g *gateway) copied() int64 {
	g.t.Helper()
	_, page, err := g.try("GET", g.admin.URL+"/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if text, ok := strings.CutPrefix(line, "spillway_http_copied_bytes_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return int64(n)
		}
	}
	g.t.Fatal("no such metric")
	return 0
}

// dial opens a connection of its own and sends the text of a request, whose
// lines end in \n, verbatim.
func (g *gateway) dial(request string) (net.Conn, *bufio.Reader) {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.public.Listener.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		g.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// source is a file in memory. Its hooks may hold or fail a chunk.
type source struct {
	data   []byte
	chunk  int64
	before func(ctx context.Context, chunk int64) error // nil lets all pass
}

func (s *source) Size() int64      { return int64(len(s.data)) }
func (s *source) ChunkSize() int64 { return s.chunk }
func (s *source) Run() int64       { return 1 }
func (s *source) Workers() int     { return 2 }
func (s *source) Close() error     { return nil }
func (s *source) WriteChunks(ctx context.Context, i, _ int64, w io.WriterAt) error {
	if s.before != nil {
		if err := s.before(ctx, i); err != nil {
			return err
		}
	}
	from := i * s.chunk
	to := min(from+s.chunk, s.Size())
	_, err := w.WriteAt(s.data[from:to], from)
	return err
}

// pattern is n bytes of which no two stretches look alike, always the same.
func pattern(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// logLines keeps what is logged, and lets tests wait for it.
type logLines struct {
	mu   sync.Mutex
	more sync.Cond
	text bytes.Buffer
	recs []map[string]any
}

func newLogLines() *logLines {
	l := &logLines{}
	l.more.L = &l.mu
	return l
}

func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var rec map[string]any
	if err := json.Unmarshal(line, &rec); err != nil {
		return 0, err
	}
	l.recs = append(l.recs, rec)
	l.more.Broadcast()
	return l.text.Write(line)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await returns the n-th (from 0) line of the access log, as soon as there is one.
func (l *logLines) await(n int) map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		seen := 0
		for _, rec := range l.recs {
			if rec["msg"] == "request" {
				if seen == n {
					return rec
				}
				seen++
			}
		}
		l.more.Wait()
	}
}
