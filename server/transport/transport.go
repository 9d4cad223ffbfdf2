package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Transport sends answers. Its methods may be called concurrently. The exported fields must not
// change once it is in use.
type Transport struct {
	// StallLimit is how long a client may take nothing at all before its connection is
	// given up. An answer as a whole has no limit.
	StallLimit time.Duration
	// Copied counts bytes of contents that went through the process instead of by Sendfile. It
	// may be called concurrently.
	Copied func(bytes int64)

	// Write sends what of p a socket that does not block takes at once, with the errors of
	// write(2). New makes it that; a fault injector may stand in front of it.
	Write func(fd int, p []byte) (int, error)

	outside *outside
}

// New returns a Transport. copied must not be nil.
func New(stallLimit time.Duration, copied func(bytes int64)) *Transport {
	return &Transport{StallLimit: stallLimit, Copied: copied, Write: write, outside: newOutside()}
}

// IdleTimeout is how long a connection may be without a request, with net/http and outside of it.
const IdleTimeout = 2 * time.Minute

// A Field is a header field under its canonical name. Its values have no line breaks.
type Field struct {
	Name   string
	Values []string
}

// Fields are header fields that many answers share. They do not change.
type Fields struct {
	list []Field
	text string // as they are sent
}

// NewFields returns the given fields, which it keeps.
func NewFields(list ...Field) *Fields {
	var text strings.Builder
	for _, f := range list {
		for _, value := range f.Values {
			text.WriteString(f.Name + ": " + value + "\r\n")
		}
	}
	return &Fields{list, text.String()}
}

// Set adds the fields to the header of an answer.
func (fs *Fields) Set(to http.Header) {
	for _, f := range fs.list {
		to[f.Name] = f.Values
	}
}

// A Header is what stands before a body. Whatever else the ResponseWriter's header says is not sent
// on connections of ours, but for what net/http itself adds: the date, and whether the connection
// stays.
type Header struct {
	Status       int   // with a body
	Length       int64 // of the body, in bytes
	Shared       *Fields
	ContentType  string
	ContentRange string // "" for none
}

// maxFields is how many bytes the fields of a Header may take: that which those who write links can
// make long.
const maxFields = 4 << 10

func (h *Header) tooLong() bool {
	return len(h.Shared.text)+len(h.ContentType)+len(h.ContentRange) > maxFields
}

// Set adds h to the header of an answer that the handler gives itself, as to HEAD.
func (h *Header) Set(to http.Header) {
	h.Shared.Set(to)
	h.setLength(to)
	to["Content-Type"] = []string{h.ContentType}
	if h.ContentRange != "" {
		to["Content-Range"] = []string{h.ContentRange}
	}
}

func (h *Header) setLength(to http.Header) {
	to["Content-Length"] = []string{strconv.FormatInt(h.Length, 10)}
}

// appendTo appends, as text, what Set sets, but for the length.
func (h *Header) appendTo(head []byte) []byte {
	head = append(head, h.Shared.text...)
	head = append(append(append(head, "Content-Type: "...), h.ContentType...), "\r\n"...)
	if h.ContentRange != "" {
		head = append(append(append(head, "Content-Range: "...), h.ContentRange...), "\r\n"...)
	}
	return head
}

// A Content is bytes that pieces are extents of. One goroutine at a time uses it.
type Content interface {
	// Wait returns how many bytes from off are there, at least one; it waits for that. With a
	// context that is over it does not wait, and its error matches context.Canceled if nothing is
	// there.
	Wait(ctx context.Context, off int64) (int64, error)
	// OnCut makes the content call f, from any goroutine, when its answer must end. If that is so
	// already, f is called at once. Of the contents of an answer, each must stop calling it when it
	// is closed, save a call that has begun.
	OnCut(f func())
	// ReadAt reads bytes that Wait has reported.
	io.ReaderAt
	// Sendfile has the kernel send up to n bytes from off, which Wait has reported, to a socket
	// that does not block, and returns how many it took. It may be fewer without an error. The
	// error is that of sendfile(2), or errors.ErrUnsupported where the bytes must be copied.
	Sendfile(socket int, off, n int64) (int64, error)
}

// A Piece is a part of a body: Text, or the bytes of Content from Off to before End. The zero
// Piece is empty.
type Piece struct {
	Text     string
	Content  Content // may be nil if Off is End
	Off, End int64
}

// An Answer is a body as a list of pieces. One goroutine at a time uses it; that may change between
// calls.
type Answer interface {
	// Next returns the piece after those it has returned, or io.EOF. The one before is out, so its
	// content may be closed. Next does not wait: a content may be one that is opened while it is
	// waited for. An answer may make up its pieces as they are asked for, so that it holds no list
	// of them.
	Next() (Piece, error)
	// Done ends an answer that was handed over. sent is how many bytes of the body have gone, the
	// rest has not because of err. It is called once, and nothing of the answer is used after it.
	Done(sent int64, err error)
}

var (
	// ErrHandedOver: the answer goes on, and will call Done.
	ErrHandedOver = errors.New("transport: handed over")
	// ErrLongHeader: the answer's header is longer than any should be. Nothing was sent.
	ErrLongHeader = errors.New("transport: the header is too long")
	// ErrStalled: the client took no byte for the stall limit.
	ErrStalled = errors.New("transport: the client took nothing for too long")
	// ErrCut: a content told the answer to end, or Shutdown did.
	ErrCut = errors.New("transport: the answer was cut")
)

// A SendError is an error of the connection, or of a client that has left, not of the content.
type SendError struct{ Err error }

func (e *SendError) Error() string { return "transport: sending: " + e.Err.Error() }
func (e *SendError) Unwrap() error { return e.Err }

// A PanicError is a bug that did not end the process.
type PanicError struct{ text string }

func (e *PanicError) Error() string { return "transport: internal error: " + e.text }

// Send answers r, a GET, with h and the pieces of a. h.Length is their length. It returns how
// many bytes of the body it has sent.
//
// With ErrHandedOver the answer goes on without the handler, which must return, and calls Done.
// With any other error but ErrLongHeader, the header may be out, and the handler must abort the
// connection (http.ErrAbortHandler). Nothing of a is used any more.
func (t *Transport) Send(w http.ResponseWriter, r *http.Request, h Header, a Answer) (sent int64, err error) {
	if h.tooLong() {
		return 0, ErrLongHeader
	}
	if c := connOf(r.Context()); c != nil {
		return c.answer(w, r, &h, a)
	}
	return t.copyOut(w, r, &h, a)
}

// Bound bounds what net/http itself writes in answer to r. Every handler calls it first.
func (t *Transport) Bound(w http.ResponseWriter, r *http.Request) {
	if connOf(r.Context()) == nil { // else its writes are bounded one by one
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(t.StallLimit))
	}
}

// ConnContext is that of an http.Server whose listener is a Transport's.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Slot returns where the handler of a request may keep what it wants to know at the next request on
// the same connection, or nil. It is emptied when an answer is handed over. Only the handler may
// use it.
func Slot(ctx context.Context) *any {
	if c := connOf(ctx); c != nil {
		return &c.slot
	}
	return nil
}

// HandedOver returns how many answers are being sent outside of net/http.
func (t *Transport) HandedOver() int { return t.outside.handedOver() }

// Shutdown closes the connections outside of net/http that have no request, waits for the answers
// until ctx ends, and cuts those that are left; then the error is ctx's. It returns when all are
// gone.
func (t *Transport) Shutdown(ctx context.Context) error { return t.outside.shutdown(ctx) }

// NoWait is over: with it, Content.Wait returns only what is there already.
var NoWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()
