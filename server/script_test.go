package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"spillway/spool"
)

// TestScripts sends the requests of testdata/*.http and compares the answers.
// Lines of a script begin with
//
//	#  a comment
//	>  a line of a request, sent as it is; Host and Connection: close are added
//	<  the status (first), then header fields that the answer must have, exactly;
//	   "< !Name" is a field that it must not have
//	=  the body, as a Go string; without such a line the body is not compared,
//	   except that HEAD, 204 and 304 have none
//
// and {name} stands for one of the variables below. A request ends where the
// next one begins. Every GET with a path of a file is sent as HEAD as well,
// which must give the same status and header.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.http")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			g := newGateway(t, spool.Config{})
			abc := g.keep("abc", []byte("abcdefghijklmnopqrstuvwxyz"))
			k := make([]byte, 1000)
			for i := range k {
				k[i] = "0123456789"[i%10]
			}
			kilo := g.put(k)
			lost := g.capOf("lost", 100)
			literal := "URI:LIT:nruxizlsmfwcc"
			vars := strings.NewReplacer(
				"{abc}", abc, "{abc%}", strings.ReplaceAll(abc, ":", "%3A"), "{abc-id}", idOf(t, abc),
				"{kilo}", kilo, "{kilo-id}", idOf(t, kilo), "{lost}", lost,
				"{lit}", literal, "{lit-id}", idOf(t, literal),
				"{key}", strings.Split(abc, ":")[2],
			)
			for _, step := range parseScript(t, file, vars) {
				g.play(t, file, step)
			}
		})
	}
}

// step is one request of a script and what its answer must be.
type step struct {
	line    int
	request []string
	status  int
	fields  []string
	body    *string
}

func parseScript(t *testing.T, file string, vars *strings.Replacer) []*step {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var steps []*step
	var current *step
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		kind, rest, _ := strings.Cut(vars.Replace(line), " ")
		switch kind {
		case "", "#":
		case ">":
			if current == nil || current.status != 0 {
				current = &step{line: i + 1}
				steps = append(steps, current)
			}
			current.request = append(current.request, rest)
		case "<":
			if current.status != 0 {
				current.fields = append(current.fields, rest)
			} else if current.status, err = strconv.Atoi(rest); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		case "=":
			body, err := strconv.Unquote(rest)
			if err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			if current.body != nil {
				body = *current.body + body
			}
			current.body = &body
		default:
			t.Fatalf("%s:%d: unknown line", file, i+1)
		}
	}
	return steps
}

func (g *gateway) play(t *testing.T, file string, want *step) {
	t.Helper()
	at := fmt.Sprintf("%s:%d: %s", file, want.line, want.request[0])
	got, body := g.send(t, want.request)
	if got.StatusCode != want.status {
		t.Errorf("%s\nstatus %d, want %d; body %q", at, got.StatusCode, want.status, body)
	}
	for _, field := range want.fields {
		if name, absent := strings.CutPrefix(field, "!"); absent {
			if values := got.Header.Values(name); len(values) > 0 {
				t.Errorf("%s\n%s: %q, want none", at, name, values)
			}
			continue
		}
		name, value, _ := strings.Cut(field, ": ")
		if values := got.Header.Values(name); !slices.Equal(values, []string{value}) {
			t.Errorf("%s\n%s: %q, want %q", at, name, values, value)
		}
	}
	if want.body != nil && string(body) != *want.body {
		t.Errorf("%s\nbody %q, want %q", at, body, *want.body)
	}
	if got.StatusCode >= 400 {
		if n := strings.Count(string(body), "\n"); n != 1 && !strings.HasPrefix(want.request[0], "HEAD") {
			t.Errorf("%s\nan error with %d lines: %q", at, n, body)
		}
	}
	if rest, isGet := strings.CutPrefix(want.request[0], "GET "); isGet {
		head, body := g.send(t, append([]string{"HEAD " + rest}, want.request[1:]...))
		got.Header.Del("Date")
		head.Header.Del("Date")
		if head.StatusCode != got.StatusCode || fmt.Sprint(head.Header) != fmt.Sprint(got.Header) || len(body) > 0 {
			t.Errorf("%s\nHEAD differs: %d %v %q\nGET:          %d %v", at, head.StatusCode, head.Header, body, got.StatusCode, got.Header)
		}
	}
}

// send sends the lines of a request on a connection of its own.
func (g *gateway) send(t *testing.T, lines []string) (*http.Response, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", g.public.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := append([]string{lines[0] + " HTTP/1.1", "Host: gateway", "Connection: close"}, lines[1:]...)
	if _, err := io.WriteString(conn, strings.Join(request, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(lines[0], " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", lines[0], err)
	}
	g.checkSecrets("a body", string(body))
	return res, body
}
