package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"spillway/server/transport"
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

// A logLine is the line of the access log that a request in progress is going to
// leave. The request's handler owns it, or the answer that was handed over.
type logLine struct {
	route     *route
	method    string
	start     time.Time
	id        string        // of the file; "" if the request names none
	ranged    bool          // answered 206
	firstByte time.Duration // until the first wanted byte, or the wait for it, was over; else 0
	status    int
	bytes     int64 // of the body
	outcome   outcome
	err       error
}

// A route is where requests are logged, and counted by status. Its labels come from closed sets,
// so that clients cannot grow the metrics.
type route struct {
	listener, pattern string
	log               *slog.Logger // with both of them
	byStatus          sync.Map     // of prometheus.Counter, by int: looking labels up costs more
}

func (s *Server) newRoute(listener, pattern string) *route {
	return &route{listener: listener, pattern: pattern, log: s.log.With("listener", listener, "route", pattern)}
}

// A handler answers a request and tells the log about it. An error is answered or cuts the
// connection; transport.ErrHandedOver means that the answer goes on, and ends the line.
type handler func(echo.Context, *logLine) error

// observe makes h the handler of a route: see serve.
func (s *Server) observe(listener, pattern string, tell func(echo.Context, *failure), h handler) echo.HandlerFunc {
	rt := s.newRoute(listener, pattern)
	return func(c echo.Context) error {
		s.serve(c, rt, tell, h)
		return nil
	}
}

// router returns what answers requests for which the router finds no handler.
func (s *Server) router(listener string, tell func(echo.Context, *failure)) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		pattern := c.Path() // the path itself holds the cap
		if pattern == "" {
			pattern = "unmatched"
		}
		s.serve(c, s.newRoute(listener, pattern), tell, func(echo.Context, *logLine) error { return err })
	}
}

// serve runs h, sets the fields of every answer, turns errors into answers with tell, or, after
// the header, into a cut connection, and counts and logs the request when it ends.
func (s *Server) serve(c echo.Context, rt *route, tell func(echo.Context, *failure), h handler) {
	res := c.Response()
	log := &logLine{route: rt, method: methodName(c.Request().Method), start: time.Now(), outcome: panicked}
	commonFields.Set(res.Header())
	s.transport.Bound(res.Writer, c.Request())
	s.metrics.inFlight.Inc()
	handedOver := false
	defer func() {
		if !handedOver {
			log.bytes = res.Size
			s.record(log)
		}
	}()
	err := h(c, log)
	if err == transport.ErrHandedOver {
		handedOver = true
		return
	}
	log.status = res.Status
	if err != nil && !res.Committed {
		f := failureOfRequest(err)
		log.status = f.status
		if f.status != statusClientGone {
			tell(c, f)
			log.outcome, log.err = refused, f.cause
			return
		}
	}
	s.conclude(log, err)
	if log.outcome != complete {
		// The one way to end an answer so that no client takes it for whole.
		panic(http.ErrAbortHandler)
	}
}

// conclude fills in how an answer ended whose header is out, or is not wanted any more.
func (s *Server) conclude(log *logLine, err error) {
	if err == nil {
		log.outcome = complete
		return
	}
	log.err = err
	var sending *transport.SendError
	var bug *transport.PanicError
	switch {
	case errors.As(err, &bug):
		log.outcome = panicked
	case s.cutting.Load() || errors.Is(err, net.ErrClosed):
		log.outcome = cut
	case errors.Is(err, transport.ErrStalled):
		log.outcome = stalled
	case errors.As(err, &sending) || failureOf(err).status == statusClientGone:
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

// tellText answers a failure with its line.
func tellText(c echo.Context, f *failure) { f.tell(c.Response(), c.Request()) }

// record logs and counts a request that has ended.
func (s *Server) record(log *logLine) {
	s.metrics.inFlight.Dec()
	s.metrics.observe(log)
	level := slog.LevelInfo
	if log.outcome == panicked || log.outcome == cut || log.status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if !log.route.log.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 9),
		slog.String("method", log.method),
		slog.Int("status", log.status),
		slog.String("outcome", string(log.outcome)),
		slog.Int64("bytes", log.bytes),
		slog.Duration("took", time.Since(log.start)),
		slog.Bool("range", log.ranged),
	)
	if log.id != "" {
		attrs = append(attrs, slog.String("id", log.id))
	}
	if log.err != nil {
		attrs = append(attrs, slog.String("error", log.err.Error()))
	}
	log.route.log.LogAttrs(ctx, level, "request", attrs...)
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
