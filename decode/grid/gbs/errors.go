package gbs

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
)

// refusal is the status of an answer that is not the wanted one.
type refusal int

func (r refusal) Error() string {
	switch r {
	case http.StatusUnauthorized:
		return "the server refuses the swissnum of its URL (401)"
	case http.StatusNotFound:
		return "the server does not have it (404)"
	}
	return fmt.Sprintf("the server answered %d %s", int(r), http.StatusText(int(r)))
}

// Brief makes a refusal a grid.BriefError.
func (r refusal) Brief() string { return fmt.Sprintf("answered %d", int(r)) }

// Is makes a 404 match fs.ErrNotExist.
func (r refusal) Is(target error) bool { return r == http.StatusNotFound && target == fs.ErrNotExist }

// keyError: whoever answers is not the server that the URL names.
type keyError struct{ shown, wanted [sha256.Size]byte }

func (e *keyError) Error() string {
	return fmt.Sprintf("another server answers: its key is %s, not the %s of its URL",
		keyEncoding.EncodeToString(e.shown[:]), keyEncoding.EncodeToString(e.wanted[:]))
}

// Brief makes a keyError a grid.BriefError.
func (e *keyError) Brief() string { return "shows a key that is not its own" }

// errCut stands for the end of a stream where there should have been more. It
// must not match io.EOF or io.ErrUnexpectedEOF, which mean that a share ends.
var errCut error = cutError{}

type cutError struct{}

func (cutError) Error() string { return "the server cut the connection" }

// Brief makes errCut a grid.BriefError.
func (cutError) Brief() string { return "cut the connection" }
