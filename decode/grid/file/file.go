package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"spillway/decode/grid"
	"spillway/decode/grid/kinds"
)

// Server is a storage server and where it is named. Who takes servers from elsewhere as well makes
// a Server of each, for Distinct.
type Server struct {
	grid.Server        // what the URL names; nothing is asked of it yet
	Nickname    string // "" for one that a grid file does not name
	Seed        []byte // permutation seed; nil: what its kind knows itself by
	URL         string // with its password
	Place       string // where it is named, such as "grid.yaml:3"; "" for one that is imported
}

// String returns the nickname, or else the URL without its password.
func (s Server) String() string {
	if s.Nickname != "" || s.Server == nil {
		return s.Nickname
	}
	return s.Server.String()
}

// GoString is String.
func (s Server) GoString() string { return s.String() }

// Distinct returns an error that names both places if two servers have one URL, whatever their
// passwords, or are printed alike.
func Distinct(servers []Server) error {
	urls, names := map[string]Server{}, map[string]Server{}
	for _, s := range servers {
		url, name := s.Server.String(), s.String()
		if first, ok := urls[url]; ok {
			return fmt.Errorf("%s: server %q has the URL of server %q at %s", s.Place, name, first.String(), first.Place)
		}
		if first, ok := names[name]; ok {
			return fmt.Errorf("%s: server %q has the nickname of the one at %s", s.Place, name, first.Place)
		}
		urls[url], names[name] = s, s
	}
	return nil
}

// Compare names the servers that came, those that have another URL or seed than before, and those
// that went. No result is nil.
func Compare(before, after []Server) (added, changed, removed []string) {
	added, changed, removed = []string{}, []string{}, []string{}
	old := map[string]Server{}
	for _, s := range before {
		old[s.String()] = s
	}
	for _, s := range after {
		name := s.String()
		o, ok := old[name]
		switch {
		case !ok:
			added = append(added, name)
		case o.URL != s.URL || !bytes.Equal(o.Seed, s.Seed):
			changed = append(changed, name)
		}
		delete(old, name)
	}
	for _, s := range before {
		if _, ok := old[s.String()]; ok {
			removed = append(removed, s.String())
		}
	}
	return added, changed, removed
}

// Read returns the servers that a grid file names. It can be called again, to see what has become
// of the file. A file with passwords that every user of the machine can read or change is used,
// with a warning. An error matches what opening the file gave, such as fs.ErrNotExist, or
// errors.ErrUnsupported if a server is of a kind that cannot be read.
func Read(name string, log *slog.Logger) ([]Server, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the grid file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("reading the grid file: %w", err)
	}
	servers, err := parse(name, text)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the grid file: %w", err)
	}
	const others = 0o006 // what users may who are neither its owner nor of its group
	if mode := info.Mode().Perm(); mode&others != 0 && holdsSecret(servers) {
		log.Warn("every user of this machine can read or change the grid file, which holds passwords of storage servers; chmod 600 makes it private",
			"file", name, "mode", fmt.Sprintf("%04o", mode))
	}
	return servers, nil
}

// holdsSecret tells whether a URL says more than may be printed.
func holdsSecret(servers []Server) bool {
	for _, s := range servers {
		if strings.HasPrefix(s.URL, "pb:") {
			return true
		}
	}
	return false
}

