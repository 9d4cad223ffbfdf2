package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"spillway/decode"
	"spillway/spool"
)

// spoolState is the answer to GET /admin/spool.
type spoolState struct {
	Entries       []spoolEntry `json:"entries"`
	BudgetBytes   int64        `json:"budget_bytes"`
	ReservedBytes int64        `json:"reserved_bytes"`
	SpooledBytes  int64        `json:"spooled_bytes"`
}

// spoolEntry is one spool file.
type spoolEntry struct {
	ID               string   `json:"id"`
	Size             int64    `json:"size"`
	SpooledBytes     int64    `json:"spooled_bytes"`
	Readers          int      `json:"readers"`
	State            string   `json:"state"`
	AgeSeconds       float64  `json:"age_seconds"`
	IdleSeconds      float64  `json:"idle_seconds"`
	ExpiresInSeconds *float64 `json:"expires_in_seconds"` // null while it is being read
}

// entryState is the answer to GET /admin/spool/{id}.
type entryState struct {
	spoolEntry
	// Shares is what is known of the shares on the grid, while they are read or when some are
	// missing.
	Shares string `json:"shares,omitempty"`
	// Error is why something could not be decoded last time, if it is not for want of shares.
	Error string `json:"error,omitempty"`
}

// purgeResult is the answer to DELETE.
type purgeResult struct {
	Entries      int   `json:"entries"`
	FreedBytes   int64 `json:"freed_bytes"`
	WaitingBytes int64 `json:"waiting_bytes"` // freed when the remaining readers leave
}

func (s *Server) newAdmin() *echo.Echo {
	e := newEcho(s.router("admin", tellJSON))
	add := func(method, path string, h handler) {
		e.Add(method, path, s.observe("admin", path, tellJSON, h))
	}
	metrics := echo.WrapHandler(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{DisableCompression: true}))
	add(http.MethodGet, "/healthz", s.healthz)
	add(http.MethodHead, "/healthz", s.healthz)
	add(http.MethodGet, "/metrics", s.fromHere(func(c echo.Context, _ *logLine) error { return metrics(c) }))
	add(http.MethodGet, "/admin/spool", s.authorize(s.listSpool))
	add(http.MethodGet, "/admin/spool/:id", s.authorize(s.showEntry))
	add(http.MethodDelete, "/admin/spool", s.authorize(s.purgeSpool))
	add(http.MethodDelete, "/admin/spool/:id", s.authorize(s.purgeEntry))
	return e
}

// authorize lets the operator through and nobody else: with a token, who bears
// it; without one, who speaks to a loopback name and comes from no other web
// site (a page elsewhere can make a browser send requests here, and can make its
// own name resolve to 127.0.0.1, but it cannot make up Host, Origin and
// Sec-Fetch-Site).
func (s *Server) authorize(next handler) handler {
	if s.token == "" {
		return s.fromHere(next)
	}
	want := sha256.Sum256([]byte(s.token))
	return func(c echo.Context, log *logLine) error {
		r := c.Request()
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(token)))
		// Hashes have one length, so that the comparison does not tell the token's.
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || !strings.EqualFold(scheme, "Bearer") {
			c.Response().Header().Set("WWW-Authenticate", `Bearer realm="spillway admin"`)
			return &failure{status: http.StatusUnauthorized, line: "this needs the admin token: Authorization: Bearer TOKEN"}
		}
		return next(c, log)
	}
}

// fromHere is authorize where there is no token. With one it lets everybody through: what needs no
// token is then open to whoever reaches the listener.
func (s *Server) fromHere(next handler) handler {
	if s.token != "" {
		return next
	}
	return func(c echo.Context, log *logLine) error {
		if r := c.Request(); !isLoopbackHost(r.Host) || isCrossSite(r) {
			return &failure{status: http.StatusForbidden, line: "without an admin token, only requests from this machine to a loopback address are answered"}
		}
		return next(c, log)
	}
}

