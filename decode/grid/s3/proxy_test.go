package s3_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"spillway/decode/grid/s3/s3test"
)

// proxy stands between a client and the S3 server, which does not notice: it sees what is asked,
// and may answer itself.
type proxy struct {
	*httptest.Server

	mu sync.Mutex
	// hook: if not nil, answers.
	hook func(w http.ResponseWriter, r *http.Request, forward http.Handler)
	// requests: method, query without values, range.
	requests []string
	open     int // connections
	// most: connections at a time.
	most int
}

// through starts a proxy that ends with the test, and returns it and the URL of a bucket behind it.
func through(t testing.TB, server *s3test.Server, bucket string) (*proxy, string) {
	t.Helper()
	direct := server.Bucket(t, bucket)
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	quiet := log.New(io.Discard, "", 0)
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	forward := &httputil.ReverseProxy{
		// The Host is signed, so it stays.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      quiet,
	}
	p := &proxy{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, describe(r))
		hook := p.hook
		p.mu.Unlock()
		if hook == nil {
			forward.ServeHTTP(w, r)
		} else {
			hook(w, r, forward)
		}
	}))
	p.Config.ErrorLog = quiet
	p.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch state {
		case http.StateNew:
			p.open++
			p.most = max(p.most, p.open)
		case http.StateClosed, http.StateHijacked:
			p.open--
		}
	}
	p.Start()
	t.Cleanup(func() {
		p.Close()
		transport.CloseIdleConnections()
	})
	return p, strings.Replace(direct, server.Endpoint, p.URL, 1)
}

// describe says what matters of a request.
func describe(r *http.Request) string {
	words := []string{r.Method}
	for _, name := range []string{"list-type", "uploads", "partNumber", "uploadId", "location"} {
		if r.URL.Query().Has(name) {
			words = append(words, name)
		}
	}
	for _, name := range []string{"Range", "If-None-Match"} {
		if v := r.Header.Get(name); v != "" {
			words = append(words, v)
		}
	}
	return strings.Join(words, " ")
}

// asked returns the requests since it was called last.
func (p *proxy) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := p.requests
	p.requests = nil
	return requests
}

// intercept sets the hook.
func (p *proxy) intercept(hook func(w http.ResponseWriter, r *http.Request, forward http.Handler)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// cut ends the connection of a request without more ado.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
}

// swallow answers nothing of what is written.
type swallow struct{ header http.Header }

func (s swallow) Header() http.Header         { return s.header }
func (s swallow) Write(p []byte) (int, error) { return len(p), nil }
func (s swallow) WriteHeader(int)             {}

// part answers with a part as it is said.
func part(w http.ResponseWriter, contentRange, length, body string) {
	w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	if contentRange != "" {
		w.Header().Set("Content-Range", contentRange)
	}
	if length != "" {
		w.Header().Set("Content-Length", length)
	}
	w.WriteHeader(http.StatusPartialContent)
	io.WriteString(w, body)
}
