package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"spillway/decode/grid/file"
)

// TestImport imports from directories of nodes.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	files := archive(t, "nodes.txtar")
	if err := txtar.Write(&txtar.Archive{Files: files}, dir); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{}
	for _, f := range files {
		wanted[f.Name] = string(f.Data)
	}
	nodes, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		name := node.Name()
		if name == "want" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			imported, err := file.Import(filepath.Join(dir, name))
			if want := wanted["want/"+name+".error"]; want != "" || err != nil {
				if err == nil || strings.ReplaceAll(err.Error(), dir+"/", "")+"\n" != want {
					t.Errorf("the error is %v,\nnot %s", err, want)
				}
				return
			}
			if want := wanted["want/"+name+".yaml"]; want != "" && string(file.Format(imported.Servers)) != want {
				t.Errorf("imported\n%s", file.Format(imported.Servers))
			} else if want == "" && len(imported.Servers) != 0 {
				t.Errorf("imported %v", imported.Servers)
			}
			got := fmt.Sprintf("%s\n%d of %d servers imported\n",
				strings.Join(imported.Notes, "\n"), len(imported.Servers), imported.Known)
			if got != wanted["want/"+name+".notes"] {
				t.Errorf("the notes are\n%s", got)
			}
		})
	}
}
