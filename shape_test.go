package pawl_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// What a stranger can take in: how many lines a file and a function may have, and how many fields a struct may have
// without a reason. The reason stands in its comment, which speaks of its fields.
const (
	mostLines  = 400
	mostOfOne  = 60
	mostFields = 15
)

// What the programs are made of stays small enough to be read at once.
func TestShapes(t *testing.T) {
	seen := 0
	for _, p := range load(t) {
		if !under(p.folder, "cmd", "services", "internal/client") || strings.HasSuffix(p.folder, "test") {
			continue
		}
		for _, f := range p.files {
			if f.test() {
				continue
			}
			seen++
			files := token.NewFileSet()
			syntax, err := parser.ParseFile(files, f.name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range shapeless(files, syntax) {
				t.Error(fault)
			}
		}
	}
	if seen < 200 {
		t.Errorf("looked at %d files only", seen)
	}
}

func TestShapesCanBreak(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	fields := strings.Repeat("a int\n", mostFields)
	for text, want := range map[string]int{
		"package p\nfunc f() {" + lines(mostOfOne-1) + "}":                                 0,
		"package p\nfunc f() {" + lines(mostOfOne) + "}":                                   1,
		"package p\n" + lines(mostLines-2) + "var x int":                                   0,
		"package p\n" + lines(mostLines-1) + "var x int":                                   1,
		"package p\ntype t struct {\n" + fields + "}":                                      0,
		"package p\ntype t struct {\n" + fields + "b, c int\n}":                            1,
		"package p\n\n// t has a field for each.\ntype t struct {\n" + fields + "b int\n}": 0,
	} {
		files := token.NewFileSet()
		syntax, err := parser.ParseFile(files, "p.go", text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if got := shapeless(files, syntax); len(got) != want {
			t.Errorf("%d faults instead of %d in %q: %v", len(got), want, text, got)
		}
	}
}

// shapeless names what is too large in a file.
func shapeless(files *token.FileSet, syntax *ast.File) (faults []string) {
	large := func(at ast.Node, name, what string) {
		faults = append(faults, files.Position(at.Pos()).String()+": "+name+" has more than "+what)
	}
	lines := func(n ast.Node) int { return files.Position(n.End()).Line - files.Position(n.Pos()).Line + 1 }
	if files.Position(syntax.End()).Line > mostLines {
		large(syntax, "the file", "400 lines")
	}
	for _, decl := range syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if lines(decl) > mostOfOne {
				large(decl, decl.Name.Name, "60 lines")
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				one, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				body, ok := one.Type.(*ast.StructType)
				why := decl.Doc.Text() + one.Doc.Text()
				if ok && body.Fields.NumFields() > mostFields && !strings.Contains(why, "field") {
					large(one, one.Name.Name, "15 fields, and its comment does not say of its fields why")
				}
			}
		}
	}
	return faults
}
