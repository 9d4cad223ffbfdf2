// Package gbs reads and writes Tahoe-LAFS storage servers over HTTPS, by the
// protocol called Great Black Swamp (docs/specifications/http-storage-node-protocol.rst).
// Where that and the servers of Tahoe-LAFS 1.20 (src/allmydata/storage/http_server.py)
// disagree, it follows the servers.
package gbs

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"spillway/decode/grid"
)

const (
	maxConnections = 16               // to one server; further requests wait for one
	idleTimeout    = 45 * time.Second // servers close a connection that is idle for 60
	dialTimeout    = 10 * time.Second // for each location, and again for TLS
	// requestTimeout: for the first request of an upload, which nobody else bounds.
	requestTimeout = time.Minute
	abortTimeout   = 10 * time.Second
	maxHeader      = 32 << 10 // bytes of an answer's header; real ones have some 200
	// maxDiscard: of an unwanted body that is read so that its connection can be used again.
	maxDiscard = 4 << 10
)

// Server is one storage server. It keeps up to sixteen connections for 45 seconds after
// their last use, each with some 70 KB, most of them crypto/tls's.
type Server struct {
	nurl      nurl
	header    http.Header // of every request; holds the swissnum
	transport *http.Transport
	last      atomic.Int64 // the location that could be reached last
	// node: of the certificate that was seen last; nil before the first connection.
	node     atomic.Pointer[grid.NodeID]
	received atomic.Int64 // bytes
	made     time.Time
	moved    atomic.Int64 // when the server last took or said something, in nanoseconds since made
}

// Parse returns the Server that a URL names: pb://KEY@HOST:PORT/SWISSNUM#v=1, with
// several locations separated by commas. It connects to nothing yet. The
// error does not quote the URL, which holds a secret, and matches
// errors.ErrUnsupported for servers that are reached otherwise.
func Parse(text string) (*Server, error) {
	n, err := parseNURL(text)
	if err != nil {
		return nil, err
	}
	s := &Server{nurl: n, made: time.Now(), header: http.Header{
		"Authorization": {"Tahoe-LAFS " + base64.StdEncoding.EncodeToString([]byte(n.swissnum))},
		// Servers answer a CBOR request that accepts anything (*/*) with 406.
		"Accept":     {cborType},
		"User-Agent": {"spillway"},
	}}
	s.transport = &http.Transport{
		DialContext: s.dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// The key itself is known, so neither names nor authorities say anything.
			InsecureSkipVerify: true,
			VerifyConnection:   s.verifyKey,
		},
		Protocols:              new(http.Protocols),
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxConnsPerHost:        maxConnections,
		MaxIdleConnsPerHost:    maxConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
	}
	s.transport.Protocols.SetHTTP1(true) // servers speak nothing newer
	return s, nil
}

// String returns the server's URL without the swissnum.
func (s *Server) String() string { return s.nurl.String() }

// NodeID is of the certificate that was seen last.
func (s *Server) NodeID() (grid.NodeID, bool) {
	if id := s.node.Load(); id != nil {
		return *id, true
	}
	return grid.NodeID{}, false
}

// Received counts what HTTP and TLS add as well.
func (s *Server) Received() int64 { return s.received.Load() }

// Close closes the connections, which are idle by now.
func (s *Server) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// dial connects to the first location that can be reached, beginning with the one
// that could be reached last. The address is the transport's name for the server.
func (s *Server) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	first := int(s.last.Load())
	var errs error
	for i := range s.nurl.locations {
		i = (first + i) % len(s.nurl.locations)
		conn, err := dialer.DialContext(ctx, network, s.nurl.locations[i])
		if err == nil {
			s.last.Store(int64(i))
			return newConn(conn.(*net.TCPConn), &s.received)
		}
		errs = errors.Join(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errs
}

// verifyKey accepts the one key that the URL names. TLS has proven that the
// server holds it.
func (s *Server) verifyKey(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	cert := state.PeerCertificates[0]
	if key := sha256.Sum256(cert.RawSubjectPublicKeyInfo); key != s.nurl.key {
		return &keyError{key, s.nurl.key}
	}
	node := grid.NodeID(sha1.Sum(cert.Raw))
	s.node.Store(&node)
	return nil
}

// transportError makes of an error of the network one that callers can tell from the others.
func transportError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	}
	return err
}

// do sends one request and returns the answer, whatever its status. The caller ends it
// with discard or by closing the body, which closes the connection unless all has been read.
func (s *Server) do(ctx context.Context, method, path string, more http.Header, body *outgoing) (*http.Response, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	req := &http.Request{
		Method: method,
		URL:    &url.URL{Scheme: "https", Host: s.nurl.locations[0], Path: path},
		Header: make(http.Header, len(s.header)+len(more)),
	}
	for _, h := range []http.Header{s.header, more} {
		for name, values := range h {
			req.Header[name] = values
		}
	}
	if body != nil {
		req.ContentLength = int64(len(body.bytes))
		req.GetBody = func() (io.ReadCloser, error) { return body.send(s), nil }
		req.Body = body.send(s)
	}
	// Not by a http.Client, which would follow redirects and take the secrets along.
	resp, err := s.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, transportError(ctx, err)
	}
	s.move()
	return resp, nil
}

