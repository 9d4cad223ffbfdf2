package main

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

	"spillway/decode/fleet"
	"spillway/decode/grid"
	"spillway/decode/grid/kinds"
)

// A grid file names the storage servers of a grid, in YAML:
//
//	servers:
//	  - nickname: attic
//	    url: pb://KEY@HOST:PORT/SWISSNUM#v=1
//	    permutation-seed: base32   # optional
//
// The seed is the server's place in the order in which Tahoe-LAFS clients look for shares.
// Since URLs of this kind hold passwords, no error quotes one.

// gridServer is one storage server that flags or a grid file name.
type gridServer struct {
	fleet.Server
	place string // where it is named: "grid.yaml:3", "--server number 1"
}

// known returns the servers as package decode takes them.
func known(servers []gridServer) []fleet.Server {
	list := make([]fleet.Server, len(servers))
	for i, s := range servers {
		list[i] = s.Server
	}
	return list
}

// checkDistinct refuses two servers of one URL, whatever their passwords, or of one name.
func checkDistinct(servers []gridServer) error {
	urls, names := map[string]gridServer{}, map[string]gridServer{}
	for _, s := range servers {
		url, name := s.Server.Server.String(), s.String()
		if first, ok := urls[url]; ok {
			return fmt.Errorf("%s: server %q has the URL of server %q at %s", s.place, name, first.String(), first.place)
		}
		if first, ok := names[name]; ok {
			return fmt.Errorf("%s: server %q has the nickname of the one at %s", s.place, name, first.place)
		}
		urls[url], names[name] = s, s
	}
	return nil
}

// readGridFile reads the servers that a grid file names. A file that other users of the machine
// can read is used, with a warning.
func readGridFile(name string, log *slog.Logger) ([]gridServer, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the grid file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("reading the grid file: %w", err)
	}
	servers, err := parseGridFile(name, text)
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
func holdsSecret(servers []gridServer) bool {
	for _, s := range servers {
		if strings.HasPrefix(s.URL, "pb:") {
			return true
		}
	}
	return false
}

// parseGridFile parses the text of a grid file, strictly: what it does not know is an error that
// names the file, the line and, where one is known, the nickname.
func parseGridFile(name string, text []byte) ([]gridServer, error) {
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
	var servers []gridServer
	for i, node := range list.Content {
		node = yamlTarget(node)
		s, err := parseGridServer(node)
		if err != nil {
			who := fmt.Sprintf("server number %d", i+1)
			if s.Nickname != "" {
				who = fmt.Sprintf("server %q", s.Nickname)
			}
			return nil, fail(err.line, "%s: %w", who, err.err)
		}
		s.place = fmt.Sprintf("%s:%d", name, node.Line)
		servers = append(servers, s)
	}
	if err := checkDistinct(servers); err != nil {
		return nil, fmt.Errorf("grid file %w", err)
	}
	return servers, nil
}

// parseGridServer parses one server of the list. With an error it returns the nickname, if that
// is known.
func parseGridServer(node *yaml.Node) (s gridServer, _ *yamlError) {
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
	s.Server.Server = server
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
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= 64 && strings.TrimSpace(s) == s && !strings.Contains(s, "://") &&
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

// formatGridFile is the inverse of parseGridFile.
func formatGridFile(servers []gridServer) []byte {
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

// writeGridFile writes a file that only its owner can read. With replace it takes the place of
// one that is there, at once and whole; without, the error matches fs.ErrExist.
func writeGridFile(name string, text []byte, replace bool) error {
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
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil && replace {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}
