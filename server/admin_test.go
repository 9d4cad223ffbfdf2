package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/grid"
	"spillway/server"
	"spillway/spool"
)

// admin sends a request to the admin listener and decodes the answer's JSON.
func (g *gateway) adminJSON(method, path string, header ...string) (int, map[string]any) {
	g.t.Helper()
	res, body, err := g.try(method, g.admin.URL+path, header...)
	if err != nil {
		g.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		g.t.Fatalf("%s: %v: %s", path, err, body)
	}
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		g.t.Errorf("%s: Cache-Control %q", path, got)
	}
	return res.StatusCode, answer
}

func keys(m map[string]any) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestAdmin(t *testing.T) {
	g := newGateway(t, spool.Config{Budget: 10 << 20})
	bearer := []string{"Authorization", "Bearer " + adminToken}
	data := pattern(100 << 10)
	readCap := g.put(data)
	id := idOf(t, readCap)

	if status, state := g.adminJSON("GET", "/admin/spool", bearer...); status != 200 || len(state["entries"].([]any)) != 0 {
		t.Fatalf("an empty spool: %d %v", status, state)
	}
	g.get("GET", "/uri/"+readCap)
	g.log.await(0) // by now the reader is closed
	status, state := g.adminJSON("GET", "/admin/spool", bearer...)
	if status != 200 || !slices.Equal(keys(state), []string{"budget_bytes", "entries", "reserved_bytes", "spooled_bytes"}) ||
		state["budget_bytes"] != float64(10<<20) || state["spooled_bytes"] != float64(len(data)) {
		t.Fatalf("%d %v", status, state)
	}
	entry := state["entries"].([]any)[0].(map[string]any)
	if !slices.Equal(keys(entry), []string{"age_seconds", "expires_in_seconds", "id", "idle_seconds", "readers", "size", "spooled_bytes", "state"}) ||
		entry["id"] != id || entry["size"] != float64(len(data)) || entry["spooled_bytes"] != float64(len(data)) || entry["state"] != "complete" {
		t.Errorf("entry %v", entry)
	}
	if status, entry := g.adminJSON("GET", "/admin/spool/"+id, bearer...); status != 200 || entry["id"] != id {
		t.Errorf("one entry: %d %v", status, entry)
	}
	for _, path := range []string{"/admin/spool/nothing", "/admin/spool/" + readCap} {
		for _, method := range []string{"GET", "DELETE"} {
			if status, answer := g.adminJSON(method, path, bearer...); status != 404 || answer["error"] == "" {
				t.Errorf("%s: %d %v", path, status, answer)
			}
		}
	}
	if status, _ := g.adminJSON("DELETE", "/admin/spool?idle=perhaps", bearer...); status != 400 {
		t.Errorf("idle=perhaps: %d", status)
	}
	if status, answer := g.adminJSON("DELETE", "/admin/spool/"+id, bearer...); status != 200 ||
		!slices.Equal(keys(answer), []string{"entries", "freed_bytes", "waiting_bytes"}) || answer["entries"] != 1.0 ||
		answer["freed_bytes"].(float64)+answer["waiting_bytes"].(float64) != float64(len(data)) {
		// The sum counts, since a worker of the fill may be leaving yet.
		t.Errorf("purge: %d %v", status, answer)
	}
	if status, _ := g.adminJSON("GET", "/admin/spool/"+id, bearer...); status != 404 {
		t.Errorf("after the purge: %d", status)
	}
}