// isLoopbackHost says whether a Host field names this machine to itself.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// isCrossSite says whether a browser sent r for a page of another origin.
func isCrossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host != r.Host
}

// tellJSON answers a failure as an object with the member "error".
func tellJSON(c echo.Context, f *failure) {
	f.setHeader(c.Response().Header())
	answer := struct {
		Error string `json:"error"`
	}{f.line}
	_ = c.JSON(f.status, answer) // a client that is gone by now needs no answer
}

func (s *Server) listSpool(c echo.Context, _ *logLine) error {
	return answerJSON(c, stateOf(s.spool.Snapshot()))
}

func (s *Server) showEntry(c echo.Context, log *logLine) error {
	for _, e := range s.spool.Snapshot().Entries {
		if e.ID == c.Param("id") {
			log.id = e.ID
			return answerJSON(c, s.entryStateOf(e))
		}
	}
	return errNoSuchEntry
}

func (s *Server) entryStateOf(e spool.Entry) entryState {
	state := entryState{spoolEntry: entryOf(e)}
	var tooFew *decode.NotEnoughSharesError
	missing := errors.As(e.Err, &tooFew)
	if known, ok := s.status(e.Key); ok {
		state.Shares = sharesText(known, time.Now())
	} else if missing {
		state.Shares = sharesText(statusOf(tooFew), time.Now())
	}
	if e.Err != nil && !missing {
		state.Error = e.Err.Error()
	}
	return state
}

func (s *Server) purgeSpool(c echo.Context, _ *logLine) error {
	idle, err := idleOnly(c)
	if err != nil {
		return err
	}
	return answerJSON(c, purgeResult(s.spool.PurgeAll(idle)))
}

func (s *Server) purgeEntry(c echo.Context, log *logLine) error {
	idle, err := idleOnly(c)
	if err != nil {
		return err
	}
	purged, err := s.spool.Purge(c.Param("id"), idle)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errNoSuchEntry
	case err != nil:
		return err
	}
	log.id = c.Param("id")
	return answerJSON(c, purgeResult(purged))
}

// errNoSuchEntry stands for the spool's own error, which quotes what was asked
// for: somebody may have asked for a cap.
var errNoSuchEntry = &failure{status: http.StatusNotFound, line: "no file with this id is spooled", cause: fs.ErrNotExist}

// idleOnly reads ?idle=, which spares the files that somebody reads.
func idleOnly(c echo.Context) (bool, error) {
	text := c.QueryParam("idle")
	if text == "" {
		return false, nil
	}
	idle, err := strconv.ParseBool(text)
	if err != nil {
		return false, &failure{status: http.StatusBadRequest, line: "idle is true or false"}
	}
	return idle, nil
}

func answerJSON(c echo.Context, answer any) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, answer)
}

// stateOf shows a snapshot.
func stateOf(snapshot spool.Snapshot) spoolState {
	state := spoolState{
		Entries:       []spoolEntry{},
		BudgetBytes:   snapshot.BudgetBytes,
		ReservedBytes: snapshot.ReservedBytes,
		SpooledBytes:  snapshot.SpooledBytes,
	}
	for _, e := range snapshot.Entries {
		state.Entries = append(state.Entries, entryOf(e))
	}
	return state
}

func entryOf(e spool.Entry) spoolEntry {
	entry := spoolEntry{
		ID:           e.ID,
		Size:         e.Size,
		SpooledBytes: e.SpooledBytes,
		Readers:      e.Readers,
		State:        string(e.State),
		AgeSeconds:   seconds(e.Age),
		IdleSeconds:  seconds(e.Idle),
	}
	if e.ExpiresIn >= 0 {
		expires := seconds(e.ExpiresIn)
		entry.ExpiresInSeconds = &expires
	}
	return entry
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 {
	return math.Round(d.Seconds()*1000) / 1000
}
