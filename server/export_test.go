package server

import (
	"context"
	"io"
	"net/http"
	"time"

	"spillway/decode"
	"spillway/spool"
)

// What the external tests need of the inside.

const (
	RangeIgnored       = rangeIgnored
	RangeUnsatisfiable = rangeUnsatisfiable
	RangeSatisfiable   = rangeSatisfiable
	MaxRanges          = maxRanges
	FirstByteWait      = firstByteWait
)

var (
	ParseRange         = parseRange
	ContentTypeOf      = contentTypeOf
	ContentDisposition = contentDisposition
	CleanName          = cleanName

	ContentSecurityPolicy = contentSecurityPolicy
	ErrStalled            = errStalled
)

func (r rangeSet) String() string {
	return [...]string{"ignored", "unsatisfiable", "satisfiable"}[r]
}

// SetOpenSource replaces the grid.
func (s *Server) SetOpenSource(open func(context.Context, decode.Cap) (spool.Source, error)) {
	s.openSource = open
}

// SetStallLimit shortens the patience with clients that take nothing.
func (s *Server) SetStallLimit(d time.Duration) { s.stallLimit = d }

// Plan is planFor for a file called id.
func Plan(h http.Header, id string, size int64, contentType string) (status int, parts []spool.Extent, length int64) {
	p := planFor(h, representation{id: id, size: size, contentType: contentType})
	return p.status, p.parts, p.length
}

// SendExtent sends e of data, which is all there, to w.
func SendExtent(w http.ResponseWriter, data io.ReadSeeker, size int64, e spool.Extent) (sent int64, err error) {
	d := &writeDeadline{rc: http.NewResponseController(w), limit: time.Hour}
	t := &transfer{w: w, content: there{data, size}, deadline: d}
	err = t.sendExtent(context.Background(), e)
	return t.sent, err
}

// there is content that waits for nothing.
type there struct {
	data io.ReadSeeker
	size int64
}

func (there) Want(...spool.Extent)           {}
func (there) OnCut(func())                   {}
func (there) Close() error                   { return nil }
func (c there) File() (io.ReadSeeker, error) { return c.data, nil }
func (c there) Wait(_ context.Context, off int64) (int64, error) {
	return c.size - off, nil
}
