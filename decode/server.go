package decode

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gbs"
	"spillway/decode/grid/s3"
)

// Server is one storage server of a grid, and what is known of it beside its URL.
type Server struct {
	grid.Server
	Nickname string // names it in messages and logs; "": its URL without secrets does
	Seed     []byte // by which clients permute the servers for each file; nil: what its kind knows itself by
	url      string // with its secrets; "" if it was not parsed
}

// String names the server in messages and logs.
func (s Server) String() string {
	if s.Nickname != "" || s.Server == nil {
		return s.Nickname
	}
	return s.Server.String()
}

// same tells whether both are the same server, known in the same way.
func (s Server) same(other Server) bool {
	return s.url != "" && s.url == other.url && s.Nickname == other.Nickname && bytes.Equal(s.Seed, other.Seed)
}

// ParseServer returns the server that a URL names: file:///srv/tahoe/storage is
// a storage directory as Tahoe-LAFS lays it out, pb://KEY@HOST:PORT/SWISSNUM#v=1 a
// storage server over HTTPS, s3://BUCKET/PREFIX?endpoint=URL&region=NAME a bucket that holds
// what a storage directory holds. The error matches errors.ErrUnsupported for kinds of
// servers that are not supported yet. It does not quote the URL, which may hold a secret.
func ParseServer(text string) (Server, error) {
	server, err := parseServer(text)
	if err != nil {
		return Server{}, err
	}
	return Server{Server: server, url: text}, nil
}

func parseServer(text string) (grid.Server, error) {
	// A list of locations is no URL to package url.
	if strings.HasPrefix(text, "pb:") || strings.HasPrefix(text, "pb+") {
		server, err := gbs.Parse(text)
		if errors.Is(err, errors.ErrUnsupported) {
			return nil, fmt.Errorf("decode: server URL: %w", err)
		}
		if err != nil {
			return nil, fmt.Errorf("decode: malformed server URL: %w", err)
		}
		return server, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("decode: malformed server URL")
	}
	switch u.Scheme {
	case "file":
		server, err := dir.Parse(u)
		if err != nil {
			return nil, fmt.Errorf("decode: malformed server URL: %w", err)
		}
		return server, nil
	case "s3":
		server, err := s3.Parse(u)
		if err != nil {
			return nil, fmt.Errorf("decode: malformed server URL: %w", err)
		}
		return server, nil
	}
	return nil, errors.New("decode: malformed server URL: it begins with none of file://, pb://, s3://")
}
