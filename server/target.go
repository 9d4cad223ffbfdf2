package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"spillway/decode/caps"
	"spillway/server/transport"
)

// A target is what a URL asks for (Tahoe-LAFS docs/frontends/webapi.rst,
// "Downloading a file"):
//
//	/uri/CAP?filename=NAME
//	/file/CAP, /file/CAP/NAME, /file/CAP/@@named=/NAME
//	/named/CAP, /named/CAP/NAME
//
// each with ?save=true as well. A filename parameter wins over the path, of
// which only the last element names the file.
type target struct {
	cap      string // a secret: its text, not parsed yet
	name     string // cleaned; "" if none is given
	save     bool
	verb     string // the parameter t: what Tahoe-LAFS's API is to do with the file
	children bool   // the path goes on below a file of /uri, or ends as a directory's
}

// parseTarget reads a URL's escaped path, since an element may hold an escaped
// slash. The router has matched its first element.
func parseTarget(r *http.Request) (target, error) {
	var elements []string
	for element := range strings.SplitSeq(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/") {
		text, err := url.PathUnescape(element)
		if err != nil {
			return target{}, &failure{status: http.StatusBadRequest, line: "the URL's escapes are malformed"}
		}
		elements = append(elements, text)
	}
	route, elements := elements[0], elements[1:]
	var query url.Values
	if r.URL.RawQuery != "" {
		// A semicolon separates nothing (WHATWG URL, section 5.1): it belongs to the name.
		var err error
		if query, err = url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, ";", "%3B")); err != nil {
			return target{}, &failure{status: http.StatusBadRequest, line: "the URL's escapes are malformed"}
		}
	}
	t := target{verb: query.Get("t")}
	if len(elements) > 0 {
		t.cap, elements = elements[0], elements[1:]
	}
	if n := len(elements); n > 0 {
		last := elements[n-1]
		t.children = route == "uri" && last != "" || last == "" && n > 1
		if last != "@@named=" {
			t.name = cleanName(last)
		}
	}
	if name := query.Get("filename"); name != "" {
		t.name = cleanName(name)
	}
	switch save := strings.ToLower(query.Get("save")); save {
	case "", "0", "f", "false", "off", "no":
	case "1", "t", "true", "on", "yes":
		t.save = true
	default:
		return target{}, &failure{status: http.StatusBadRequest, line: "save is true or false"}
	}
	return t, nil
}

// verbs are what GET can ask for in Tahoe-LAFS's web API (docs/frontends/webapi.rst).
var verbs = []string{
	"json", "info", "uri", "readonly-uri", "rename-form", "manifest", "deep-size", "deep-stats",
	"stream-manifest", "stream-deep-check", "deep-check", "check",
}

// check refuses what can be asked of a readable file in Tahoe-LAFS's URLs and
// not here. It comes after the cap has been parsed, whose kind says more.
func (t target) check() error {
	switch {
	case slices.Contains(verbs, t.verb):
		return &failure{status: http.StatusNotImplemented, line: "of Tahoe-LAFS's web API, this gateway serves downloads only: leave out t="}
	case t.verb != "":
		return &failure{status: http.StatusBadRequest, line: "t= names nothing that Tahoe-LAFS's web API has"}
	case t.children:
		return &failure{status: http.StatusNotFound, line: "a file has no children; to name the download, ask for /named/CAP/NAME"}
	}
	return nil
}

// A file is what a URL names, and what every answer about it says.
type file struct {
	cap    caps.Cap
	rep    representation
	fields *transport.Fields
	uri    string // that named it, as it was sent
}

// fileOf returns the file that r asks for. Programs that read ranges send the same URL over and
// over on one connection, which therefore remembers the last one. id is the file's for the log, as
// soon as it is known, also with an error.
func fileOf(r *http.Request) (f *file, id string, err error) {
	slot := transport.Slot(r.Context())
	if slot != nil {
		if known, ok := (*slot).(*file); ok && known.uri == r.RequestURI {
			return known, known.rep.id, nil
		}
	}
	t, err := parseTarget(r)
	if err != nil {
		return nil, "", err
	}
	readCap, err := caps.Parse(t.cap)
	if err != nil {
		return nil, "", err
	}
	id = readCap.ID()
	if err := t.check(); err != nil {
		return nil, id, err
	}
	rep := representation{id: id, size: readCap.Size(), contentType: contentTypeOf(t.name)}
	f = &file{cap: readCap, rep: rep, fields: fileFields(rep, t.name, t.save), uri: r.RequestURI}
	if slot != nil && len(f.uri) <= maxKnownURI {
		*slot = f
	}
	return f, id, nil
}

// maxLocation is how many bytes of a header a redirect may take.
const maxLocation = 4 << 10

// maxKnownURI is how long a URL may be that a connection remembers, with its file, while it is
// idle.
const maxKnownURI = 4 << 10

// redirect answers GET /uri?uri=CAP, with which a form can ask for a file. The
// other parameters stay.
func (s *Server) redirect(c echo.Context, log *logLine) error {
	query := c.Request().URL.Query()
	text := query.Get("uri")
	if text == "" {
		return &failure{status: http.StatusBadRequest, line: "ask for /uri/CAP or /uri?uri=CAP"}
	}
	readCap, err := caps.Parse(text)
	if err != nil {
		return err
	}
	log.id = readCap.ID()
	query.Del("uri")
	location := "/uri/" + url.PathEscape(text)
	if len(query) > 0 {
		location += "?" + query.Encode()
	}
	if len(location) > maxLocation {
		return &failure{status: http.StatusRequestURITooLong, line: "this address is too long"}
	}
	h := c.Response().Header()
	h.Set("Location", location)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", "0") // a page that links to the file would hold the cap
	c.Response().WriteHeader(http.StatusFound)
	return nil
}

func unsatisfied(size int64) string { return fmt.Sprintf("bytes */%d", size) }
