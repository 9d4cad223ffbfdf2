package decode

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"spillway/decode/grid"
	"spillway/decode/grid/dir"
	"spillway/decode/grid/gbs"
)

// ParseServer returns the server that a URL names: file:///srv/tahoe/storage is
// a storage directory as Tahoe-LAFS lays it out, pb://KEY@HOST:PORT/SWISSNUM#v=1 a
// storage server over HTTPS. The error matches errors.ErrUnsupported for kinds of
// servers that are not supported yet. It does not quote the URL, which may hold a secret.
func ParseServer(text string) (grid.Server, error) {
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
		return nil, fmt.Errorf("decode: servers of the kind %s:// are %w", u.Scheme, errors.ErrUnsupported)
	}
	return nil, errors.New("decode: malformed server URL: it begins with none of file://, pb://, s3://")
}
