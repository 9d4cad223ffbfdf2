// Package dir reads and writes a storage directory exactly as a Tahoe-LAFS
// storage server keeps it (src/allmydata/storage/server.py): shares
// stand at shares/<first 2 characters of SI>/<SI>/<number>, uploads in progress
// likewise below shares/incoming, each in its container. A real server may serve
// the directory at the same time.
package dir

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
)

// Server is one storage directory. It has no state but its path.
type Server struct {
	path string
	url  string
}

// Parse returns the Server that a file URL names, such as
// file:///srv/tahoe/storage. The path must be absolute; it need not exist yet.
func Parse(u *url.URL) (*Server, error) {
	if u.Scheme != "file" || u.Opaque != "" || (u.Host != "" && u.Host != "localhost") || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || !filepath.IsAbs(u.Path) {
		return nil, errors.New("a storage directory is given as file:///absolute/path")
	}
	return New(u.Path), nil
}

// New returns the Server of the storage directory at path.
func New(path string) *Server {
	path = filepath.Clean(path)
	return &Server{path: path, url: (&url.URL{Scheme: "file", Path: path}).String()}
}

// String returns the directory's URL.
func (s *Server) String() string { return s.url }

// Close does nothing: between calls a Server holds nothing open.
func (s *Server) Close() error { return nil }

// slot returns the directory of si's shares below base.
func slot(base string, si grid.StorageIndex) string {
	return filepath.Join(base, filepath.FromSlash(container.Slot(si)))
}

func (s *Server) shares() string   { return filepath.Join(s.path, "shares") }
func (s *Server) incoming() string { return filepath.Join(s.path, "shares", "incoming") }

// Shares lists the share numbers of si. Names that are no share numbers are
// ignored, as a Tahoe-LAFS server does. That there is no storage directory at all
// is an error: a disk may not be mounted.
func (s *Server) Shares(ctx context.Context, si grid.StorageIndex) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(slot(s.shares(), si))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(s.shares()); err != nil {
			return nil, &absentError{err}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var nums []int
	for _, e := range entries {
		if num, ok := container.ParseNumber(e.Name()); ok && !e.IsDir() {
			nums = append(nums, num)
		}
	}
	return nums, nil
}

// absentError: there is no storage directory, or it cannot be looked at.
type absentError struct{ err error }

func (e *absentError) Error() string { return "no storage directory: " + e.err.Error() }
func (e *absentError) Unwrap() error { return e.err }

// Brief makes an absentError a grid.BriefError.
func (e *absentError) Brief() string { return "has no storage directory" }
