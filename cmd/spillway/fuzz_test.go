package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// addScripts seeds a fuzz target with the YAML files of a test script.
func addScripts(f *testing.F, script string) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", script))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, ".yaml") {
			f.Add(file.Data)
		}
	}
}

// FuzzGridFile: what is accepted reads the same when it is written.
func FuzzGridFile(f *testing.F) {
	addScripts(f, "grid.txtar")
	f.Fuzz(func(t *testing.T, text []byte) {
		servers, err := parseGridFile("grid.yaml", text)
		if err != nil {
			return
		}
		sameAgain(t, servers)
	})
}

// FuzzImport: whatever a node's files say, what is imported is a good grid file of servers elsewhere.
func FuzzImport(f *testing.F) {
	addScripts(f, "import.txtar")
	f.Fuzz(func(t *testing.T, text []byte) {
		root, err := yamlDocument(text)
		if err != nil {
			return
		}
		n := node{announced: map[string]announcement{}}
		n.addCache(root)
		n.addStatic(root)
		servers, _ := n.servers()
		for _, s := range servers {
			if !strings.HasPrefix(s.URL, "pb://") {
				t.Errorf("imported %q", s.URL)
			}
		}
		if len(servers) > 0 {
			sameAgain(t, servers)
		}
	})
}

func sameAgain(t *testing.T, servers []gridServer) {
	t.Helper()
	text := formatGridFile(servers)
	again, err := parseGridFile("grid.yaml", text)
	if err != nil || len(again) != len(servers) {
		t.Fatalf("%d servers, %v\n%s", len(again), err, text)
	}
	for i, s := range servers {
		if a := again[i]; a.Nickname != s.Nickname || a.URL != s.URL || !bytes.Equal(a.Seed, s.Seed) {
			t.Errorf("server %d: %q %q %x, was %q %q %x", i, a.Nickname, a.URL, a.Seed, s.Nickname, s.URL, s.Seed)
		}
	}
}
