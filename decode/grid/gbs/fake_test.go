package gbs_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"spillway/decode/grid/gbs"
)

// swissnum is what must never be seen.
const swissnum = "sw1ssnum-of-the-tests"

// fake is a storage server in memory that answers as Tahoe-LAFS 1.20's do and
// refuses what they refuse.
type fake struct {
	*httptest.Server

	mu sync.Mutex
	// hook: if not nil, called first; true: it has answered.
	hook      func(w http.ResponseWriter, r *http.Request) bool
	onVersion func(version map[any]any) // if not nil, changes the version
	shares    map[string][]byte         // by "SI/NUM"
	uploads   map[string]*fakeUpload
	requests  []string              // method, path, range
	leases    []string              // what was given as lease secrets
	reports   []string              // of corruption
	conns     map[net.Conn]struct{} // open ones
	opened    int                   // connections ever
}

type fakeUpload struct {
	secret  string
	bytes   []byte
	written []byte // 1 or 0 for each byte
}

// start starts a server that ends with the test.
func start(t testing.TB) *fake {
	t.Helper()
	f := &fake{shares: map[string][]byte{}, uploads: map[string]*fakeUpload{}, conns: map[net.Conn]struct{}{}}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.EnableHTTP2 = true // real ones do not, but nobody must ask for it
	f.Config.ConnState = func(c net.Conn, state http.ConnState) {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch state {
		case http.StateNew:
			f.opened++
			f.conns[c] = struct{}{}
		case http.StateClosed, http.StateHijacked:
			delete(f.conns, c)
		}
	}
	f.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that refuse the key
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

// key returns the key of the server's URL.
func (f *fake) key() string {
	hash := sha256.Sum256(f.Certificate().RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

func (f *fake) address() string { return f.Listener.Addr().String() }

// intercept sets the hook.
func (f *fake) intercept(hook func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// connections returns how many there have been, and how many are open.
func (f *fake) connections() (ever, open int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened, len(f.conns)
}

// client returns a client of the server.
func (f *fake) client(t testing.TB) *gbs.Server {
	t.Helper()
	return parse(t, "pb://"+f.key()+"@"+f.address()+"/"+swissnum+"#v=1")
}

// parse returns the client of a URL, which is closed at the end of the test.
func parse(t testing.TB, url string) *gbs.Server {
	t.Helper()
	s, err := gbs.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var (
	sharesPath = regexp.MustCompile(`^/storage/v1/immutable/([a-z2-7]{26})/shares$`)
	sharePath  = regexp.MustCompile(`^/storage/v1/immutable/([a-z2-7]{26}/\d+)(/abort|/corrupt)?$`)
	slotPath   = regexp.MustCompile(`^/storage/v1/immutable/([a-z2-7]{26})$`)
	closed     = regexp.MustCompile(`^bytes=(\d+)-(\d+)$`)
	content    = regexp.MustCompile(`^bytes (\d+)-(\d+)/\*$`)
)

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")+r.Header.Get("Content-Range")))
	hook := f.hook
	f.mu.Unlock()
	switch {
	case r.ProtoMajor != 1:
		http.Error(w, "HTTP/2", http.StatusHTTPVersionNotSupported)
	case r.Header.Get("Authorization") != "Tahoe-LAFS "+base64.StdEncoding.EncodeToString([]byte(swissnum)):
		w.WriteHeader(http.StatusUnauthorized)
	case hook != nil && hook(w, r):
	default:
		f.answer(w, r)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	secrets := map[string]string{}
	for _, s := range r.Header["X-Tahoe-Authorization"] {
		kind, value, _ := strings.Cut(s, " ")
		secrets[kind] = value
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	share, slot, list := sharePath.FindStringSubmatch(r.URL.Path), slotPath.FindStringSubmatch(r.URL.Path), sharesPath.FindStringSubmatch(r.URL.Path)
	switch {
	case r.Method == "GET" && r.URL.Path == "/storage/v1/version" && len(secrets) == 0:
		f.version(w, r)
	case r.Method == "GET" && list != nil && len(secrets) == 0:
		f.send(w, r, http.StatusOK, set(f.numbers(list[1])))
	case r.Method == "GET" && share != nil && share[2] == "" && len(secrets) == 0:
		f.read(w, r, share[1])
	case r.Method == "POST" && slot != nil && len(secrets) == 3:
		f.allocate(w, r, slot[1], secrets, body)
	case r.Method == "PATCH" && share != nil && share[2] == "" && len(secrets) == 1:
		f.write(w, r, share[1], secrets["upload-secret"], body)
	case r.Method == "PUT" && share != nil && share[2] == "/abort" && len(secrets) == 1:
		u := f.uploads[share[1]]
		switch {
		case u == nil && f.shares[share[1]] != nil:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case u == nil:
			w.WriteHeader(http.StatusNotFound)
		case u.secret != secrets["upload-secret"]:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			delete(f.uploads, share[1])
		}
	case r.Method == "POST" && share != nil && share[2] == "/corrupt" && len(secrets) == 0:
		var report struct {
			Reason string `cbor:"reason"`
		}
		if err := cbor.Unmarshal(body, &report); err != nil || report.Reason == "" || len(body) > 32768 {
			w.WriteHeader(http.StatusBadRequest)
		} else if f.shares[share[1]] == nil {
			w.WriteHeader(http.StatusNotFound)
		} else {
			f.reports = append(f.reports, share[1]+": "+report.Reason)
		}
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

func (f *fake) numbers(si string) (nums []int) {
	for name := range f.shares {
		if num, ok := strings.CutPrefix(name, si+"/"); ok {
			n, _ := strconv.Atoi(num)
			nums = append(nums, n)
		}
	}
	return nums
}

func set(nums []int) cbor.Tag {
	return cbor.Tag{Number: 258, Content: append([]int{}, nums...)}
}

// send answers in CBOR, in chunks.
func (f *fake) send(w http.ResponseWriter, r *http.Request, status int, answer any) {
	if r.Header.Get("Accept") != "application/cbor" {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	b, err := cbor.Marshal(answer)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.WriteHeader(status)
	w.(http.Flusher).Flush()
	w.Write(b)
}

func (f *fake) version(w http.ResponseWriter, r *http.Request) {
	v := map[any]any{
		cbor.ByteString("http://allmydata.org/tahoe/protocols/storage/v1"): map[any]any{
			cbor.ByteString("maximum-immutable-share-size"): uint64(12345678901),
			cbor.ByteString("maximum-mutable-share-size"):   uint64(69105000000000000),
			cbor.ByteString("available-space"):              uint64(98765432109),
		},
		cbor.ByteString("application-version"): []byte("tahoe-lafs/1.20.0"),
	}
	if f.onVersion != nil {
		f.onVersion(v)
	}
	f.send(w, r, http.StatusOK, v)
}

func (f *fake) read(w http.ResponseWriter, r *http.Request, name string) {
	b, ok := f.shares[name]
	m := closed.FindStringSubmatch(r.Header.Get("Range"))
	if !ok || m == nil {
		w.WriteHeader(map[bool]int{true: http.StatusRequestedRangeNotSatisfiable, false: http.StatusNotFound}[ok])
		return
	}
	first, _ := strconv.Atoi(m[1])
	last, _ := strconv.Atoi(m[2])
	last = min(last, len(b)-1)
	if first > last {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", first, last))
	w.WriteHeader(http.StatusPartialContent)
	for chunk := range slices.Chunk(b[first:last+1], 65536) {
		w.Write(chunk)
		w.(http.Flusher).Flush()
	}
}

func (f *fake) allocate(w http.ResponseWriter, r *http.Request, si string, secrets map[string]string, body []byte) {
	var request struct {
		Shares cbor.RawTag `cbor:"share-numbers"`
		Size   int         `cbor:"allocated-size"`
	}
	var nums []int
	err := cbor.Unmarshal(body, &request)
	if err == nil {
		err = cbor.Unmarshal(request.Shares.Content, &nums)
	}
	if err != nil || request.Shares.Number != 258 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.leases = append(f.leases, secrets["lease-renew-secret"]+" "+secrets["lease-cancel-secret"])
	var allocated []int
	for _, num := range nums {
		name := fmt.Sprintf("%s/%d", si, num)
		if f.shares[name] == nil && f.uploads[name] == nil {
			f.uploads[name] = &fakeUpload{secrets["upload-secret"], make([]byte, request.Size), make([]byte, request.Size)}
			allocated = append(allocated, num)
		}
	}
	f.send(w, r, http.StatusOK, map[string]any{"already-have": set(f.numbers(si)), "allocated": set(allocated)})
}

func (f *fake) write(w http.ResponseWriter, r *http.Request, name, secret string, body []byte) {
	u := f.uploads[name]
	m := content.FindStringSubmatch(r.Header.Get("Content-Range"))
	switch {
	case m == nil:
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	case u == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case u.secret != secret:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	first, _ := strconv.Atoi(m[1])
	last, _ := strconv.Atoi(m[2])
	if last >= len(u.bytes) || last-first+1 != len(body) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	for i := range body {
		if u.written[first+i] == 1 && u.bytes[first+i] != body[i] {
			w.WriteHeader(http.StatusConflict)
			return
		}
		u.written[first+i] = 1
	}
	copy(u.bytes[first:], body)
	type missing struct {
		Begin int `cbor:"begin"`
		End   int `cbor:"end"`
	}
	required, status := []missing{}, http.StatusOK
	if i := bytes.IndexByte(u.written, 0); i >= 0 {
		required = append(required, missing{i, len(u.bytes)})
	} else {
		status = http.StatusCreated
		f.shares[name] = u.bytes
		delete(f.uploads, name)
	}
	f.send(w, r, status, map[string]any{"required": required})
}

// cut ends the connection of a request without more ado.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
}

// raw answers with bytes as they are, and cuts the connection.
func raw(w http.ResponseWriter, answer string) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	buf.WriteString(answer)
	buf.Flush()
	conn.Close()
}

// secretsIn returns what a text holds that it must not.
func secretsIn(text string) error {
	for _, secret := range []string{swissnum, base64.StdEncoding.EncodeToString([]byte(swissnum)), "upload-secret", "Tahoe-LAFS"} {
		if strings.Contains(text, secret) {
			return errors.New("holds a secret: " + text)
		}
	}
	return nil
}
