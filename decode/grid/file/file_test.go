package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"spillway/decode/grid/file"
	"spillway/decode/grid/kinds"
)

func archive(t testing.TB, name string) []txtar.File {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return a.Files
}

// TestParse reads good and bad files; what is wrong is said with the line and never with a URL.
func TestParse(t *testing.T) {
	wanted := map[string]string{}
	for _, f := range archive(t, "files.txtar") {
		wanted[f.Name] = strings.TrimSpace(string(f.Data))
	}
	for name, text := range wanted {
		base, ok := strings.CutSuffix(name, ".yaml")
		if !ok {
			continue
		}
		t.Run(base, func(t *testing.T) {
			servers, err := file.Parse(name, []byte(text))
			if want, bad := wanted[base+".error"]; bad && fmt.Sprint(err) != want {
				t.Errorf("the error is %v,\nnot %s", err, want)
			} else if !bad && (err != nil || len(servers) == 0) {
				t.Errorf("%d servers, %v", len(servers), err)
			}
		})
	}
}

const attic = "pb://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@127.0.0.1:1/sw1ssnum#v=1"

func server(t *testing.T, nickname, url, seed, place string) file.Server {
	t.Helper()
	s, err := kinds.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return file.Server{Server: s, Nickname: nickname, Seed: []byte(seed), URL: url, Place: place}
}

// TestServerIsPrinted without its password.
func TestServerIsPrinted(t *testing.T) {
	for nickname, want := range map[string]string{
		"attic": "attic",
		"":      "pb://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@127.0.0.1:1",
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if got := fmt.Sprintf(verb, server(t, nickname, attic, "", "")); !strings.HasPrefix(got, want) || strings.Contains(got, "sw1ssnum") {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
	if got := fmt.Sprint(file.Server{}); got != "" {
		t.Errorf("no server prints %q", got)
	}
}

func TestDistinct(t *testing.T) {
	one := server(t, "attic", "file:///attic", "", "grid.yaml:2")
	for want, other := range map[string]file.Server{
		"": server(t, "", "file:///cellar", "", "--server number 1"),
		`--server number 1: server "file:///attic" has the URL of server "attic" at grid.yaml:2`: server(t, "", "file:///attic", "", "--server number 1"),
		`grid.yaml:4: server "attic" has the nickname of the one at grid.yaml:2`:                 server(t, "attic", "file:///cellar", "", "grid.yaml:4"),
	} {
		err := file.Distinct([]file.Server{one, other})
		if err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("the error is %v, not %q", err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	list := func(nicknames ...string) (servers []file.Server) {
		for _, text := range nicknames {
			nickname, seed, _ := strings.Cut(text, " ")
			dir, _, _ := strings.Cut(nickname, "@")
			servers = append(servers, server(t, nickname[len(nickname)-1:], "file:///"+dir, seed, ""))
		}
		return servers
	}
	type names = []string
	for _, test := range []struct{ before, after, added, changed, removed names }{
		{names{}, names{}, names{}, names{}, names{}},
		{names{"a", "b"}, names{"b", "a"}, names{}, names{}, names{}},
		{names{"a", "b", "c"}, names{"d", "a", "e"}, names{"d", "e"}, names{}, names{"b", "c"}},
		{names{"a", "b", "c"}, names{"x@a", "b seed", "c"}, names{}, names{"a", "b"}, names{}},
	} {
		added, changed, removed := file.Compare(list(test.before...), list(test.after...))
		if got, want := [][]string{added, changed, removed}, [][]string{test.added, test.changed, test.removed}; !reflect.DeepEqual(got, want) {
			t.Errorf("%v to %v: %#v, not %#v", test.before, test.after, got, want)
		}
	}
}

// TestWrite writes what only the owner can read, and replaces only what it is to replace.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "grid.yaml")
	first, second := []file.Server{server(t, "attic", attic, "s", "")}, []file.Server{server(t, "cellar", "file:///cellar", "", "")}
	holds := func(servers []file.Server) {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(text, file.Format(servers)) {
			t.Errorf("%v\n%s", err, text)
		}
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%d files are left, %v", len(entries), err)
		}
	}
	if err := file.Write(name, first, false); err != nil {
		t.Fatal(err)
	}
	holds(first)
	if err := file.Write(name, second, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the error is %v", err)
	}
	holds(first)
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := file.Write(name, second, true); err != nil {
		t.Error(err)
	}
	holds(second)
}

// TestRead warns of passwords that every user can read, and of nothing else.
func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "grid.yaml")
	for _, test := range []struct {
		url  string
		mode fs.FileMode
		warn bool
	}{
		{attic, 0o600, false}, {attic, 0o640, false}, {attic, 0o604, true}, {attic, 0o602, true}, {"file:///attic", 0o644, false},
	} {
		if err := file.Write(name, []file.Server{server(t, "attic", test.url, "seed", "")}, true); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, test.mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		servers, err := file.Read(name, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil || len(servers) != 1 {
			t.Fatalf("%d servers, %v", len(servers), err)
		}
		if s := servers[0]; s.Nickname != "attic" || s.URL != test.url || string(s.Seed) != "seed" || s.Place != name+":4" {
			t.Errorf("%v %q %q at %s", s, s.URL, s.Seed, s.Place)
		}
		if warned := strings.Contains(log.String(), "every user"); warned != test.warn || strings.Contains(log.String(), "sw1ssnum") {
			t.Errorf("%v: logged %s", test, log.String())
		}
	}
	if _, err := file.Read(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
}
