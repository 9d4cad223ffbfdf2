package server_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"spillway/server"
	"spillway/spool"
)

// TestLostShares: what a grid that has lost shares, or a server, is answered as.
func TestLostShares(t *testing.T) {
	g := newGateway(t, spool.Config{})
	data := pattern(1 << 20)
	readCap := g.put(data) // share i is on server i
	lose := func(i int) {
		t.Helper()
		shares := filepath.Join(g.storage[i], "shares")
		if err := errors.Join(os.RemoveAll(shares), os.Mkdir(shares, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	lose(0)
	lose(3)
	if res, body := g.get("GET", "/uri/"+readCap); res.StatusCode != 200 || string(body) != string(data) {
		t.Errorf("with k shares: %d, %d bytes", res.StatusCode, len(body))
	}
	g.spool.PurgeAll(false)
	lose(4)
	few := regexp.MustCompile(`^3 of 5 shares needed; have 2: \w+ \(share \d\), \w+ \(share \d\); every server has answered\n$`)
	if res, body := g.get("GET", "/uri/"+readCap); res.StatusCode != 410 || !few.Match(body) {
		t.Errorf("with k-1 shares: %d, %q", res.StatusCode, body)
	}
	if err := os.RemoveAll(g.storage[4]); err != nil {
		t.Fatal(err)
	}
	if res, body := g.get("HEAD", "/uri/"+readCap); res.StatusCode != 503 || res.Header.Get("Retry-After") != "60" {
		t.Errorf("without a server: %d, %q %v", res.StatusCode, body, res.Header)
	}
}

// TestRequestLimits: a request's header has a limit, and a silent client costs no handler.
func TestRequestLimits(t *testing.T) {
	g := newGateway(t, spool.Config{})
	_, r := g.dial("GET /uri/URI:LIT: HTTP/1.1\nHost: x\nX: " + strings.Repeat("x", 80<<10) + "\n\n")
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 80 KiB: %v %v", res, err)
	}
}

// TestLongNames: a name is cut before its extension and between its characters, so that no link
// makes a header of any length that it likes.
func TestLongNames(t *testing.T) {
	for name, want := range map[string]string{
		strings.Repeat("x", 255):                    strings.Repeat("x", 255),
		strings.Repeat("x", 256):                    strings.Repeat("x", 255),
		strings.Repeat("x", 252) + ".txt":           strings.Repeat("x", 251) + ".txt",
		strings.Repeat("x", 300) + ".tar.gz":        strings.Repeat("x", 252) + ".gz",
		strings.Repeat("🐌", 64):                     strings.Repeat("🐌", 63),
		strings.Repeat("é", 128) + ".gz":            strings.Repeat("é", 126) + ".gz",
		"a." + strings.Repeat("x", 260):             "a." + strings.Repeat("x", 253),
		"." + strings.Repeat("x", 260):              "." + strings.Repeat("x", 254),
		strings.Repeat("x", 300) + ".":              strings.Repeat("x", 254) + ".",
		strings.Repeat("x", 300) + ".\xff\xff\xff":  strings.Repeat("x", 251) + ".\uFFFD",
		strings.Repeat("x", 60000) + "/..html.html": strings.Repeat("x", 250) + ".html",
	} {
		if got := server.CleanName(name); got != want {
			t.Errorf("%.20q… of %d bytes: %q, want %q", name, len(name), got, want)
		}
	}
	g := newGateway(t, spool.Config{})
	const literal = "URI:LIT:nruxizlsmfwcc"
	name := strings.Repeat("%F0%9F%90%8C", 5000)
	for _, path := range []string{"/uri/" + literal + "?save=true&filename=" + name + ".html", "/named/" + literal + "/" + name + ".html"} {
		res, body := g.get("GET", path)
		header := 0
		for field, values := range res.Header {
			header += len(field) + len(values[0]) + len(": \r\n")
		}
		if res.StatusCode != 200 || string(body) != "literal!" || header > 2<<10 || res.Header.Get("Content-Type") != "text/html" {
			t.Errorf("%d, a header of %d bytes, %q", res.StatusCode, header, body)
		}
	}
	if res, _ := g.get("GET", "/uri?uri="+literal+"&filename="+name); res.StatusCode != http.StatusRequestURITooLong || res.Header.Get("Location") != "" {
		t.Errorf("a long address: %d", res.StatusCode)
	}
}

func TestContentType(t *testing.T) {
	for name, want := range map[string]string{
		"":              "application/octet-stream",
		"README":        "application/octet-stream",
		"a.unknown":     "application/octet-stream",
		"a.txt":         "text/plain; charset=utf-8",
		"A.TXT":         "text/plain; charset=utf-8",
		"a.html":        "text/html",
		"a.tar.gz":      "application/gzip",
		"a.svg":         "image/svg+xml",
		".png":          "image/png",
		"a.png/b":       "application/octet-stream",
		"film.mkv":      "video/matroska",
		"table.parquet": "application/vnd.apache.parquet",
	} {
		if got := server.ContentTypeOf(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// TestPolicy: what can hold scripts is sandboxed without an origin.
func TestPolicy(t *testing.T) {
	for contentType, sandbox := range map[string]string{
		"text/html":                 "sandbox allow-downloads;",
		"application/xhtml+xml":     "sandbox allow-downloads;",
		"image/svg+xml":             "sandbox allow-downloads;",
		"application/octet-stream":  "sandbox allow-downloads;",
		"text/plain; charset=utf-8": "sandbox allow-downloads;",
		"image/png":                 "sandbox allow-same-origin allow-downloads;",
		"video/mp4":                 "sandbox allow-same-origin allow-downloads;",
		"audio/flac":                "sandbox allow-same-origin allow-downloads;",
		"application/pdf":           "default-src",
	} {
		policy := server.ContentSecurityPolicy(contentType)
		if !strings.HasPrefix(policy, sandbox) || !strings.Contains(policy, "default-src 'none';") || strings.Contains(policy, "script") {
			t.Errorf("%s: %s", contentType, policy)
		}
	}
}

// FuzzDisposition: whatever the name, the field is one line of ASCII with
// nothing in the quotes that could end them.
func FuzzDisposition(f *testing.F) {
	for _, name := range []string{"a.txt", `a"b\c`, "a/../b", "\u202etxt.exe", "\x00\r\n", "100%41", "\xff", "€"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		name = server.CleanName(name)
		if strings.ContainsAny(name, "/\x00\r\n") || name == ".." {
			t.Fatalf("cleaned to %q", name)
		}
		field := server.ContentDisposition(name, true)
		if strings.Count(field, `"`) != 2 || strings.Contains(field, `\`) {
			t.Fatalf("quotes: %s", field)
		}
		for i := range len(field) {
			if field[i] < ' ' || field[i] > '~' {
				t.Fatalf("not printable: %q", field)
			}
		}
	})
}
