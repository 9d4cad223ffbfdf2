package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/server/transport"
	"spillway/spool"
)

// Config is what a Server needs. The Server closes nothing of it.
type Config struct {
	Spool  *spool.Spool
	Client *decode.Client
	Log    *slog.Logger // one line a request; nil discards
	// AdminToken is what admin requests must bear. When it is "", the admin
	// handler trusts whoever reaches it under a loopback name, and refuses what a
	// browser sends for another site; the caller listens on loopback then.
	AdminToken string
	Version    string // for the metrics
}

// Server answers HTTP requests. Its handlers are safe for concurrent use.
type Server struct {
	spool   *spool.Spool
	log     *slog.Logger
	token   string
	metrics *metrics
	public  *echo.Echo
	admin   *echo.Echo

	transport *transport.Transport

	// from the grid
	openSource func(context.Context, caps.Cap) (spool.Source, error)
	// of the grid's shares
	status func(id string) (decode.Status, bool)
	// contentOf
	acquire       func(ctx context.Context, readCap caps.Cap, id string) (content, error)
	firstByteWait time.Duration

	draining atomic.Bool // Shutdown has begun
	cutting  atomic.Bool // Shutdown closes the connections that are left
}

// New returns a Server on top of cfg's spool and client.
func New(cfg Config) *Server {
	s := &Server{
		spool:         cfg.Spool,
		log:           cfg.Log,
		token:         cfg.AdminToken,
		firstByteWait: firstByteWait,
		openSource: func(ctx context.Context, readCap caps.Cap) (spool.Source, error) {
			f, err := cfg.Client.Open(ctx, readCap)
			if err != nil {
				return nil, err // not f: a nil *decode.File is no nil Source
			}
			return f, nil
		},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.status = func(string) (decode.Status, bool) { return decode.Status{}, false }
	if cfg.Client != nil {
		s.status = cfg.Client.Status
	}
	s.acquire = s.contentOf
	s.transport = transport.New(stallLimit, func(n int64) { s.metrics.copied.Add(float64(n)) })
	s.metrics = newMetrics(cfg, s.transport.HandedOver)
	s.public, s.admin = s.newPublic(), s.newAdmin()
	return s
}

// Public returns the handler for those who download.
func (s *Server) Public() http.Handler { return s.public }

// Admin returns the handler for the operator.
func (s *Server) Admin() http.Handler { return s.admin }

// HTTPServer returns an http.Server for one of the two handlers. Its limits bound what a
// client can hold without sending a request; how long an answer may take is
// bounded only while the client takes nothing (ten minutes).
func (s *Server) HTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of a request's body, which nothing here reads
		IdleTimeout:       transport.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ConnContext:       transport.ConnContext,
	}
}

// stallLimit is how long a client may take nothing at all before its
// connection is given up. An answer as a whole has no limit. See decision no-tcp-user-timeout.
const stallLimit = 10 * time.Minute

// Listener returns a listener for the http.Server of Public, in front of inner, which
// it closes when it is closed. On its TCP connections bodies go out by sendfile, and those that
// their clients do not take at once leave the http.Server, for a few kilobytes each, until they
// are out; Shutdown, not that of the http.Server, waits for them. On any other
// connection, as of TLS, bodies are copied.
func (s *Server) Listener(inner net.Listener) net.Listener { return s.transport.Listener(inner) }

// Shutdown ends the servers in the given order: each stops listening and waits
// for its running requests until ctx ends; after that the remaining connections
// are cut, which their clients resume elsewhere or later. From its beginning
// /healthz answers 503. The error is ctx's if any request was cut.
//
// Handlers may still be returning when Shutdown does; closing the spool waits
// for those that read from it.
func (s *Server) Shutdown(ctx context.Context, servers ...*http.Server) error {
	s.draining.Store(true)
	var errs []error
	for _, server := range servers {
		err := server.Shutdown(ctx)
		if err != nil && ctx.Err() != nil {
			s.cutting.Store(true)
			err = errors.Join(err, server.Close())
		}
		errs = append(errs, err)
	}
	errs = append(errs, s.transport.Shutdown(ctx))
	return errors.Join(errs...)
}

func (s *Server) newPublic() *echo.Echo {
	e := newEcho(s.router("public", tellText))
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for path, h := range map[string]handler{
			"/":            s.welcome,
			"/robots.txt":  s.robots,
			"/favicon.ico": s.favicon,
			"/uri":         s.redirect,
			"/uri/*":       s.download,
			"/file/*":      s.download,
			"/named/*":     s.download,
			"/healthz":     s.healthz,
		} {
			e.Add(method, path, s.observe("public", path, tellText, h))
		}
	}
	return e
}

// newEcho returns a router that answers what it finds no route for with unmatched.
func newEcho(unmatched echo.HTTPErrorHandler) *echo.Echo {
	e := echo.New()
	e.HTTPErrorHandler = unmatched
	e.Logger.SetOutput(io.Discard) // every request has its own line in our log
	return e
}

func (s *Server) healthz(c echo.Context, _ *logLine) error {
	if s.draining.Load() {
		return &failure{status: http.StatusServiceUnavailable, line: "shutting down"}
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.String(http.StatusOK, "ok\n")
}
