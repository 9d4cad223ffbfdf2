package file

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"spillway/decode/grid"
	"spillway/decode/grid/kinds"
)

// Imported is what a Tahoe-LAFS client node knows of its grid.
type Imported struct {
	Servers []Server // those that Spillway can use, by nickname
	Known   int      // servers that the node knows, usable or not
	Notes   []string // what the node's owner should know: who was left out and why, in a line each
}

// Import reads a node's directory, such as ~/.tahoe. It may find servers of which none can be used;
// that a node knows none is an error. An error matches what reading the files gave, such as
// fs.ErrNotExist.
func Import(dir string) (Imported, error) {
	n, err := readNode(dir)
	if err != nil {
		return Imported{}, err
	}
	servers, left := n.servers()
	return Imported{Servers: servers, Known: len(n.announced), Notes: append(n.notes, left...)}, nil
}

// node is what a Tahoe-LAFS client node knows of its grid, from its private directory:
//
//   - servers.yaml, written by its operator: a map under "storage" from each server's key to
//     {ann: ANNOUNCEMENT}. It takes precedence, server by server.
//   - introducer_NAME_cache.yaml for each of its introducers: a list of
//     {key_s: KEY, ann: ANNOUNCEMENT}. Introducers that introducers.yaml does not name are none of
//     the node's any more.
//
// See Tahoe-LAFS 1.20, src/allmydata/client.py (load_static_servers), introducer/client.py
// (_save_announcements) and storage_client.py (_parse_announcement).
type node struct {
	announced map[string]announcement // by the server's key
	notes     []string                // what else its owner should know
}

// announcement is what a server says of itself, through an introducer or the node's operator.
type announcement struct {
	key      string // of the server, such as v0-uizlgyoto4et76ipoykgahe3rkt7rqypm4ee6jsae4sgdx6nn44q
	nickname string
	nurls    []string
	foolscap bool   // it has a URL for Foolscap
	seed     string // "" if it has none
	number   uint64 // a newer announcement has a greater one
	detour   bool   // the operator has the server reached otherwise than by TCP
}

// hidesAddress matches a configuration by which the node uses an anonymizing network only.
var hidesAddress = regexp.MustCompile(`(?mi)^\s*(reveal-IP-address\s*[=:]\s*(false|no|off|0)|tcp\s*[=:]\s*(tor|disabled))\s*$`)

func readNode(dir string) (*node, error) {
	private := filepath.Join(dir, "private")
	entries, err := os.ReadDir(private)
	if err != nil {
		return nil, fmt.Errorf("this is no Tahoe-LAFS node's directory, or not yours: %w", err)
	}
	n := &node{announced: map[string]announcement{}}
	introducers, err := readNodeFile(private, "introducers.yaml")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name, ok1 := strings.CutPrefix(entry.Name(), "introducer_")
		name, ok2 := strings.CutSuffix(name, "_cache.yaml")
		if !ok1 || !ok2 {
			continue
		}
		// The introducer "default" may be named in tahoe.cfg instead.
		if introducers != nil && name != "default" && yamlField(yamlField(introducers, "introducers"), name) == nil {
			n.notes = append(n.notes, fmt.Sprintf("ignored private/%s: introducers.yaml names no such introducer", entry.Name()))
			continue
		}
		cache, err := readNodeFile(private, entry.Name())
		if err != nil {
			return nil, err
		}
		if err := n.addCache(cache); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(private, entry.Name()), err)
		}
	}
	static, err := readNodeFile(private, "servers.yaml")
	if err != nil {
		return nil, err
	}
	n.addStatic(static)
	if config, err := os.ReadFile(filepath.Join(dir, "tahoe.cfg")); err == nil && hidesAddress.Match(config) {
		n.notes = append(n.notes, "note that tahoe.cfg has the node hide its address; Spillway connects to the servers directly")
	}
	if len(n.announced) == 0 {
		return nil, fmt.Errorf("%s knows no storage servers: private/ has neither announcements in an introducer_*_cache.yaml, which a client node writes when it has reached its introducer, nor servers in servers.yaml", dir)
	}
	return n, nil
}

