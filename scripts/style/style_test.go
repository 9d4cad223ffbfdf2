// Package style looks at the source for what gofmt, vet and staticcheck let pass.
package style_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// columns is where comments and prose end. A tab counts as one.
const columns = 100

// root is the checkout's.
const root = "../.."

// files returns the paths below root that end in suffix, but what begins with a dot.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, suffix):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("nothing was looked at")
	}
	return found
}

// eachFile parses the Go files that people write.
func eachFile(t *testing.T, look func(*token.FileSet, *ast.File)) {
	t.Helper()
	fset := token.NewFileSet()
	for _, path := range files(t, ".go") {
		src, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if !ast.IsGenerated(file) {
			look(fset, file)
		}
	}
}

// link is what cannot be broken: a URL, or where a link of Markdown goes.
var link = regexp.MustCompile(`\]\([^)]*\)|https?://\S+`)

// tooLong tells whether text that begins at a column, counted from 1, ends beyond the last one.
func tooLong(column int, text string) bool {
	return column-1+utf8.RuneCountInString(link.ReplaceAllString(text, "")) > columns
}

// TestComments: comments end in time, those that follow code on its line as well.
func TestComments(t *testing.T) {
	eachFile(t, func(fset *token.FileSet, file *ast.File) {
		for _, group := range file.Comments {
			for _, comment := range group.List {
				if strings.HasPrefix(comment.Text, "//go:") {
					continue // the compiler wants it on one line
				}
				at := fset.Position(comment.Pos())
				for i, line := range strings.Split(comment.Text, "\n") {
					if i > 0 {
						at.Line, at.Column = at.Line+1, 1
					}
					if tooLong(at.Column, line) {
						t.Errorf("%s:%d: a comment ends beyond column %d", at.Filename, at.Line, columns)
					}
				}
			}
		}
	})
}

// TestProse: lines of Markdown end in time, but those of tables and of code.
func TestProse(t *testing.T) {
	for _, path := range files(t, ".md") {
		if filepath.Base(path) == "RESULTS.md" {
			continue // programs write it
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		code := false
		for i, line := range strings.Split(string(text), "\n") {
			switch {
			case strings.HasPrefix(line, "```"):
				code = !code
			case code || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "|"):
			case tooLong(1, line):
				t.Errorf("%s:%d: a line ends beyond column %d", path, i+1, columns)
			}
		}
	}
}

// TestNames: no variable hides cap, len or new.
func TestNames(t *testing.T) {
	eachFile(t, func(fset *token.FileSet, file *ast.File) {
		variable := func(name *ast.Ident) {
			switch name.Name {
			case "cap", "len", "new":
				t.Errorf("%s: a variable is called %s", fset.Position(name.Pos()), name.Name)
			}
		}
		expressions := func(tok token.Token, names ...ast.Expr) {
			for _, e := range names {
				if name, ok := e.(*ast.Ident); ok && tok == token.DEFINE {
					variable(name)
				}
			}
		}
		fields := func(list *ast.FieldList) {
			if list == nil {
				return
			}
			for _, field := range list.List {
				for _, name := range field.Names {
					variable(name)
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				expressions(n.Tok, n.Lhs...)
			case *ast.RangeStmt:
				expressions(n.Tok, n.Key, n.Value)
			case *ast.ValueSpec:
				for _, name := range n.Names {
					variable(name)
				}
			case *ast.FuncDecl:
				fields(n.Recv)
			case *ast.FuncType:
				fields(n.Params)
				fields(n.Results)
			}
			return true
		})
	})
}

// TestSkips: only package need skips tests, so that SPILLWAY_NO_SKIP forbids all of it.
func TestSkips(t *testing.T) {
	eachFile(t, func(fset *token.FileSet, file *ast.File) {
		if file.Name.Name == "need" {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); ok {
				switch f.Sel.Name {
				case "Skip", "Skipf", "SkipNow":
					t.Errorf("%s: a test is skipped, and not by scripts/need", fset.Position(call.Pos()))
				}
			}
			return true
		})
	})
}

// cited is a decision that a comment names, as "see decision one-lock-in-spool". Names have a
// hyphen.
var cited = regexp.MustCompile(`decisions? ([a-z0-9]+-[a-z0-9-]+)((?:,? and |, )[a-z0-9]+-[a-z0-9-]+)*`)

// TestDecisions: the decisions that comments name are there.
func TestDecisions(t *testing.T) {
	name := regexp.MustCompile(`[a-z0-9]+-[a-z0-9-]+`)
	eachFile(t, func(fset *token.FileSet, file *ast.File) {
		for _, group := range file.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			for _, citation := range cited.FindAllString(text, -1) {
				for _, decision := range name.FindAllString(citation, -1) {
					found, err := filepath.Glob(filepath.Join(root, "scripts", "decisions", "[0-9][0-9][0-9][0-9]-"+decision+".md"))
					if err != nil || len(found) != 1 {
						t.Errorf("%s: there is no decision %s", fset.Position(group.Pos()), decision)
					}
				}
			}
		}
	})
}
