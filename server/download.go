package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"spillway/spool"
)

// firstByteWait is how long a status waits for the file's first wanted byte.
// Within it, a file that cannot be read is still answered with an error;
// after it, the client at least knows that the request is being worked on.
const firstByteWait = 2 * time.Second

// download answers GET and HEAD for a file.
func (s *Server) download(c echo.Context, log *entry) error {
	r, res := c.Request(), c.Response()
	// An unread body would hide from us that the client is gone.
	if r.ContentLength != 0 {
		res.Header().Set("Connection", "close")
		return &failure{status: http.StatusBadRequest, line: "a request for a file carries no body"}
	}
	f, id, err := fileOf(r)
	log.id = id
	if err != nil {
		return err
	}
	rep := f.rep
	p := planFor(r.Header, rep)
	switch p.status {
	case http.StatusPreconditionFailed:
		return &failure{status: p.status, line: "the file is not the one that If-Match names"}
	case http.StatusRequestedRangeNotSatisfiable:
		res.Header().Set("Content-Range", unsatisfied(rep.size))
		return &failure{status: p.status, line: "the file has no bytes in the range asked for"}
	}
	log.ranged = p.status == http.StatusPartialContent
	setFields := func() {
		setHeader(res.Header(), f.header)
		p.setHeader(res.Header(), rep)
	}
	if len(p.parts) == 0 { // 304, or an empty file
		setFields()
		res.WriteHeader(p.status)
		return nil
	}

	content, err := s.acquire(f.cap, id)
	if err != nil {
		return err
	}
	handedOver := false
	defer func() {
		if !handedOver {
			content.Close()
		}
	}()
	head := r.Method == http.MethodHead
	if head {
		content.Want(spool.Extent{Off: p.parts[0].Off, End: p.parts[0].Off + 1})
	} else {
		content.Want(p.parts...)
	}
	if err := s.awaitFirst(r.Context(), content, p.parts[0].Off); err != nil {
		if r.Context().Err() != nil {
			return clientGone(r.Context().Err())
		}
		return err
	}
	log.firstByte = time.Since(log.start)
	if head {
		setFields()
		res.WriteHeader(p.status)
		return nil
	}
	b := newBody(content, p, rep, s.metrics.copied)
	if conn := connOf(r.Context()); conn != nil {
		err = s.sendOn(conn, c, log, f, b)
	} else {
		setFields()
		err = s.copyOut(c, &b)
	}
	handedOver = errors.Is(err, errHandedOver)
	return err
}

func clientGone(err error) error {
	return &failure{status: statusClientGone, line: "the client is gone", cause: err}
}

// awaitFirst waits until the byte at off is there, but not longer than
// s.firstByteWait: then the answer begins without it.
func (s *Server) awaitFirst(ctx context.Context, content content, off int64) error {
	if _, err := content.Wait(noWait, off); !errors.Is(err, context.Canceled) {
		return err
	}
	first, cancel := context.WithTimeout(ctx, s.firstByteWait)
	defer cancel()
	_, err := content.Wait(first, off)
	if errors.Is(err, context.DeadlineExceeded) && first.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}