// readNodeFile returns the root of a YAML file, or nil if there is no such file.
func readNodeFile(private, name string) (*yaml.Node, error) {
	text, err := os.ReadFile(filepath.Join(private, name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	root, err := yamlDocument(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(private, name), err)
	}
	return root, nil
}

// addCache adds what one introducer announced. Of two announcements of one server the later counts.
func (n *node) addCache(root *yaml.Node) error {
	if root == nil {
		return nil
	}
	if root.Kind != yaml.SequenceNode {
		return errors.New("it is no list of announcements")
	}
	for _, entry := range root.Content {
		entry = yamlTarget(entry)
		ann := yamlField(entry, "ann")
		if yamlString(yamlField(ann, "service-name")) != "storage" {
			continue
		}
		a := parseAnnouncement(yamlString(yamlField(entry, "key_s")), ann)
		if known, ok := n.announced[a.key]; !ok || a.number > known.number {
			n.announced[a.key] = a
		}
	}
	return nil
}

// addStatic adds what the operator wrote, in place of announcements of the same servers.
func (n *node) addStatic(root *yaml.Node) {
	storage := yamlField(root, "storage")
	if storage == nil || storage.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(storage.Content); i += 2 {
		server := yamlTarget(storage.Content[i+1])
		a := parseAnnouncement(yamlString(yamlTarget(storage.Content[i])), yamlField(server, "ann"))
		tcp := yamlString(yamlField(yamlField(server, "connections"), "tcp"))
		a.detour = tcp != "" && tcp != "tcp"
		n.announced[a.key] = a
	}
}

func parseAnnouncement(key string, ann *yaml.Node) announcement {
	number, _ := strconv.ParseUint(yamlString(yamlField(ann, "seqnum")), 10, 64) // 0 without one
	return announcement{
		key:      key,
		nickname: yamlString(yamlField(ann, "nickname")),
		nurls:    yamlStrings(yamlField(ann, "anonymous-storage-NURLs")),
		foolscap: yamlString(yamlField(ann, "anonymous-storage-FURL")) != "",
		seed:     yamlString(yamlField(ann, "permutation-seed-base32")),
		number:   number,
	}
}

// servers returns the servers that Spillway can use, by nickname, and says why not the others.
func (n *node) servers() (servers []Server, left []string) {
	nicknames := map[string]int{}
	for _, a := range n.announced {
		nicknames[a.name()]++
	}
	names, urls := map[string]bool{}, map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(n.announced)) {
		a := n.announced[key]
		name := a.name()
		if nicknames[name] > 1 {
			name = fmt.Sprintf("%s (%s)", shorten(name, 50), a.short())
		}
		for i, base := 2, name; names[name]; i++ {
			name = fmt.Sprintf("%s %d", shorten(base, 60), i)
		}
		names[name] = true
		s, err := a.server()
		if err == nil && urls[s.Server.String()] != "" {
			err = fmt.Errorf("it has the URL of %s", urls[s.Server.String()])
		}
		if err != nil {
			left = append(left, fmt.Sprintf("left out %s: %v", name, err))
			continue
		}
		urls[s.Server.String()] = name
		s.Nickname = name
		servers = append(servers, s)
	}
	slices.SortFunc(servers, func(a, b Server) int { return cmp.Compare(a.Nickname, b.Nickname) })
	slices.Sort(left)
	return servers, left
}

// name is the nickname, as far as a grid file can have it, or else the short name of the key.
func (a announcement) name() string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(a.nickname, ""))
	if name = shorten(name, 64); isNickname(name) {
		return name
	}
	return a.short()
}

// short is the start of the key, by which Tahoe-LAFS names servers to people.
func (a announcement) short() string {
	short := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.TrimPrefix(a.key, "v0-"))
	return cmp.Or(short[:min(len(short), 8)], "unnamed")
}

func shorten(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most])
	}
	return strings.TrimSpace(s)
}

// server returns the server, or why it cannot be used. The URLs of an announcement are
// one server's; those of one key and swissnum make one URL with several locations.
func (a announcement) server() (Server, error) {
	if a.detour {
		return Server{}, errors.New("servers.yaml has it reached otherwise than by TCP, as through Tor, which Spillway cannot")
	}
	if a.key == "" {
		return Server{}, errors.New("its announcement has no key")
	}
	seed, err := a.permutationSeed()
	if err != nil {
		return Server{}, err
	}
	var urls []string
	refused := errors.New("it speaks only Foolscap")
	if !a.foolscap {
		refused = errors.New("its announcement has no URL under anonymous-storage-NURLs")
	}
	for _, url := range a.nurls {
		scheme, _, _ := strings.Cut(url, "://")
		if other, ok := strings.CutPrefix(scheme, "pb+"); ok && plainKey.MatchString(other) {
			refused = fmt.Errorf("it can be reached only through %s, which Spillway cannot", other)
			continue
		}
		if scheme != "pb" { // such as file, for a directory of this machine's
			refused = errors.New("what it announces is no URL of a storage node")
			continue
		}
		if _, err := kinds.Parse(url); err != nil {
			refused = err
			continue
		}
		urls = append(urls, url)
	}
	if len(urls) == 0 {
		return Server{}, refused
	}
	url := joinLocations(urls)
	server, err := kinds.Parse(url)
	if err != nil {
		return Server{}, err
	}
	return Server{Server: server, Seed: seed, URL: url}, nil
}

// joinLocations returns the first of some pb:// URLs, with the locations of the others
// that differ in nothing else.
func joinLocations(urls []string) string {
	split := func(url string) (key, location, rest string) {
		key, rest, _ = strings.Cut(url, "@")
		location, rest, _ = strings.Cut(rest, "/")
		return key, location, rest
	}
	key, _, rest := split(urls[0])
	var locations []string
	for _, url := range urls {
		if k, location, r := split(url); k == key && r == rest && !slices.Contains(locations, location) {
			locations = append(locations, location)
		}
	}
	return key + "@" + strings.Join(locations, ",") + "/" + rest
}

var publicKey = regexp.MustCompile(`^v0-([0-9a-zA-Z]{52})$`)

// permutationSeed is the announcement's, or else comes from the key, as in Tahoe-LAFS.
func (a announcement) permutationSeed() ([]byte, error) {
	if a.seed != "" {
		return parseSeed(a.seed)
	}
	if key := publicKey.FindStringSubmatch(a.key); key != nil {
		seed, err := grid.ParseBase32(key[1])
		if err != nil {
			return nil, errors.New("its key is not base32")
		}
		return seed, nil
	}
	seed := sha256.Sum256([]byte(a.key))
	return seed[:], nil
}