// parse parses the text of the grid file of that name.
func parse(name string, text []byte) ([]Server, error) {
	root, err := yamlDocument(text)
	if err != nil {
		return nil, fmt.Errorf("grid file %s: %w", name, err)
	}
	fail := func(line int, format string, args ...any) error {
		return fmt.Errorf("grid file %s:%d: %w", name, line, fmt.Errorf(format, args...))
	}
	var list *yaml.Node
	if err := yamlFields(root, "a grid file", func(key string, value *yaml.Node) error {
		if key != "servers" {
			return errUnknownKey
		}
		list = value
		return nil
	}); err != nil {
		return nil, fail(err.line, "%w", err.err)
	}
	if list == nil {
		return nil, fmt.Errorf("grid file %s: it has no list of servers", name)
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		return nil, fail(list.Line, "servers is no list of at least one server")
	}
	var servers []Server
	for i, node := range list.Content {
		node = yamlTarget(node)
		s, err := parseServer(node)
		if err != nil {
			who := fmt.Sprintf("server number %d", i+1)
			if s.Nickname != "" {
				who = fmt.Sprintf("server %q", s.Nickname)
			}
			return nil, fail(err.line, "%s: %w", who, err.err)
		}
		s.Place = fmt.Sprintf("%s:%d", name, node.Line)
		servers = append(servers, s)
	}
	if err := Distinct(servers); err != nil {
		return nil, fmt.Errorf("grid file %w", err)
	}
	return servers, nil
}

// parseServer parses one server of the list. With an error it returns the nickname, if that is
// known.
func parseServer(node *yaml.Node) (s Server, _ *yamlError) {
	fields := map[string]*yaml.Node{}
	unknown := yamlFields(node, "a server", func(key string, value *yaml.Node) error {
		switch key {
		case "nickname", "url", "permutation-seed":
			fields[key] = value
			return nil
		}
		return errUnknownKey
	})
	nickname, url, seed := fields["nickname"], fields["url"], fields["permutation-seed"]
	if name := yamlString(nickname); isNickname(name) {
		s.Nickname = name
	}
	switch {
	case unknown != nil:
		return s, unknown
	case yamlString(nickname) == "":
		return s, &yamlError{node.Line, errors.New("it has no nickname")}
	case s.Nickname == "":
		return s, &yamlError{nickname.Line, fmt.Errorf("its nickname is not %s", nicknameRule)}
	case yamlString(url) == "":
		return s, &yamlError{node.Line, errors.New("it has no url")}
	}
	s.URL = yamlString(url)
	server, err := kinds.Parse(s.URL)
	if err != nil {
		return s, &yamlError{url.Line, err}
	}
	s.Server = server
	if seed != nil {
		if s.Seed, err = parseSeed(yamlString(seed)); err != nil {
			return s, &yamlError{seed.Line, err}
		}
	}
	return s, nil
}

const nicknameRule = "1 to 64 printable characters without :// and without spaces around them"

// isNickname tells whether a server can go by that name, which every log and page may show: it
// cannot be a URL that was put in the wrong place.
func isNickname(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= 64 &&
		strings.TrimSpace(s) == s && !strings.Contains(s, "://") &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// parseSeed parses a permutation seed as announcements hold it.
func parseSeed(text string) ([]byte, error) {
	seed, err := grid.ParseBase32(text)
	if err != nil || len(seed) == 0 {
		return nil, errors.New("its permutation seed is not base32 in lower case")
	}
	return seed, nil
}

// Format returns the text of a grid file that names the servers, each of which has a nickname.
func Format(servers []Server) []byte {
	type server struct {
		Nickname string `yaml:"nickname"`
		URL      string `yaml:"url"`
		Seed     string `yaml:"permutation-seed,omitempty"`
	}
	var file struct {
		Servers []server `yaml:"servers"`
	}
	for _, s := range servers {
		file.Servers = append(file.Servers, server{s.Nickname, s.URL, grid.Base32(s.Seed)})
	}
	var b bytes.Buffer
	b.WriteString("# Storage servers, as spillway --grid takes them. The end of each URL is a\n# password of its server: keep this file private.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(file), e.Close()); err != nil {
		panic("internal error: " + err.Error())
	}
	return b.Bytes()
}

// Write writes a grid file that only its owner can read. With replace it takes the place of one
// that is there, at once and whole; without, the error matches fs.ErrExist.
func Write(name string, servers []Server, replace bool) error {
	var file *os.File
	var err error
	if replace {
		file, err = os.CreateTemp(filepath.Dir(name), ".spillway-grid-*")
	} else {
		file, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(Format(servers))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil && replace {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}
