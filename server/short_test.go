package server_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"spillway/decode"
	"spillway/spool"
)

// TestShortWrites: whatever part of an answer the socket takes at a time, no client gets an answer
// that whoever wrote the link has made up.
func TestShortWrites(t *testing.T) {
	g := newGateway(t, spool.Config{})
	socket := g.NarrowSockets()
	file, lost := g.keep("file", pattern(120)), g.capOf("lost", 10)
	g.serve(lost, func(context.Context) (spool.Source, error) {
		return nil, &decode.NotEnoughSharesError{Needed: 3, Total: 10}
	})
	const literal = "URI:LIT:nruxizlsmfwcc"
	name := strings.Repeat("%F0%9F%90%8C", 20) + ".txt"
	for _, test := range []struct{ what, line, fields string }{
		{"200", "GET /uri/" + file, ""},
		{"200 named", "GET /uri/" + file + "?save=true&filename=" + name, ""},
		{"206", "GET /file/" + file + "/a.png", "Range: bytes=7-90\n"},
		{"multipart", "GET /uri/" + g.keep("larger", pattern(2000)), "Range: bytes=0-9,500-599,100-100\n"},
		{"literal", "GET /uri/" + literal + "?filename=a.html", ""},
		{"literal 206", "GET /uri/" + literal, "Range: bytes=2-4\n"},
		{"HEAD", "HEAD /uri/" + file, ""},
		{"304", "GET /uri/" + file, "If-None-Match: *\n"},
		{"302", "GET /uri?uri=" + file, ""},
		{"400", "GET /uri/hello", ""},
		{"404", "GET /nothing", ""},
		{"410", "GET /uri/" + lost, ""},
		{"412", "GET /uri/" + file, "If-Match: \"x\"\n"},
		{"416", "GET /uri/" + file, "Range: bytes=120-\n"},
	} {
		t.Run(test.what, func(t *testing.T) {
			request := strings.ReplaceAll(test.line+" HTTP/1.1\nHost: x\n"+test.fields+"\n", "\n", "\r\n")
			next := "GET /uri/" + literal + " HTTP/1.1\r\nHost: x\r\n\r\n"
			socket.Check(t, g.public.Listener.Addr().String(), request, next)
		})
	}
}

// TestLongHeaderOnWire: with a name that makes a header of more than the kernel takes at once, on
// loopback, the body came in the midst of the header.
func TestLongHeaderOnWire(t *testing.T) {
	g := newGateway(t, spool.Config{})
	name := strings.Repeat("\U0001F40C", 12000) // twelve bytes each in the header
	_, r := g.dial("GET /uri/URI:LIT:nruxizlsmfwcc?filename=" + name + " HTTP/1.1\nHost: x\nConnection: close\n\n")
	answer, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, body, ok := bytes.Cut(answer, []byte("\r\n\r\n")); !ok || string(body) != "literal!" {
		t.Errorf("of %d bytes, the body is %q, and the file's begin at %d", len(answer), body, bytes.Index(answer, []byte("literal!")))
	}
}
