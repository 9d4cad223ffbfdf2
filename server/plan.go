package server

import (
	"net/http"
	"strconv"

	"spillway/server/transport"
	"spillway/spool"
)

// A representation is what the header fields of an answer say about a file.
type representation struct {
	id          string // names the file without telling its cap; the ETag is made of it
	size        int64  // bytes
	contentType string
}

// etag is the strong entity tag: the same on every instance and for ever,
// because a cap names immutable bytes.
func (rep representation) etag() string { return `"` + rep.id + `"` }

// boundary separates the parts of a multipart answer. It follows from the
// cap, so that HEAD tells the same header as GET, and no file can hold its
// own: the id is a hash of a hash of the file's bytes.
func (rep representation) boundary() string { return "spillway-" + rep.id }

// A plan is the answer to a conditional range request for a file that can be
// read: all that follows from the request's header alone.
type plan struct {
	status int
	parts  []spool.Extent // the file's bytes in the body, in order
	length int64          // bytes of the whole body, with the part headers
}

// planFor decides the answer to a GET or HEAD with header h.
//
// RFC 9110 defines Range for GET alone; HEAD honours it here too, as most
// servers do, because HEAD is to tell what the same GET would be answered.
func planFor(h http.Header, rep representation) plan {
	etag := rep.etag()
	switch evaluate(h, etag) {
	case notModified:
		return plan{status: http.StatusNotModified}
	case preconditionFailed:
		return plan{status: http.StatusPreconditionFailed}
	}
	whole := plan{status: http.StatusOK, length: rep.size}
	if rep.size > 0 {
		whole.parts = []spool.Extent{{Off: 0, End: rep.size}}
	}
	if !rangeApplies(h, etag) {
		return whole
	}
	extents, set := parseRange(h["Range"], rep.size)
	switch set {
	case rangeIgnored:
		return whole
	case rangeUnsatisfiable:
		return plan{status: http.StatusRequestedRangeNotSatisfiable}
	}
	p := plan{status: http.StatusPartialContent, parts: extents}
	for _, part := range extents {
		p.length += part.End - part.Off
	}
	if p.multipart() {
		for i := range extents {
			p.length += int64(len(p.partHeader(i, rep)))
		}
		p.length += int64(len(p.trailer(rep)))
		if p.length > rep.size {
			return whole // never more body than the file has bytes
		}
	}
	return p
}

// multipart says whether the body is multipart/byteranges.
func (p plan) multipart() bool {
	return p.status == http.StatusPartialContent && len(p.parts) > 1
}

// header returns the header of an answer 200 or 206 about f.
func (p plan) header(f *file) transport.Header {
	h := transport.Header{Status: p.status, Length: p.length, Shared: f.fields, ContentType: f.rep.contentType}
	switch {
	case p.multipart():
		h.ContentType = "multipart/byteranges; boundary=" + f.rep.boundary()
	case p.status == http.StatusPartialContent:
		h.ContentRange = contentRange(p.parts[0], f.rep.size)
	}
	return h
}

// partHeader is what stands before the bytes of part i (RFC 9110, section 14.6). Before the first
// one there is an empty line as well, as Apache and nginx send it: zsync 0.6.2 asks for ever
// without.
func (p plan) partHeader(i int, rep representation) string {
	return "\r\n--" + rep.boundary() + "\r\nContent-Type: " + rep.contentType +
		"\r\nContent-Range: " + contentRange(p.parts[i], rep.size) + "\r\n\r\n"
}

// trailer ends a multipart body.
func (p plan) trailer(rep representation) string { return "\r\n--" + rep.boundary() + "--\r\n" }

func contentRange(e spool.Extent, size int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = append(strconv.AppendInt(b, e.Off, 10), '-')
	b = append(strconv.AppendInt(b, e.End-1, 10), '/')
	return string(strconv.AppendInt(b, size, 10))
}
