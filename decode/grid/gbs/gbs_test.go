package gbs_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"spillway/decode/grid"
	"spillway/decode/grid/gbs"
	"spillway/decode/grid/gridtest"
)

func TestConformance(t *testing.T) {
	gridtest.Run(t, func(t *testing.T) grid.Server { return start(t).client(t) })
}

// hold puts a share on the server and returns it opened.
func (f *fake) hold(t *testing.T, s *gbs.Server, share []byte) grid.Share {
	t.Helper()
	si := gridtest.StorageIndex()
	f.mu.Lock()
	f.shares[si.String()+"/7"] = share
	f.mu.Unlock()
	sh, err := s.Open(t.Context(), si, 7)
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

// TestReadFaults: whatever a server answers but the right thing is an error that
// does not look like the share's end, and the next request is none the worse.
func TestReadFaults(t *testing.T) {
	status := func(code int) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://example.invalid/")
			w.WriteHeader(code)
			io.WriteString(w, "<html>"+strings.Repeat("sorry ", 3000))
		}
	}
	part := func(contentRange, body string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush() // so it comes in chunks
			io.WriteString(w, body)
		}
	}
	rawly := func(answer string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) { raw(w, answer) }
	}
	const head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 10-19/*\r\n"
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"whole":               {status(200), "answered 200"},
		"created":             {status(201), "answered 201"},
		"redirect":            {status(302), "answered 302"},
		"bad request":         {status(400), "answered 400"},
		"swissnum":            {status(401), "swissnum"},
		"range":               {status(416), "answered 416"},
		"broken":              {status(500), "answered 500"},
		"busy":                {status(503), "answered 503"},
		"no range":            {part("", "0123456789"), "Content-Range"},
		"strange range":       {part("bytes 10 to 19", "0123456789"), "Content-Range"},
		"negative range":      {part("bytes -10-19/*", "0123456789"), "Content-Range"},
		"signed range":        {part("bytes +10-19/*", "0123456789"), "Content-Range"},
		"huge range":          {part("bytes 10-99999999999999999999/*", "0123456789"), "Content-Range"},
		"other unit":          {part("lines 10-19/*", "0123456789"), "Content-Range"},
		"other range":         {part("bytes 0-9/*", "0123456789"), "bytes 0 to 9"},
		"longer range":        {part("bytes 10-20/*", "0123456789a"), "bytes 10 to 20"},
		"empty range":         {part("bytes 10-9/*", ""), "bytes 10 to 9"},
		"beyond the total":    {part("bytes 10-19/19", "0123456789"), "bytes 10 to 19"},
		"body too long":       {part("bytes 10-19/*", "0123456789a"), "more than"},
		"body much too long":  {part("bytes 10-19/*", strings.Repeat("0123456789", 100_000)), "more than"},
		"short body too long": {part("bytes 10-12/*", "0123"), "more than"},
		"body too short":      {part("bytes 10-19/*", "012345678"), "cut"},
		"no body":             {part("bytes 10-19/*", ""), "cut"},
		"wrong length":        {rawly(head + "Content-Length: 9\r\n\r\n012345678"), "announces 10 bytes and a body of 9"},
		"cut in a body":       {rawly(head + "Content-Length: 10\r\n\r\n01234"), "cut"},
		"cut in a chunk":      {rawly(head + "Transfer-Encoding: chunked\r\n\r\na\r\n01234"), "cut"},
		"no last chunk":       {rawly(head + "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n"), "cut"},
		"bad chunk":           {rawly(head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n0123456789\r\n"), "chunk"},
		"cut in the header":   {rawly(head), "cut"},
		"endless header":      {rawly("HTTP/1.1 206 Partial Content\r\nX: " + strings.Repeat("x", 100_000)), "exceeded"},
		"not HTTP":            {rawly("SSH-2.0-OpenSSH_9.2\r\n"), "malformed"},
		"cut at once":         {cut, "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			s := f.client(t)
			sh := f.hold(t, s, []byte("the tenth.0123456789 and more"))
			f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				test.answer(w)
				return true
			})
			_, err := sh.ReadAt(t.Context(), 10, make([]byte, 4), make([]byte, 6))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want one with %q", err, test.want)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the error says that the share ends, or is not there: %v", err)
			}
			if err := secretsIn(err.Error()); err != nil {
				t.Error(err)
			}
			f.intercept(nil)
			b := make([]byte, 10)
			if n, err := sh.ReadAt(t.Context(), 10, b); n != 10 || err != nil || string(b) != "0123456789" {
				t.Errorf("afterwards: %q, %v", b, err)
			}
		})
	}
}

// TestReadAtEnd: a total in the Content-Range is welcome, and an end that is known to be one is an
// end.
func TestReadAtEnd(t *testing.T) {
	f := start(t)
	s := f.client(t)
	sh := f.hold(t, s, nil)
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Range", "bytes 10-14/15")
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, "01234")
		return true
	})
	b := make([]byte, 10)
	if n, err := sh.ReadAt(t.Context(), 10, b[:3], b[3:]); n != 5 || err != io.EOF || string(b[:5]) != "01234" {
		t.Errorf("%d, %v", n, err)
	}
	for _, off := range []int64{-1, math.MaxInt64 - 8} {
		if _, err := sh.ReadAt(t.Context(), off, b); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("at %d: %v", off, err)
		}
	}
}

// TestAnswerFaults: lists that are none.
func TestAnswerFaults(t *testing.T) {
	many := make([]int, 257)
	for name, test := range map[string]struct {
		status int
		kind   string
		body   []byte
		want   string
	}{
		"refused kind":  {406, "", nil, "406"},
		"swissnum":      {401, "", nil, "swissnum"},
		"broken":        {500, "text/html", []byte("<html>"), "500"},
		"HTML":          {200, "text/html", []byte("<html>"), "not CBOR"},
		"no kind":       {200, "", gbs.MarshalSet([]int{1}), "not CBOR"},
		"empty":         {200, "application/cbor", nil, "malformed"},
		"no tag":        {200, "application/cbor", []byte{0x81, 0x01}, "malformed"},
		"other tag":     {200, "application/cbor", []byte{0xd9, 0x01, 0x03, 0x81, 0x01}, "tag 259"},
		"cut":           {200, "application/cbor", gbs.MarshalSet([]int{1, 2, 3})[:5], "malformed"},
		"more behind":   {200, "application/cbor", append(gbs.MarshalSet([]int{1}), 0), "malformed"},
		"text":          {200, "application/cbor", []byte{0xd9, 0x01, 0x02, 0x81, 0x61, 'a'}, "malformed"},
		"negative":      {200, "application/cbor", []byte{0xd9, 0x01, 0x02, 0x81, 0x20}, "malformed"},
		"share 256":     {200, "application/cbor", gbs.MarshalSet([]int{256}), "share number 256"},
		"257 shares":    {200, "application/cbor", gbs.MarshalSet(many), "257 shares"},
		"many shares":   {200, "application/cbor", gbs.MarshalSet(make([]int, 5000)), "malformed"},
		"too long":      {200, "application/cbor", make([]byte, 65<<10), "longer"},
		"nested":        {200, "application/cbor", bytes.Repeat([]byte{0x81}, 1000), "malformed"},
		"huge announce": {200, "application/cbor", []byte{0xd9, 0x01, 0x02, 0x9b, 0, 0, 1, 0, 0, 0, 0, 0}, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header()["Content-Type"] = []string{test.kind}
				w.WriteHeader(test.status)
				w.Write(test.body)
				return true
			})
			nums, err := f.client(t).Shares(t.Context(), gridtest.StorageIndex())
			if err == nil || !strings.Contains(err.Error(), test.want) || len(nums) != 0 {
				t.Errorf("%v, %v, want an error with %q", nums, err, test.want)
			}
			if err := secretsIn(err.Error()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	f := start(t)
	s := f.client(t)
	want := gbs.Version{Application: "tahoe-lafs/1.20.0", MaxShareSize: 12345678901, AvailableSpace: 98765432109}
	if v, err := s.Version(t.Context()); v != want || err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	const storage = "http://allmydata.org/tahoe/protocols/storage/v1"
	f.onVersion = func(v map[any]any) {
		clear(v)
		v[storage] = map[string]any{"maximum-immutable-share-size": uint64(math.MaxUint64), "available-space": new(big.Int).Lsh(big.NewInt(1), 64)}
		v["application-version"] = "a\nnew\x00one"
	}
	want = gbs.Version{Application: "anewone", MaxShareSize: math.MaxInt64, AvailableSpace: math.MaxInt64}
	if v, err := s.Version(t.Context()); v != want || err != nil {
		t.Errorf("with keys of text: %+v, %v", v, err)
	}
	f.onVersion = func(v map[any]any) { v[cbor.ByteString(storage)] = map[string]any{"available-space": -1} }
	if _, err := s.Version(t.Context()); err == nil {
		t.Error("a negative amount is accepted")
	}
}

func TestReportCorrupt(t *testing.T) {
	f := start(t)
	var s grid.CorruptionReporter = f.client(t)
	si := gridtest.StorageIndex()
	f.shares[si.String()+"/3"] = []byte("x")
	for _, reason := range []string{"block 17", "", strings.Repeat("long ", 10_000), "\xff\x00"} {
		if err := s.ReportCorrupt(t.Context(), si, 3, reason); err != nil {
			t.Errorf("%.20q: %v", reason, err)
		}
	}
	if len(f.reports) != 4 || f.reports[0] != si.String()+"/3: block 17" {
		t.Errorf("%.100q", f.reports)
	}
	if err := s.ReportCorrupt(t.Context(), si, 4, "not there"); err != nil {
		t.Errorf("%v", err)
	}
}

// TestWrongSwissnum: the error says so, and does not tell it.
func TestWrongSwissnum(t *testing.T) {
	f := start(t)
	s := parse(t, "pb://"+f.key()+"@"+f.address()+"/another#v=1")
	_, err := s.Shares(t.Context(), gridtest.StorageIndex())
	if err == nil || !strings.Contains(err.Error(), "swissnum") || strings.Contains(err.Error(), "another") {
		t.Errorf("%v", err)
	}
}

// TestWrongKey: no request goes to a server with another key, and no other
// location is tried in its stead.
func TestWrongKey(t *testing.T) {
	impostor, f := start(t), start(t)
	wrong := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	s := parse(t, "pb://"+wrong+"@"+impostor.address()+","+f.address()+"/"+swissnum+"#v=1")
	_, err := s.Shares(t.Context(), gridtest.StorageIndex())
	if err == nil || !strings.Contains(err.Error(), impostor.key()) || !strings.Contains(err.Error(), wrong) {
		t.Errorf("%v", err)
	}
	if err := secretsIn(err.Error()); err != nil {
		t.Error(err)
	}
	if len(impostor.requests)+len(f.requests) != 0 {
		t.Errorf("requests %v, %v", impostor.requests, f.requests)
	}
}

// TestLocations: the first one that can be reached serves, and is remembered.
func TestLocations(t *testing.T) {
	f := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	s := parse(t, "pb://"+f.key()+"@"+dead+",tcp:"+f.address()+"/"+swissnum+"#v=1")
	for range 2 {
		if _, err := s.Shares(t.Context(), gridtest.StorageIndex()); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	s = parse(t, "pb://"+f.key()+"@"+dead+"/"+swissnum+"#v=1")
	if _, err := s.Shares(t.Context(), gridtest.StorageIndex()); err == nil || !strings.Contains(err.Error(), dead) {
		t.Errorf("%v", err)
	}
}

// TestCancel: a request ends with its context wherever the server hangs.
func TestCancel(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"before the answer": func(http.ResponseWriter) {},
		"in the body": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-99999/*")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, 50_000))
			w.(http.Flusher).Flush()
		},
		"in an error": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			w.(http.Flusher).Flush()
		},
		"at the body's end": func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-99999/*")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, 100_000))
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			s := f.client(t)
			sh := f.hold(t, s, nil)
			hanging, over := make(chan struct{}, 1), make(chan struct{})
			f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				answer(w)
				hanging <- struct{}{}
				<-over
				return true
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-hanging
				cancel()
			}()
			b := make([]byte, 100_000)
			_, err := sh.ReadAt(ctx, 0, b)
			close(over)
			clear(b) // the race detector sees a read that goes on
			if name == "in an error" {
				if err == nil {
					t.Error("no error")
				}
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestConnections: however many requests there are, connections are few; one after
// the other they share one, errors or not; and Close closes them.
func TestConnections(t *testing.T) {
	f := start(t)
	s := f.client(t)
	sh := f.hold(t, s, make([]byte, 200_000))
	for range 5 {
		if _, err := sh.ReadAt(t.Context(), 0, make([]byte, 150_000)); err != nil {
			t.Error(err)
		}
		if _, err := sh.ReadAt(t.Context(), 1<<40, make([]byte, 10)); err != io.EOF {
			t.Error(err)
		}
		missing, _ := s.Open(t.Context(), gridtest.StorageIndex(), 0)
		if _, err := missing.ReadAt(t.Context(), 0, make([]byte, 10)); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := s.Shares(t.Context(), gridtest.StorageIndex()); err != nil {
			t.Error(err)
		}
	}
	if ever, _ := f.connections(); ever != 1 {
		t.Errorf("%d connections for one request at a time", ever)
	}

	const limit = 16
	arrived, leave := make(chan struct{}, 100), make(chan struct{})
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		arrived <- struct{}{}
		<-leave
		return false
	})
	var wg sync.WaitGroup
	for range 3 * limit {
		wg.Go(func() {
			if _, err := sh.ReadAt(t.Context(), 0, make([]byte, 1000)); err != nil {
				t.Error(err)
			}
		})
	}
	for range limit {
		<-arrived
	}
	if len(arrived) > 0 {
		t.Errorf("more than %d requests at once", limit)
	}
	close(leave)
	wg.Wait()
	if ever, _ := f.connections(); ever > limit {
		t.Errorf("%d connections, more than %d", ever, limit)
	}
	s.Close()
	for _, open := f.connections(); open > 0; _, open = f.connections() {
		runtime.Gosched() // the server sees it soon; if it never does, the test's time ends
	}
}

// TestLeases: the secrets are those that a Tahoe-LAFS client has for this server.
func TestLeases(t *testing.T) {
	f := start(t)
	s := f.client(t)
	si := gridtest.StorageIndex()
	if id, known := s.NodeID(); known {
		t.Errorf("node %x before any connection", id)
	}
	gridtest.Write(t, s, si, 0, []byte("share"))
	if id, known := s.NodeID(); !known || id != sha1.Sum(f.Certificate().Raw) {
		t.Errorf("node %x, %v", id, known)
	}
	renew, cancel := gridtest.Lease(si).Secrets(sha1.Sum(f.Certificate().Raw))
	want := base64.StdEncoding.EncodeToString(renew[:]) + " " + base64.StdEncoding.EncodeToString(cancel[:])
	if !slices.Equal(f.leases, []string{want}) {
		t.Errorf("%v, want %s", f.leases, want)
	}
}

// TestUploadRequests: a share goes in few requests, none too large, and its end waits for Commit.
func TestUploadRequests(t *testing.T) {
	for size, want := range map[int]int{1: 1, 16 << 10: 1, 3 << 20: 4} {
		f := start(t)
		s := f.client(t)
		u, err := s.Create(t.Context(), gridtest.StorageIndex(), 0, int64(size), gridtest.Lease(grid.StorageIndex{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.WriteAt(make([]byte, size), 0); err != nil {
			t.Fatal(err)
		}
		if n := len(f.requests); n != 2+want-1 {
			t.Errorf("%d bytes: %d requests before the commit:\n%s", size, n, strings.Join(f.requests, "\n"))
		}
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		if n := len(f.requests); n != 2+want {
			t.Errorf("%d bytes: %d requests:\n%s", size, n, strings.Join(f.requests, "\n"))
		}
	}
}

// TestUploadCancel: what was given to a write that is cancelled, or that is answered before it is
// sent, belongs to its caller again, as the race detector sees.
func TestUploadCancel(t *testing.T) {
	for _, answered := range []bool{false, true} {
		f := start(t)
		s := f.client(t)
		over := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		u, err := s.Create(ctx, gridtest.StorageIndex(), 0, 1<<20, gridtest.Lease(grid.StorageIndex{}))
		if err != nil {
			t.Fatal(err)
		}
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPatch {
				return false
			}
			io.ReadFull(r.Body, make([]byte, 1000))
			if answered {
				raw(w, "HTTP/1.1 500 Broken\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			} else {
				cancel()
				<-over
			}
			return true
		})
		p := make([]byte, 1<<20-1)
		_, err = u.WriteAt(p, 0)
		close(over)
		if err == nil || answered == errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for i := range p {
			p[i] = 1
		}
		if err := u.Abort(); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// TestWatch: only a server that takes and says nothing is given up.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := parse(t, "pb://1WUX44xKjKdpGLohmFcBNuIRN-8rlv1Iij_7rQ-ABCk@127.0.0.1:1/"+swissnum+"#v=1")
		stopped, cancelStopped := context.WithCancelCause(t.Context())
		s.Watch(cancelStopped)()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer s.Watch(cancel)()
		for range 10 {
			time.Sleep(29 * time.Second)
			if ctx.Err() != nil {
				t.Fatal("given up while the server moves")
			}
			s.Move()
		}
		begun := time.Now()
		<-ctx.Done()
		if after := time.Since(begun); after != 30*time.Second || !strings.Contains(context.Cause(ctx).Error(), "30s") {
			t.Errorf("given up after %v: %v", after, context.Cause(ctx))
		}
		if stopped.Err() != nil {
			t.Error("given up after the end")
		}
	})
}

// TestUploadFails: from its first request on, or its second, and so on, a server does nothing more
// but abort, or does it and does not say so. The upload fails and leaves nothing, save a share
// that is complete without our knowing.
func TestUploadFails(t *testing.T) {
	for _, mute := range []bool{false, true} {
		for nth := 1; ; nth++ {
			f := start(t)
			s := f.client(t)
			count := 0
			f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				f.mu.Lock()
				count++
				fail := count >= nth && r.Method != http.MethodPut
				f.mu.Unlock()
				if fail && mute {
					f.answer(&discardWriter{header: http.Header{}}, r)
				}
				if fail {
					cut(w)
				}
				return fail
			})
			err := upload(t.Context(), s, gridtest.StorageIndex(), make([]byte, 600_000))
			if err == nil {
				if nth <= 6 {
					t.Errorf("request %d failed and the upload did not", nth)
				}
				break
			}
			if err := secretsIn(err.Error()); err != nil {
				t.Error(err)
			}
			complete := mute && len(f.shares) == 1 && strings.Contains(err.Error(), "405")
			if len(f.uploads) != 0 || (len(f.shares) != 0 && !complete) {
				t.Errorf("request %d (mute: %v): left %d uploads, %d shares: %v", nth, mute, len(f.uploads), len(f.shares), err)
			}
		}
	}
}

// TestClosedConnections: requests survive that the server closes their connection, as it does
// with those that were idle, as long as they can be repeated.
func TestClosedConnections(t *testing.T) {
	f := start(t)
	s := f.client(t)
	cutting := false
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		cutting = !cutting && r.Method == http.MethodPatch
		now := cutting
		f.mu.Unlock()
		if now {
			cut(w)
		}
		return now
	})
	si := gridtest.StorageIndex()
	share := bytes.Repeat([]byte("share"), 120_000)
	if err := upload(t.Context(), s, si, share); err != nil {
		t.Fatal(err)
	}
	sh, err := s.Open(t.Context(), si, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(share))
	for off := 0; off < len(got); off += 100_000 {
		f.CloseClientConnections()
		if _, err := sh.ReadAt(t.Context(), int64(off), got[off:off+100_000]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, share) {
		t.Error("the share is another one")
	}
}

// TestStaleConnections: a server closes connections that nobody has used for a while, just when
// requests come by them. They are made again at once by others, until a new one brings the answer.
func TestStaleConnections(t *testing.T) {
	for name, end := range map[string]func(w http.ResponseWriter){
		"closed": cut,
		"reset": func(w http.ResponseWriter) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
			conn.(*tls.Conn).NetConn().Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			s := f.client(t)
			share := bytes.Repeat([]byte("share"), 1000)
			sh := f.hold(t, s, share)
			// Several connections are made by several requests that wait for one another.
			const several = 5
			var together sync.WaitGroup
			together.Add(several)
			f.intercept(func(http.ResponseWriter, *http.Request) bool {
				together.Done()
				together.Wait()
				return false
			})
			var reads sync.WaitGroup
			for range several {
				reads.Go(func() {
					if _, err := sh.ReadAt(t.Context(), 0, make([]byte, 1000)); err != nil {
						t.Error(err)
					}
				})
			}
			reads.Wait()
			if ever, _ := f.connections(); ever != several {
				t.Fatalf("%d connections", ever)
			}
			stale, asked := map[string]bool{}, 0
			f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				f.mu.Lock()
				ever := f.opened
				asked++
				if ever == several {
					stale[r.RemoteAddr] = true
				}
				now := stale[r.RemoteAddr]
				f.mu.Unlock()
				if now {
					end(w)
				}
				return now
			})
			got := make([]byte, len(share))
			if _, err := sh.ReadAt(t.Context(), 0, got); err != nil || !bytes.Equal(got, share) {
				t.Error(err)
			}
			if nums, err := s.Shares(t.Context(), gridtest.StorageIndex()); err != nil {
				t.Error(nums, err)
			}
			if ever, _ := f.connections(); ever != several+1 || asked != several+2 {
				t.Errorf("%d connections, %d requests", ever, asked)
			}
		})
	}
}

// discardWriter is an answer that gets lost.
type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *discardWriter) WriteHeader(int)             {}
func (w *discardWriter) Flush()                      {}

func upload(ctx context.Context, s *gbs.Server, si grid.StorageIndex, share []byte) error {
	u, err := s.Create(ctx, si, 0, int64(len(share)), gridtest.Lease(si))
	if err != nil {
		return err
	}
	for off := 0; off < len(share); off += 200_000 {
		if _, err := u.WriteAt(share[off:off+200_000], int64(off)); err != nil {
			return errors.Join(err, u.Abort())
		}
	}
	if err := u.Commit(); err != nil {
		return errors.Join(err, u.Abort())
	}
	return nil
}

// TestUploadRefused: what servers say when they do not take a share.
func TestUploadRefused(t *testing.T) {
	f := start(t)
	s := f.client(t)
	for status, want := range map[int]string{401: "swissnum", 409: "409", 413: "413", 500: "500", 507: "507"} {
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPatch {
				w.WriteHeader(status)
			}
			return r.Method == http.MethodPatch
		})
		err := upload(t.Context(), s, gridtest.StorageIndex(), make([]byte, 200_000))
		if err == nil || !strings.Contains(err.Error(), want) || len(f.uploads) != 0 {
			t.Errorf("%d: %v", status, err)
		}
	}
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			f.send(w, r, http.StatusOK, map[string]any{"already-have": set(nil), "allocated": set(nil)})
		}
		return r.Method == http.MethodPost
	})
	if err := upload(t.Context(), s, gridtest.StorageIndex(), make([]byte, 200_000)); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%v", err)
	}
	// Created, but not whole.
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		last := strings.HasSuffix(r.Header.Get("Content-Range"), "-199999/*")
		if last {
			f.send(w, r, http.StatusCreated, map[string]any{"required": []map[string]int{{"begin": 17, "end": 18}}})
		}
		return last
	})
	if err := upload(t.Context(), s, gridtest.StorageIndex(), make([]byte, 200_000)); err == nil || !strings.Contains(err.Error(), "from 17 on") {
		t.Errorf("%v", err)
	}
}

func TestParse(t *testing.T) {
	const key = "1WUX44xKjKdpGLohmFcBNuIRN-8rlv1Iij_7rQ-ABCk"
	for text, want := range map[string]string{
		"pb://" + key + "@127.0.0.1:123/" + swissnum + "#v=1":                   "pb://" + key + "@127.0.0.1:123",
		"pb://" + key + "@tcp:h.example:1,[::1]:65535,b:3/" + swissnum + "#v=1": "pb://" + key + "@h.example:1,[::1]:65535,b:3",
		"pb://" + key + "@h:1/sw%31ssnum-of-the-tests#v=1":                      "pb://" + key + "@h:1",
		"pb+tor://" + key + "@h.onion:1/" + swissnum + "#v=1":                   "unsupported",
		"pb://" + key + "@h:1/" + swissnum:                                      "unsupported",
		"pb://" + key + "@h:1/" + swissnum + "#v=2":                             "unsupported",
		"pb://abcdefghijklmnopqrstuvwxyz234567@tcp:h:1/" + swissnum:             "unsupported",
		"":              "malformed",
		"pb:" + key:     "malformed",
		"http://h/#v=1": "malformed",
		"pb://" + key + "h:1/" + swissnum + "#v=1":               "malformed",
		"pb://" + key + "=@h:1/" + swissnum + "#v=1":             "malformed",
		"pb://" + key[:42] + "@h:1/" + swissnum + "#v=1":         "malformed",
		"pb://" + key[:42] + "l@h:1/" + swissnum + "#v=1":        "malformed",
		"pb://" + key + "@h:1/#v=1":                              "malformed",
		"pb://" + key + "@h:1#v=1":                               "malformed",
		"pb://" + key + "@h:1/" + swissnum + "/more#v=1":         "malformed",
		"pb://" + key + "@h:1/" + swissnum + "?x#v=1":            "malformed",
		"pb://" + key + "@h:1/%zz#v=1":                           "malformed",
		"pb://" + key + "@h/" + swissnum + "#v=1":                "malformed",
		"pb://" + key + "@:1/" + swissnum + "#v=1":               "malformed",
		"pb://" + key + "@h:0/" + swissnum + "#v=1":              "malformed",
		"pb://" + key + "@h:65536/" + swissnum + "#v=1":          "malformed",
		"pb://" + key + "@h:01/" + swissnum + "#v=1":             "malformed",
		"pb://" + key + "@h h:1/" + swissnum + "#v=1":            "malformed",
		"pb://" + key + "@h:1,/" + swissnum + "#v=1":             "malformed",
		"pb://" + key + "@[fe80::1%eth0]:1/" + swissnum + "#v=1": "malformed",
	} {
		s, err := gbs.Parse(text)
		got := ""
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			got = "unsupported"
		case err != nil:
			got = "malformed"
		default:
			got = s.String()
			for _, verb := range []string{"%v", "%s"} {
				if err := secretsIn(fmt.Sprintf(verb, s)); err != nil {
					t.Error(err)
				}
			}
		}
		if got != want {
			t.Errorf("%s: %s (%v), want %s", text, got, err, want)
		}
		if err != nil {
			if err := secretsIn(err.Error()); err != nil {
				t.Error(err)
			}
		}
	}
}
