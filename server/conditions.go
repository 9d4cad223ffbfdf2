package server

import (
	"net/http"
	"net/textproto"
	"strings"
)

// A verdict is the outcome of a request's preconditions.
type verdict int

const (
	proceed            verdict = iota
	notModified                // 304
	preconditionFailed         // 412
)

// evaluate applies the preconditions of a GET or HEAD for a file whose current
// entity tag is the strong etag, in the order of RFC 9110, section 13.2.2.
//
// A file here never changes and has no modification date. Hence
// If-Unmodified-Since and If-Modified-Since are ignored, as sections 13.1.4
// and 13.1.3 demand of a resource without one.
func evaluate(h http.Header, etag string) verdict {
	if fields, ok := h["If-Match"]; ok && !tagListed(fields, etag, strongMatch) {
		return preconditionFailed
	}
	if fields, ok := h["If-None-Match"]; ok && tagListed(fields, etag, weakMatch) {
		return notModified
	}
	return proceed
}

// rangeApplies says whether If-Range lets a Range field count (RFC 9110,
// section 13.1.5): it does if absent, or if it is the strong tag itself. A
// date never matches, because the file has none.
func rangeApplies(h http.Header, etag string) bool {
	fields, ok := h["If-Range"]
	if !ok {
		return true
	}
	if len(fields) != 1 {
		return false
	}
	tag, rest := cutTag(textproto.TrimString(fields[0]))
	return rest == "" && strongMatch(tag, etag)
}

// strongMatch and weakMatch compare entity tags (RFC 9110, section 8.8.3.2).
func strongMatch(a, b string) bool { return a == b && strings.HasPrefix(a, `"`) }
func weakMatch(a, b string) bool {
	return strings.TrimPrefix(a, "W/") == strings.TrimPrefix(b, "W/")
}

// tagListed says whether a list of entity tags, which may go over several
// fields, is "*" or has a tag that matches etag. What follows a malformed
// element is not read.
func tagListed(fields []string, etag string, match func(a, b string) bool) bool {
	list := textproto.TrimString(strings.Join(fields, ","))
	if list == "*" {
		return true
	}
	for list != "" {
		if list[0] == ',' {
			list = textproto.TrimString(list[1:])
			continue
		}
		tag, rest := cutTag(list)
		if tag == "" {
			return false
		}
		if match(tag, etag) {
			return true
		}
		list = textproto.TrimString(rest)
		if list != "" && list[0] != ',' {
			return false
		}
	}
	return false
}

// cutTag cuts the entity tag at the start of s (RFC 9110, section 8.8.3) from
// what follows it. The tag is "" if there is none.
func cutTag(s string) (tag, rest string) {
	start := 0
	if strings.HasPrefix(s, "W/") {
		start = 2
	}
	if start == len(s) || s[start] != '"' {
		return "", s
	}
	for i := start + 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:]
		case c < 0x21 || c == 0x7f:
			return "", s
		}
	}
	return "", s
}
