package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"spillway/server/transport"
	"spillway/spool"
)

// firstByteWait is how long a status waits for the file's first wanted byte.
// Within it, a file that cannot be read is still answered with an error;
// after it, the client at least knows that the request is being worked on. See decision
// own-ranges-instead-of-servecontent.
const firstByteWait = 2 * time.Second

// download answers GET and HEAD for a file.
func (s *Server) download(c echo.Context, log *logLine) error {
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
	if p.status == http.StatusNotModified {
		f.fields.Set(res.Header())
		res.WriteHeader(p.status)
		return nil
	}
	header := p.header(f)
	headOnly := func() error {
		header.Set(res.Header())
		res.WriteHeader(p.status)
		return nil
	}
	if len(p.parts) == 0 { // an empty file
		return headOnly()
	}

	content, err := s.acquire(r.Context(), f.cap, id)
	if err != nil {
		if r.Context().Err() != nil {
			return clientGone(r.Context().Err())
		}
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
		return headOnly()
	}
	log.status = p.status
	sent, err := s.transport.Send(res, r, header, &fileAnswer{server: s, log: log, content: content, plan: p, rep: rep})
	if handedOver = err == transport.ErrHandedOver; !handedOver {
		res.Size = sent
	}
	return err
}

// A fileAnswer is the body of a planned answer, piece by piece. It holds nothing of the request.
type fileAnswer struct {
	server  *Server
	log     *logLine
	content content
	plan    plan // with parts
	rep     representation
	step    int // how many pieces Next has returned
}

// Next returns the parts, and in a multipart answer what stands before each and after the last.
func (a *fileAnswer) Next() (transport.Piece, error) {
	i := a.step
	a.step++
	if a.plan.multipart() {
		switch {
		case i == 2*len(a.plan.parts):
			return transport.Piece{Text: a.plan.trailer(a.rep)}, nil
		case i%2 == 0 && i < 2*len(a.plan.parts):
			return transport.Piece{Text: a.plan.partHeader(i/2, a.rep)}, nil
		}
		i /= 2
	}
	if i >= len(a.plan.parts) {
		return transport.Piece{}, io.EOF
	}
	part := a.plan.parts[i]
	return transport.Piece{Content: a.content, Off: part.Off, End: part.End}, nil
}

// Done ends the request.
func (a *fileAnswer) Done(sent int64, err error) {
	a.content.Close()
	a.log.bytes = sent
	a.server.conclude(a.log, err)
	a.server.record(a.log)
}

func clientGone(err error) error {
	return &failure{status: statusClientGone, line: "the client is gone", cause: err}
}

// awaitFirst waits until the byte at off is there, but not longer than
// s.firstByteWait: then the answer begins without it.
func (s *Server) awaitFirst(ctx context.Context, content content, off int64) error {
	if _, err := content.Wait(transport.NoWait, off); !errors.Is(err, context.Canceled) {
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
