package grid

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// ErrCorrupt: the server holds the share, but in a container that cannot be read.
var ErrCorrupt = errors.New("corrupt container")

// ErrTimeout: a server has not answered within the time that a request may take. It is the cause
// that contexts of requests end with; see Cause.
var ErrTimeout = errors.New("no answer within the time allowed")

// Cause returns the cause of the context's end in place of an error that says no more than that
// it has ended, and any other error as it is.
func Cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return context.Cause(ctx)
	}
	return err
}

// BriefError is an error of a Server that can be told to people who know nothing of it.
type BriefError interface {
	error
	// Brief says it in a few words to follow the server's name, such as "answered 401", and names
	// no address, path or key.
	Brief() string
}

// SharePlace is a share number and the server that holds it.
type SharePlace struct {
	Share  int    `json:"share"`
	Server string `json:"server"`
}

func (p SharePlace) String() string { return fmt.Sprintf("share %d on %s", p.Share, p.Server) }

// ServerError says what a server answered instead of an answer.
type ServerError struct {
	Server string
	Err    error
	When   time.Time // it failed; zero if that is not known
}

// Brief says in a few words to follow the server's name what it did, to people who do not run it:
// no address, path or key is in them.
func (e ServerError) Brief() string {
	var said BriefError
	var network net.Error
	var name *net.DNSError
	switch {
	case errors.As(e.Err, &said):
		return said.Brief()
	case errors.Is(e.Err, ErrTimeout), errors.Is(e.Err, context.DeadlineExceeded), errors.As(e.Err, &network) && network.Timeout():
		return "timed out"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return "refused the connection"
	case errors.As(e.Err, &name):
		return "has an address that nobody knows"
	case errors.Is(e.Err, syscall.EHOSTUNREACH), errors.Is(e.Err, syscall.ENETUNREACH):
		return "could not be reached"
	case errors.Is(e.Err, syscall.ECONNRESET), errors.Is(e.Err, syscall.EPIPE):
		return "cut the connection"
	}
	return "failed"
}

func (e ServerError) Error() string  { return e.Server + ": " + e.Err.Error() }
func (e ServerError) String() string { return e.Error() }
func (e ServerError) Unwrap() error  { return e.Err }

// ListText returns a heading and the first dozen of the items, for the text of an error; "" if
// there are none.
func ListText[T fmt.Stringer](heading string, items []T) string {
	const dozen = 12
	if len(items) == 0 {
		return ""
	}
	var texts []string
	for _, item := range items[:min(len(items), dozen)] {
		texts = append(texts, item.String())
	}
	text := heading + ": " + strings.Join(texts, ", ")
	if more := len(items) - dozen; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