// outgoing is a request's body. The transport may read it even when it has already returned, and
// may begin anew.
type outgoing struct {
	bytes   []byte
	reading sync.WaitGroup // until nobody reads it any more
}

func (o *outgoing) send(s *Server) *sending {
	o.reading.Add(1)
	return &sending{server: s, body: bytes.NewReader(o.bytes), done: sync.OnceFunc(o.reading.Done)}
}

// sending is a body on its way.
type sending struct {
	server *Server
	body   *bytes.Reader
	done   func()
}

// Read is called when the connection takes more.
func (b *sending) Read(p []byte) (int, error) {
	b.server.move()
	return b.body.Read(p)
}

// Close is called in the end, whatever that is.
func (b *sending) Close() error {
	b.done()
	return nil
}

func (s *Server) move() { s.moved.Store(int64(time.Since(s.made))) }

// watch cancels a request when the server has taken and said nothing for the stall timeout: to
// anybody, as requests wait for one another where a line is slow. The caller calls stop at the end.
func (s *Server) watch(cancel context.CancelCauseFunc) (stop func()) {
	s.move()
	var mu sync.Mutex
	var timer *time.Timer
	stopped := false
	var arm func(after time.Duration)
	arm = func(after time.Duration) {
		timer = time.AfterFunc(after, func() {
			mu.Lock()
			defer mu.Unlock()
			if stopped {
				return
			}
			idle := time.Since(s.made) - time.Duration(s.moved.Load())
			if idle >= stallTimeout {
				cancel(errStalled)
				return
			}
			arm(stallTimeout - idle)
		})
	}
	mu.Lock()
	defer mu.Unlock()
	arm(stallTimeout)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}

// discard ends an answer. Its connection can be used again if little of the body is
// left, and is closed if not.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxDiscard)
	resp.Body.Close()
}

// call sends one request whose answer is CBOR of a few bytes, to be decoded into answer.
// If that is nil the answer does not matter.
func (s *Server) call(ctx context.Context, method, path string, more http.Header, body []byte, status int, answer any) error {
	var out *outgoing
	if body != nil {
		out = &outgoing{bytes: body}
		defer out.reading.Wait() // the body is the caller's again
	}
	resp, err := s.do(ctx, method, path, more, out)
	if err != nil {
		return err
	}
	defer discard(resp)
	if resp.StatusCode != status {
		return refusal(resp.StatusCode)
	}
	if answer == nil {
		return nil
	}
	return decodeAnswer(ctx, resp, answer)
}

func decodeAnswer(ctx context.Context, resp *http.Response, answer any) error {
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != cborType {
		return errors.New("the server's answer is not CBOR")
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return transportError(ctx, err)
	}
	return unmarshal(b, answer)
}

const api = "/storage/v1/"

// immutable returns the path of what belongs to si.
func immutable(si grid.StorageIndex, rest string) string {
	return api + "immutable/" + si.String() + rest
}

func sharePath(si grid.StorageIndex, num int) string {
	return immutable(si, "/"+strconv.Itoa(num))
}

// Shares lists the share numbers of si.
func (s *Server) Shares(ctx context.Context, si grid.StorageIndex) ([]int, error) {
	var nums shareSet
	if err := s.call(ctx, http.MethodGet, immutable(si, "/shares"), nil, nil, http.StatusOK, &nums); err != nil {
		return nil, err
	}
	return nums, nil
}

// Version is what a server says of itself.
type Version struct {
	Application    string // such as tahoe-lafs/1.20.0
	MaxShareSize   int64  // bytes that a share may have
	AvailableSpace int64  // bytes; math.MaxInt64 where the server cannot tell
}

// Version asks the server for its version, which shows that it can be reached.
func (s *Server) Version(ctx context.Context) (Version, error) {
	var v versionAnswer
	if err := s.call(ctx, http.MethodGet, api+"version", nil, nil, http.StatusOK, &v); err != nil {
		return Version{}, err
	}
	return Version{
		Application:    printable(v.Application),
		MaxShareSize:   int64(v.Storage.MaxShareSize),
		AvailableSpace: int64(v.Storage.AvailableSpace),
	}, nil
}

// maxReason is how much of a reason is sent; servers take up to 32765 bytes.
const maxReason = 1000

// ReportCorrupt advises the server's operator of a bad share.
func (s *Server) ReportCorrupt(ctx context.Context, si grid.StorageIndex, num int, reason string) error {
	reason = printable(reason)
	if reason == "" {
		reason = "corrupt"
	}
	header := http.Header{"Content-Type": {cborType}}
	err := s.call(ctx, http.MethodPost, sharePath(si, num)+"/corrupt", header, marshal(corruptRequest{reason}), http.StatusOK, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
