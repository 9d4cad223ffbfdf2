package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

// arrows says which packages of ours each package may import. A pattern ending in /*
// stands for everything below. ARCHITECTURE.md argues for each.
var arrows = map[string][]string{
	"spillway/cmd/spillway":       {"spillway/*"},
	"spillway/server":             {"spillway/server/*", "spillway/decode", "spillway/decode/caps", "spillway/decode/grid", "spillway/spool"},
	"spillway/server/transport":   {},
	"spillway/server/transport/*": {"spillway/server/transport"},
	"spillway/spool":              {"spillway/spool/nameless"},
	"spillway/spool/nameless":     {},
	"spillway/decode": {
		"spillway/decode/allowance", "spillway/decode/caps", "spillway/decode/chk", "spillway/decode/fleet", "spillway/decode/grid",
		"spillway/decode/hashtree", "spillway/decode/lifetime", "spillway/decode/memory", "spillway/decode/ranked", "spillway/decode/zfec",
	},
	"spillway/decode/upload": {
		"spillway/decode/allowance", "spillway/decode/caps", "spillway/decode/chk", "spillway/decode/fleet", "spillway/decode/grid",
		"spillway/decode/hashtree", "spillway/decode/lifetime", "spillway/decode/memory",
	},
	"spillway/decode/fleet": {
		"spillway/decode/allowance", "spillway/decode/grid", "spillway/decode/lifetime", "spillway/decode/ranked",
	},
	"spillway/decode/caps":        {"spillway/decode/grid", "spillway/decode/hashtree", "spillway/decode/zfec"},
	"spillway/decode/chk":         {"spillway/decode/zfec", "spillway/decode/hashtree", "spillway/spool/nameless"},
	"spillway/decode/allowance":   {"spillway/decode/ranked"},
	"spillway/decode/lifetime":    {"spillway/decode/ranked"},
	"spillway/decode/ranked":      {},
	"spillway/decode/memory":      {},
	"spillway/decode/zfec":        {},
	"spillway/decode/hashtree":    {"spillway/decode/lanes"},
	"spillway/decode/lanes":       {},
	"spillway/decode/grid":        {"spillway/decode/hashtree"},
	"spillway/decode/grid/*":      {"spillway/decode/grid", "spillway/decode/zfec"},
	"spillway/decode/grid/dir":    {"spillway/decode/grid", "spillway/decode/grid/container", "spillway/decode/zfec"},
	"spillway/decode/grid/file":   {"spillway/decode/grid", "spillway/decode/grid/kinds"},
	"spillway/decode/grid/gbs":    {"spillway/decode/grid", "spillway/decode/grid/ranged", "spillway/decode/zfec"},
	"spillway/decode/grid/ranged": {},
	"spillway/decode/grid/s3": {
		"spillway/decode/grid", "spillway/decode/grid/container", "spillway/decode/grid/ranged", "spillway/decode/zfec", "spillway/spool/nameless",
	},
	"spillway/decode/grid/kinds":     {"spillway/decode/grid", "spillway/decode/grid/dir", "spillway/decode/grid/gbs", "spillway/decode/grid/s3"},
	"spillway/decode/decodetest":     {"spillway/decode/*", "spillway/decode", "spillway/scripts/need"},
	"spillway/decode/grid/s3/s3test": {"spillway/scripts/need"},
	"spillway/scripts/*":             {"spillway/*"},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "spillway/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		allowed, known := allowedFor(pkg.ImportPath)
		if !known {
			t.Errorf("no rule says what %s may import", pkg.ImportPath)
		}
		for _, imported := range pkg.Imports {
			if strings.HasPrefix(imported, "spillway/") && !matches(allowed, imported) {
				t.Errorf("%s imports %s, which the design does not allow", pkg.ImportPath, imported)
			}
		}
	}
}

// allowedFor returns the rule of the package, else that of the tree it is in.
func allowedFor(pkg string) ([]string, bool) {
	if allowed, ok := arrows[pkg]; ok {
		return allowed, true
	}
	for dir := path.Dir(pkg); dir != "."; dir = path.Dir(dir) {
		if allowed, ok := arrows[dir+"/*"]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func matches(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if tree, ok := strings.CutSuffix(p, "*"); p == pkg || ok && strings.HasPrefix(pkg, tree) {
			return true
		}
	}
	return false
}