// TestAdminReaders: an entry that somebody reads does not expire, and is spared by ?idle=true.
func TestAdminReaders(t *testing.T) {
	g := newGateway(t, spool.Config{})
	bearer := []string{"Authorization", "Bearer " + adminToken}
	readCap := g.capOf("held", 1<<20)
	g.serve(readCap, func(context.Context) (spool.Source, error) {
		return &source{data: make([]byte, 1<<20), chunk: 1 << 16, before: func(ctx context.Context, i int64) error {
			if i < 8 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}}, nil
	})
	_, r := g.dial("GET /uri/" + readCap + " HTTP/1.1\nHost: x\n\n")
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, entry := g.adminJSON("GET", "/admin/spool/"+idOf(t, readCap), bearer...)
	if entry["readers"] != 1.0 || entry["expires_in_seconds"] != nil || entry["state"] != "filling" {
		t.Errorf("entry %v", entry)
	}
	if _, answer := g.adminJSON("DELETE", "/admin/spool?idle=true", bearer...); answer["entries"] != 0.0 {
		t.Errorf("purge of the idle: %v", answer)
	}
	if _, answer := g.adminJSON("DELETE", "/admin/spool?idle=false", bearer...); answer["entries"] != 1.0 {
		t.Errorf("purge: %v", answer)
	}
	if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// TestAdminShares: of one entry the operator sees which shares there are, as it is read and after
// it failed.
func TestAdminShares(t *testing.T) {
	g := newGateway(t, spool.Config{})
	bearer := []string{"Authorization", "Bearer " + adminToken}
	readCap := g.put(pattern(100 << 10))
	g.get("GET", "/uri/"+readCap)
	parsed, err := caps.Parse(readCap)
	if err != nil {
		t.Fatal(err)
	}
	f, err := g.client.Open(t.Context(), parsed) // the spool closes its own when it has all
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, entry := g.adminJSON("GET", "/admin/spool/"+idOf(t, readCap), bearer...)
	want := regexp.MustCompile(`^3 of 5 shares needed; have [345]: \w+ \(share \d\), `)
	if text, _ := entry["shares"].(string); !want.MatchString(text) || entry["error"] != nil {
		t.Errorf("entry %v, want shares %v", entry, want)
	}

	for name, test := range map[string]struct {
		err           error
		shares, error any
	}{
		"few": {fmt.Errorf("chunk 3: %w", &decode.NotEnoughSharesError{Needed: 3, Total: 10,
			Found:  []grid.SharePlace{{Share: 1, Server: "a"}, {Share: 4, Server: "b"}},
			Failed: []grid.ServerError{{Server: "c", Err: context.DeadlineExceeded}}}),
			"3 of 10 shares needed; have 2: a (share 1), b (share 4); c timed out", nil},
		"odd": {errors.New("the disk is on fire"), nil, "the disk is on fire"},
	} {
		readCap := g.capOf(name, 1<<20)
		g.serve(readCap, func(context.Context) (spool.Source, error) {
			return &source{data: make([]byte, 1<<20), chunk: 1 << 16, before: func(_ context.Context, i int64) error {
				if i == 8 {
					return test.err
				}
				return nil
			}}, nil
		})
		if _, _, err := g.try("GET", g.public.URL+"/uri/"+readCap); err == nil {
			t.Errorf("%s: the download is whole", name)
		}
		_, entry := g.adminJSON("GET", "/admin/spool/"+idOf(t, readCap), bearer...)
		if entry["shares"] != test.shares || entry["error"] != test.error {
			t.Errorf("%s: %v", name, entry)
		}
	}
}

func TestAdminToken(t *testing.T) {
	g := newGateway(t, spool.Config{})
	for _, test := range []struct {
		authorization string
		status        int
	}{
		{"", 401},
		{"Bearer", 401},
		{"Bearer ", 401},
		{"Bearer wrong", 401},
		{"Bearer " + adminToken[1:], 401},
		{"Bearer " + adminToken + "x", 401},
		{"Basic " + adminToken, 401},
		{adminToken, 401},
		{"Bearer " + adminToken, 200},
		{"bearer  " + adminToken, 200},
	} {
		for _, request := range []string{"GET /admin/spool", "DELETE /admin/spool", "GET /admin/spool/x", "DELETE /admin/spool/x"} {
			method, path, _ := strings.Cut(request, " ")
			res, _, err := g.try(method, g.admin.URL+path, "Authorization", test.authorization)
			if err != nil {
				t.Fatal(err)
			}
			want := test.status
			if want == 200 && strings.HasSuffix(path, "/x") {
				want = 404
			}
			if res.StatusCode != want || (want == 401) != strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%q: %s: %d %v", test.authorization, request, res.StatusCode, res.Header)
			}
		}
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		if res, _, err := g.try("GET", g.admin.URL+path); err != nil || res.StatusCode != 200 {
			t.Errorf("%s: %v %v", path, res, err)
		}
	}
	if res, _, err := g.try("POST", g.admin.URL+"/admin/spool", "Authorization", "Bearer "+adminToken); err != nil || res.StatusCode != 405 || res.Header.Get("Allow") == "" {
		t.Errorf("POST: %v %v", res, err)
	}
}

