package gbs

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// nurl is a server's URL: pb://KEY@LOCATION,LOCATION.../SWISSNUM#v=1, where a
// location is host:port or tcp:host:port. The form without #v=1 is Foolscap's, whose
// key is another hash.
type nurl struct {
	key       [sha256.Size]byte // SHA-256 of the SubjectPublicKeyInfo
	locations []string          // host:port, at least one
	swissnum  string            // secret: who knows it may use the server
}

var keyEncoding = base64.RawURLEncoding.Strict()

// parseNURL returns what a URL says. The error does not quote it, for it holds a
// secret, and matches errors.ErrUnsupported if the URL is a good one of a kind
// that is not spoken here.
func parseNURL(text string) (n nurl, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if strings.HasPrefix(scheme, "pb+") {
		return n, fmt.Errorf("%w: the server is to be reached otherwise than by TCP", errors.ErrUnsupported)
	}
	if !ok || scheme != "pb" {
		return n, errors.New("it does not begin with pb://")
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	if fragment != "v=1" {
		return n, fmt.Errorf("%w: it does not end with #v=1; a URL that ends without has the server speak Foolscap", errors.ErrUnsupported)
	}
	key, rest, ok := strings.Cut(rest, "@")
	if !ok {
		return n, errors.New("it has no key before an @")
	}
	hash, err := keyEncoding.DecodeString(key)
	if err != nil || len(hash) != len(n.key) {
		return n, errors.New("the key is not 43 characters of URL-safe base64")
	}
	n.key = [sha256.Size]byte(hash)
	places, swissnum, _ := strings.Cut(rest, "/")
	if n.swissnum, err = url.PathUnescape(swissnum); err != nil || n.swissnum == "" || strings.ContainsAny(swissnum, "/?") {
		return n, errors.New("it does not name one swissnum after the location")
	}
	for place := range strings.SplitSeq(places, ",") {
		location, err := parseLocation(place)
		if err != nil {
			return n, err
		}
		n.locations = append(n.locations, location)
	}
	return n, nil
}

// parseLocation returns the host:port of one location hint.
func parseLocation(text string) (string, error) {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(text, "tcp:"))
	if err != nil || !isHost(host) {
		return "", errors.New("a location is not host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", errors.New("a location has no port of 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// isHost tells whether a text can be the name or the address of a host, and can
// be printed.
func isHost(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// String returns the URL without its secret.
func (n nurl) String() string {
	return "pb://" + keyEncoding.EncodeToString(n.key[:]) + "@" + strings.Join(n.locations, ",")
}
