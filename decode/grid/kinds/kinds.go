// Package kinds knows which kinds of storage servers there are and by which URLs they go. Nothing
// that reads or writes shares imports it: only who has a server's URL in hand.
package kinds

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gbs"
	"spillway/decode/grid/s3"
)

// Parse returns the server that a URL names; nothing is asked yet. The caller closes it. The kinds
// are
//
//	file:///srv/tahoe/storage                     a storage directory as Tahoe-LAFS lays it out
//	pb://KEY@HOST:PORT/SWISSNUM#v=1               a storage server over HTTPS
//	s3://BUCKET/PREFIX?endpoint=URL&region=NAME   a bucket that holds what such a directory holds
//
// The error matches errors.ErrUnsupported for servers of Tahoe-LAFS that cannot be read, as over
// Foolscap. It does not quote the URL, which may hold a secret.
func Parse(text string) (grid.Server, error) {
	server, err := parse(text)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil, fmt.Errorf("server URL: %w", err)
	case err != nil:
		return nil, fmt.Errorf("malformed server URL: %w", err)
	}
	return server, nil
}

func parse(text string) (grid.Server, error) {
	// A list of locations is no URL to package url.
	if strings.HasPrefix(text, "pb:") || strings.HasPrefix(text, "pb+") {
		return orNil(gbs.Parse(text))
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is no URL") // url's own error quotes it
	}
	switch u.Scheme {
	case "file":
		return orNil(dir.Parse(u))
	case "s3":
		return orNil(s3.Parse(u))
	}
	return nil, errors.New("it begins with none of file://, pb://, s3://")
}

// orNil makes no Server of a nil pointer.
func orNil[S grid.Server](s S, err error) (grid.Server, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
