package file_test

import (
	"bytes"
	"strings"
	"testing"

	"spillway/decode/grid/file"
)

// seed seeds a fuzz target with the YAML files of an archive.
func seed(f *testing.F, name string) {
	f.Helper()
	for _, member := range archive(f, name) {
		if strings.HasSuffix(member.Name, ".yaml") {
			f.Add(member.Data)
		}
	}
}

// FuzzGridFile: what is accepted reads the same when it is written.
func FuzzGridFile(f *testing.F) {
	seed(f, "files.txtar")
	f.Fuzz(func(t *testing.T, text []byte) {
		servers, err := file.Parse("grid.yaml", text)
		if err != nil {
			return
		}
		sameAgain(t, servers)
	})
}

// FuzzImport: whatever a node's files say, what is imported is a good grid file of servers
// elsewhere.
func FuzzImport(f *testing.F) {
	seed(f, "nodes.txtar")
	f.Fuzz(func(t *testing.T, text []byte) {
		servers, _ := file.ImportText(text) // servers.yaml counts also when the cache is none
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

func sameAgain(t *testing.T, servers []file.Server) {
	t.Helper()
	text := file.Format(servers)
	again, err := file.Parse("grid.yaml", text)
	if err != nil || len(again) != len(servers) {
		t.Fatalf("%d servers, %v\n%s", len(again), err, text)
	}
	for i, s := range servers {
		if a := again[i]; a.Nickname != s.Nickname || a.URL != s.URL || !bytes.Equal(a.Seed, s.Seed) {
			t.Errorf("server %d: %q %q %x, was %q %q %x", i, a.Nickname, a.URL, a.Seed, s.Nickname, s.URL, s.Seed)
		}
	}
}
