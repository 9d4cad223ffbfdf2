package server

import (
	"context"
	"net/http"
	"time"

	"spillway/decode/caps"
	"spillway/server/transport"
	"spillway/server/transport/transporttest"
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
	SharesText         = sharesText

	ContentSecurityPolicy = contentSecurityPolicy
)

func (r rangeSet) String() string {
	return [...]string{"ignored", "unsatisfiable", "satisfiable"}[r]
}

// SetOpenSource replaces the grid.
func (s *Server) SetOpenSource(open func(context.Context, caps.Cap) (spool.Source, error)) {
	s.openSource = open
}

// SetStallLimit shortens the patience with clients that take nothing.
func (s *Server) SetStallLimit(d time.Duration) { s.transport.StallLimit = d }

// Plan is planFor for a file called id.
func Plan(h http.Header, id string, size int64, contentType string) (status int, parts []spool.Extent, length int64) {
	p := planFor(h, representation{id: id, size: size, contentType: contentType})
	return p.status, p.parts, p.length
}

// HandedOver is how many bodies net/http has let go.
func (s *Server) HandedOver() int { return s.transport.HandedOver() }

// Content is content.
type Content = content

// SetContent makes requests read what wrap returns for their content.
func (s *Server) SetContent(wrap func(Content) Content) {
	acquire := s.acquire
	s.acquire = func(ctx context.Context, readCap caps.Cap, id string) (content, error) {
		c, err := acquire(ctx, readCap, id)
		if err != nil {
			return nil, err
		}
		return wrap(c), nil
	}
}

// NarrowSockets makes the sockets of s narrow, and the contents that go to them.
func (s *Server) NarrowSockets() *transporttest.Narrow {
	socket := transporttest.NewNarrow(s.transport)
	s.SetContent(func(c Content) Content {
		if _, copied := c.(literal); copied {
			return c
		}
		return &narrowContent{c, socket.Content(c)}
	})
	return socket
}

type narrowContent struct {
	content
	narrow transport.Content
}

func (c *narrowContent) Sendfile(socket int, off, n int64) (int64, error) {
	return c.narrow.Sendfile(socket, off, n)
}
