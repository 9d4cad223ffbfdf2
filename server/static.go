package server

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// welcome says to whoever comes without a cap what this is.
func (s *Server) welcome(c echo.Context, _ *logLine) error {
	return answerText(c, "no-store", "This is Spillway, a download gateway for Tahoe-LAFS: ask for /uri/CAP or /named/CAP/NAME.\n")
}

// robots keeps all robots out: what they could find here they have found by a cap, which is a
// secret.
func (s *Server) robots(c echo.Context, _ *logLine) error {
	return answerText(c, "public, max-age=86400", "User-agent: *\nDisallow: /\n")
}

// favicon spares browsers, which ask for it on their own, an error. They keep the answer, that
// there is none.
func (s *Server) favicon(c echo.Context, _ *logLine) error {
	c.Response().Header().Set("Cache-Control", "public, max-age=2592000")
	return c.NoContent(http.StatusNoContent)
}

func answerText(c echo.Context, cacheControl, text string) error {
	h := c.Response().Header()
	h.Set("Cache-Control", cacheControl)
	return c.Blob(http.StatusOK, "text/plain; charset=utf-8", []byte(text))
}
