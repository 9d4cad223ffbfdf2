package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// An outcome says how a request ended.
type outcome string

const (
	complete   outcome = "complete"    // answered, to the last byte
	refused    outcome = "refused"     // answered with an error
	cut        outcome = "cut"         // broken off by the gateway after the header
	clientLeft outcome = "client gone" // broken off by the client
	stalled    outcome = "stalled"     // given up, since the client took nothing
	panicked   outcome = "panic"
)

// entry is the line of the access log that a request in progress is going to
// leave. The request's handler owns it.
type entry struct {
	start     time.Time
	id        string        // of the file; "" if the request names none
	ranged    bool          // answered 206
	firstByte time.Duration // until the first wanted byte was there, or its wait was over; 0 if none was awaited
	deadline  *writeDeadline
	status    int
	outcome   outcome
	err       error
}

const entryKey = "spillway.entry"

// entryOf returns the log entry of a request that observe has begun.
func entryOf(c echo.Context) *entry { return c.Get(entryKey).(*entry) }

// observe is the outermost middleware: it bounds the time of writes, sets the
// fields of every answer, turns errors into answers with write, or, after the
// header, into a cut connection, and counts and logs the request when it ends.
func (s *Server) observe(listener string, write func(echo.Context, *failure)) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			log := &entry{
				start:    time.Now(),
				outcome:  panicked,
				deadline: &writeDeadline{rc: http.NewResponseController(c.Response().Writer), limit: s.stallLimit},
			}
			log.deadline.extend()
			c.Set(entryKey, log)
			setCommonHeader(c.Response().Header())
			s.metrics.inFlight.Inc()
			defer func() {
				log.deadline.finish()
				s.metrics.inFlight.Dec()
				s.record(listener, c, log)
			}()
			err := next(c)
			s.conclude(c, log, err, write)
			if log.outcome != complete && log.outcome != refused {
				// The one way to end an answer so that no client takes it for whole.
				panic(http.ErrAbortHandler)
			}
			return nil
		}
	}
}

// conclude answers an error if that can still be done, and fills in the entry.
func (s *Server) conclude(c echo.Context, log *entry, err error, write func(echo.Context, *failure)) {
	res := c.Response()
	log.err = err
	if err == nil {
		log.status, log.outcome = res.Status, complete
		return
	}
	f := failureOfRequest(err)
	if !res.Committed && f.status != statusClientGone {
		write(c, f)
		log.status, log.outcome, log.err = f.status, refused, f.cause
		return
	}
	log.status = f.status
	if res.Committed {
		log.status = res.Status
	}
	var sending *writeError
	switch {
	case s.cutting.Load() || errors.Is(err, net.ErrClosed):
		log.outcome = cut
	case errors.Is(err, errStalled):
		log.outcome = stalled
	case f.status == statusClientGone || errors.As(err, &sending):
		log.outcome = clientLeft
	default:
		log.outcome = cut
	}
}

// failureOfRequest is failureOf, with what the router says.
func failureOfRequest(err error) *failure {
	var he *echo.HTTPError
	if !errors.As(err, &he) {
		return failureOf(err)
	}
	switch he.Code {
	case http.StatusNotFound:
		return &failure{status: he.Code, line: "nothing is here"}
	case http.StatusMethodNotAllowed:
		return &failure{status: he.Code, line: "this method is not for this resource"}
	}
	return &failure{status: he.Code, line: http.StatusText(he.Code), cause: he.Internal}
}

// writeText answers a failure with its line.
func writeText(c echo.Context, f *failure) { f.write(c.Response(), c.Request()) }

// record logs and counts a request that has ended.
func (s *Server) record(listener string, c echo.Context, log *entry) {
	res, elapsed := c.Response(), time.Since(log.start)
	route := c.Path() // the pattern: the path itself holds the cap
	if route == "" {
		route = "unmatched"
	}
	s.metrics.observe(listener, route, log, res.Size)

	level := slog.LevelInfo
	if log.outcome == panicked || log.outcome == cut || log.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("listener", listener),
		slog.String("method", methodName(c.Request().Method)),
		slog.String("route", route),
		slog.Int("status", log.status),
		slog.String("outcome", string(log.outcome)),
		slog.Int64("bytes", res.Size),
		slog.Duration("took", elapsed),
		slog.Bool("range", log.ranged),
	}
	if log.id != "" {
		attrs = append(attrs, slog.String("id", log.id))
	}
	if log.err != nil {
		attrs = append(attrs, slog.String("error", log.err.Error()))
	}
	s.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// methodName keeps what a client made up out of the log.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}
