package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/server/transport"
	"spillway/spool"
)

// A failure is an answer that is no file: its status, and one line for whoever
// asked. The line never holds a cap, and of the grid's servers no more than their names and
// what they did in a few words: the rest is in the log.
type failure struct {
	status     int
	line       string
	retryAfter time.Duration // 0: trying again does not help
	cause      error         // for the log; may be nil
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.line
	}
	return f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

// statusClientGone stands in logs and metrics for a request whose client left
// before it had an answer, as nginx writes it. It is never sent.
const statusClientGone = 499

// retryGrid and retrySpool are how long a client should wait when servers do
// not answer, and when other downloads hold all the space.
const (
	retryGrid  = 60 * time.Second
	retrySpool = 30 * time.Second
)

// failureOf chooses the answer to err: the one place where an error of the
// layers below becomes an HTTP status.
func failureOf(err error) *failure {
	var (
		f           *failure
		unsupported *caps.UnsupportedError
		tooFew      *decode.NotEnoughSharesError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, caps.ErrMalformed):
		return &failure{status: http.StatusBadRequest, line: "this is no capability: it is malformed or incomplete", cause: err}
	case errors.As(err, &unsupported):
		return unsupportedFailure(unsupported)
	case errors.As(err, &tooFew):
		return tooFewFailure(tooFew)
	case errors.Is(err, decode.ErrInconsistent):
		return inconsistentFailure(err)
	case errors.Is(err, syscall.ENOMEM):
		return &failure{status: http.StatusInternalServerError,
			line: "this file needs more memory than the gateway may use for decoding; its operator can raise --decode-memory", cause: err}
	case errors.Is(err, spool.ErrFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &failure{status: http.StatusServiceUnavailable,
			line: "the gateway has no spool space left while other downloads run; try again soon", retryAfter: retrySpool, cause: err}
	case errors.Is(err, spool.ErrPurged):
		return &failure{status: http.StatusServiceUnavailable,
			line: "the file was purged from the gateway just now; try again", retryAfter: time.Second, cause: err}
	case errors.Is(err, transport.ErrLongHeader):
		return &failure{status: http.StatusInternalServerError, line: "the header of this answer would be too long", cause: err}
	case errors.Is(err, spool.ErrClosed), errors.Is(err, decode.ErrClosed):
		return &failure{status: http.StatusServiceUnavailable,
			line: "the gateway is shutting down; try again soon", retryAfter: retrySpool, cause: err}
	}
	return &failure{status: http.StatusInternalServerError,
		line: "the gateway could not read this file; its log says why", cause: err}
}

func unsupportedFailure(err *caps.UnsupportedError) *failure {
	f := &failure{status: http.StatusNotImplemented, cause: err}
	switch {
	case err.Verifier:
		f.status = http.StatusBadRequest
		f.line = "this is a verify capability: it names a file and grants no reading; use the read capability"
	case strings.HasPrefix(err.Kind, "URI:DIR2"):
		f.line = "this is the capability of a directory; only immutable files can be downloaded here"
	case strings.HasPrefix(err.Kind, "URI:SSK"), strings.HasPrefix(err.Kind, "URI:MDMF"):
		f.line = "this is the capability of a mutable file; only immutable files can be downloaded here"
	default:
		f.line = "capabilities of this kind are unknown here; only immutable files can be downloaded"
	}
	return f
}

// inconsistentFailure says in what the file contradicts itself, as decode says it after the error's
// own text. That speaks of the format alone; as an uploader may have a word in it, it is kept short
// and on one line.
func inconsistentFailure(err error) *failure {
	line := "this file was uploaded inconsistently and cannot be read"
	if _, reason, ok := strings.Cut(err.Error(), decode.ErrInconsistent.Error()+": "); ok {
		line += ": " + strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return '_'
			}
			return r
		}, reason[:min(len(reason), maxReason)])
	}
	return &failure{status: http.StatusBadGateway, line: line, cause: err}
}

// maxReason is how many bytes of a reason readers see.
const maxReason = 200

// tooFewFailure says which shares there are. When every server has answered,
// the file is gone as far as anyone can tell: 410. When some have not, they may
// hold what is missing, and the client should ask again.
func tooFewFailure(err *decode.NotEnoughSharesError) *failure {
	f := &failure{status: http.StatusGone, cause: err}
	again := "every server has answered"
	if len(err.Failed) > 0 {
		f.status, f.retryAfter = http.StatusServiceUnavailable, retryGrid
		again = "try again in a minute"
	}
	f.line = sharesText(statusOf(err), time.Now()) + "; " + again
	return f
}

// tell answers with the failure. HEAD gets the header of the GET.
func (f *failure) tell(w http.ResponseWriter, r *http.Request) int64 {
	h := w.Header()
	body := f.line + "\n"
	f.setHeader(h)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(f.status)
	if r.Method == http.MethodHead {
		return 0
	}
	n, _ := w.Write([]byte(body)) // a client that is gone by now needs no answer
	return int64(n)
}

func (f *failure) setHeader(h http.Header) {
	h.Set("Cache-Control", "no-store")
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(f.retryAfter/time.Second)))
	}
}