// TestAdminWithoutToken: only this machine, and no web page elsewhere.
func TestAdminWithoutToken(t *testing.T) {
	sp := newSpool(t, spool.Config{}, newLogLines())
	defer sp.Close()
	s := server.New(server.Config{Spool: sp})
	for _, test := range []struct {
		host   string
		header []string
		status int
	}{
		{"127.0.0.1:8081", nil, 200},
		{"127.8.8.8", nil, 200},
		{"localhost:8081", nil, 200},
		{"LOCALHOST", nil, 200},
		{"[::1]:8081", nil, 200},
		{"[::1]", nil, 200},
		{"[::ffff:127.0.0.1]:80", nil, 200},
		{"rebound.example:8081", nil, 403},
		{"127.0.0.1.example", nil, 403},
		{"localhost.example", nil, 403},
		{"10.0.0.1:8081", nil, 403},
		{"", nil, 403},
		{"localhost:8081", []string{"Origin", "http://localhost:8081"}, 200},
		{"localhost:8081", []string{"Origin", "http://localhost:9999"}, 403},
		{"localhost:8081", []string{"Origin", "https://evil.example"}, 403},
		{"localhost:8081", []string{"Origin", "null"}, 403},
		{"localhost:8081", []string{"Sec-Fetch-Site", "none"}, 200},
		{"localhost:8081", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"localhost:8081", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"localhost:8081", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		for _, request := range [][2]string{{"GET", "/admin/spool"}, {"DELETE", "/admin/spool"}, {"GET", "/metrics"}} {
			method := request[0]
			req := httptest.NewRequest(method, request[1], nil)
			req.Host = test.host
			for i := 0; i < len(test.header); i += 2 {
				req.Header.Set(test.header[i], test.header[i+1])
			}
			rec := httptest.NewRecorder()
			s.Admin().ServeHTTP(rec, req)
			if rec.Code != test.status {
				t.Errorf("%s to %q with %v: %d %s", method, test.host, test.header, rec.Code, rec.Body)
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	g := newGateway(t, spool.Config{})
	readCap := g.put(pattern(1000))
	g.get("GET", "/uri/"+readCap)
	g.get("GET", "/uri/"+readCap, "Range", "bytes=0-99")
	g.get("GET", "/uri/"+g.capOf("lost", 10))
	g.get("GET", "/no/such/path")
	g.get("FROB", "/uri/"+readCap)
	for n := range 5 {
		g.log.await(n)
	}
	_, body, err := g.try("GET", g.admin.URL+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`spillway_http_requests_total{listener="public",route="/uri/*",status="200"} 1`,
		`spillway_http_requests_total{listener="public",route="/uri/*",status="206"} 1`,
		`spillway_http_requests_total{listener="public",route="/uri/*",status="410"} 1`,
		`spillway_http_requests_total{listener="public",route="/uri/*",status="405"} 1`,
		`spillway_http_requests_total{listener="public",route="unmatched",status="404"} 1`,
		`spillway_http_outcomes_total{outcome="complete"} 2`,
		`spillway_http_outcomes_total{outcome="refused"} 3`,
		`spillway_http_requests_in_flight 1`, // this one
		`spillway_http_first_byte_seconds_count 2`,
		`spillway_spool_acquires_total{outcome="hit"} 1`,
		`spillway_spool_acquires_total{outcome="miss"} 2`,
		`spillway_spool_written_bytes_total 1000`,
		`spillway_spool_entries{state="complete"} 1`,
		`spillway_build_info{version="test"} 1`,
	} {
		if !strings.Contains(string(body), "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(string(body)) {
			if strings.HasPrefix(line, "spillway") {
				t.Log(line)
			}
		}
	}
}

// TestShutdown: running downloads may finish while the context lasts; then they are cut.
func TestShutdown(t *testing.T) {
	g := newGateway(t, spool.Config{})
	hold := make(chan struct{})
	data := pattern(1 << 20)
	holding := func(hold chan struct{}) func(context.Context) (spool.Source, error) {
		return func(context.Context) (spool.Source, error) {
			return &source{data: data, chunk: 1 << 16, before: func(ctx context.Context, i int64) error {
				if i < 8 {
					return nil
				}
				select {
				case <-hold:
				case <-ctx.Done():
				}
				return ctx.Err()
			}}, nil
		}
	}
	finishing, endless := g.capOf("finishing", 1<<20), g.capOf("endless", 1<<20)
	g.serve(finishing, holding(hold))
	g.serve(endless, holding(nil))
	_, a := g.dial("GET /uri/" + finishing + " HTTP/1.1\nHost: x\n\n")
	_, b := g.dial("GET /uri/" + endless + " HTTP/1.1\nHost: x\n\n")
	resA, err := http.ReadResponse(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	resB, err := http.ReadResponse(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error)
	go func() { down <- g.Shutdown(ctx, g.public.Config, g.admin.Config) }()
	close(hold)
	if n, err := io.Copy(io.Discard, resA.Body); n != 1<<20 || err != nil {
		t.Errorf("the finishing download: %d bytes, %v", n, err)
	}
	g.log.await(0)
	cancel()
	if err := <-down; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if n, err := io.Copy(io.Discard, resB.Body); n >= 1<<20 || err == nil {
		t.Errorf("the endless download: %d bytes, %v", n, err)
	}
	g.log.await(1) // Shutdown does not wait for the handlers that it has cut
	rec := httptest.NewRecorder()
	g.Public().ServeHTTP(rec, httptest.NewRequest("GET", "/healthz", nil))
	if rec.Code != http.StatusServiceUnavailable {
		t.Errorf("healthz: %d", rec.Code)
	}
	for n, want := range []string{"complete", "cut", "refused"} {
		if rec := g.log.await(n); rec["outcome"] != want {
			t.Errorf("logged %v, want %s", rec, want)
		}
	}
}

// TestDiscardedLog: a nil logger is fine.
func TestDiscardedLog(t *testing.T) {
	sp := newSpool(t, spool.Config{}, io.Discard)
	defer sp.Close()
	s := server.New(server.Config{Spool: sp})
	rec := httptest.NewRecorder()
	s.Public().ServeHTTP(rec, httptest.NewRequest("GET", "/uri/URI:LIT:nruxizlsmfwcc", nil))
	if rec.Body.String() != "literal!" {
		t.Errorf("%d %q", rec.Code, rec.Body)
	}
	if hs := s.HTTPServer(s.Public()); hs.ReadHeaderTimeout != 10*time.Second || hs.WriteTimeout != 0 {
		t.Error("limits")
	}
}

// TestUnasked: what browsers and robots ask for on their own is no error, in the log and in the
// metrics.
func TestUnasked(t *testing.T) {
	g := newGateway(t, spool.Config{})
	for n, path := range []string{"/", "/robots.txt", "/favicon.ico"} {
		g.get("GET", path)
		if rec := g.log.await(n); rec["outcome"] != "complete" || rec["level"] != "INFO" || rec["route"] != path || rec["error"] != nil {
			t.Errorf("%s: logged %v", path, rec)
		}
	}
}
