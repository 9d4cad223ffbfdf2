package server

import (
	"context"
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
