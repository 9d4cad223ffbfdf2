package transporttest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Check asks the server at addr, whose sockets are s, for two things, and hinders the answers at
// each of their bytes, in every way. The second request comes in the same segment, or after the
// first answer. The client must get what it gets of sockets that take all, and nothing more.
func (s *Narrow) Check(t *testing.T, addr, first, second string) {
	t.Helper()
	s.Hinder(Free, 0)
	one, two := Whole(t, addr, first), Whole(t, addr, second)
	want := slices.Concat(one, two)
	conn := dial(t, addr)
	defer conn.Close()
	for _, h := range []Hindrance{CutShort, FullOnce, Trickle} {
		for n := 1; n < len(want); n++ {
			s.Hinder(h, n)
			got := exchange(t, conn, first+second, len(want))
			if h == Trickle && bytes.Equal(got, want) {
				s.Hinder(h, n)
				got = append(exchange(t, conn, first, len(one)), exchange(t, conn, second, len(two))...)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%v at byte %d:\n%q, want\n%q", h, n, got, want)
			}
			if h == Trickle {
				n += n / 4
			}
		}
	}
	s.Hinder(Free, 0)
	conn.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
		t.Errorf("after the last answer: %q, %v", rest, err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second)) // an answer may lack bytes
	return conn
}

// exchange sends requests at once, and returns the n bytes that come back, without their dates.
func exchange(t *testing.T, conn net.Conn, requests string, n int) []byte {
	t.Helper()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	answers := make([]byte, n)
	if _, err := io.WriteString(conn, requests); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadFull(conn, answers); err != nil {
		t.Fatalf("%v after %q", err, answers[:got])
	}
	return Undated(answers)
}

// Whole returns the answer to one request on a connection of its own, without its date.
func Whole(t *testing.T, addr, request string) []byte {
	t.Helper()
	conn := dial(t, addr)
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	var answer bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &answer))
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return Undated(answer.Bytes())
}

var date = regexp.MustCompile(`(\r\nDate: )[^\r]*`)

// Undated replaces the dates of answers by as many bytes.
func Undated(answers []byte) []byte {
	return date.ReplaceAllFunc(answers, func(field []byte) []byte {
		return append([]byte("\r\nDate: "), bytes.Repeat([]byte("x"), len(field)-len("\r\nDate: "))...)
	})
}
