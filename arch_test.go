package pawl_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pawl-dev/pawl"

// under reports whether p is one of the folders or inside one.
func under(p string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return p == f || strings.HasPrefix(p, f+"/") })
}

// layer orders the packages: imports point down, or stay within a layer. New packages need no entry here.
func layer(p string) int {
	switch {
	case whole(p):
		return 6
	case under(p, "cmd"):
		return 5
	case p == "services/control" || p == "services/executor":
		return 4
	case under(p, "services/control/api", "services/control/gateway", "services/control/link",
		"services/control/store", "services/executor/link"):
		return 3
	case under(p, "services"):
		return 2 // the domain
	case under(p, "internal"):
		return 1
	default:
		return 0 // gen
	}
}

// whole are the packages that put the entire platform together, to test and to measure it.
func whole(p string) bool {
	return under(p, "internal/platformtest", "internal/bench", "internal/chaos")
}

// domain packages hold control's types, states and rules.
func domain(p string) bool { return under(p, "services/control") && layer(p) == 2 }

func local(p string) bool { return p == "" || under(p, "cmd", "services", "internal", "gen") }

// A rule forbids imports. Packages of this module are named by their folder.
type rule struct {
	name, why string
	tests     bool // whether it binds test files too
	breach    func(pkg, imp string) bool
	example   [2]string // a breach, to show that the rule can fail
}

var rules = []rule{
	{
		name:    "imports point down",
		why:     "a package that knows what stands above it can neither be tested nor replaced alone",
		breach:  func(pkg, imp string) bool { return local(imp) && layer(imp) > layer(pkg) },
		example: [2]string{"services/control/loop", "services/control/api"},
	},
	{
		name:  "control and executor do not know each other",
		why:   "they meet in proto/, run on different machines and are upgraded at different times",
		tests: true,
		breach: func(pkg, imp string) bool {
			return under(pkg, "services/control") && under(imp, "services/executor") ||
				under(pkg, "services/executor") && under(imp, "services/control")
		},
		example: [2]string{"services/control/fleet", "services/executor/journal"},
	},
	{
		name: "the domain knows no transport",
		why:  "rules that depend on generated types change whenever the API does",
		breach: func(pkg, imp string) bool {
			return domain(pkg) && under(imp, "gen", "google.golang.org/grpc", "google.golang.org/protobuf")
		},
		example: [2]string{"services/control/submission", "gen/pawl/v1"},
	},
	{
		name: "the domain knows no database",
		why:  "SQLite and Postgres are equals behind the interfaces that the domain declares; rows never leave a store",
		breach: func(pkg, imp string) bool {
			return domain(pkg) && under(imp, "database/sql", "github.com/jackc/pgx", "modernc.org/sqlite",
				"github.com/pressly/goose", "services/control/store")
		},
		example: [2]string{"services/control/session", "database/sql"},
	},
	{
		name: "only control's root picks a store",
		why:  "whoever else names a store bypasses the interface, and with it the contract suite",
		breach: func(pkg, imp string) bool {
			return under(imp, "services/control/store") && !under(pkg, "services/control/store") &&
				pkg != "services/control" && !whole(pkg)
		},
		example: [2]string{"services/control/link", "services/control/store/sqlite"},
	},
	{
		name: "internal knows no service",
		why:  "what both services share cannot depend on one of them",
		// The tests of a shared package must not either, except pgtest's, which may show a service's store at work.
		tests: true,
		breach: func(pkg, imp string) bool {
			return under(pkg, "internal") && !whole(pkg) && !under(pkg, "internal/pgtest") &&
				under(imp, "services", "cmd")
		},
		example: [2]string{"internal/rpc", "services/control/auth"},
	},
	{
		name: "no library speaks to models",
		why: "package wire has the codecs: a library cost 40 % of the CPU and half of the size of control, and " +
			"confused calls " +
			"that shared an index",
		tests: true,
		breach: func(_, imp string) bool {
			return under(imp, "charm.land/fantasy", "github.com/openai/openai-go",
				"github.com/anthropics/anthropic-sdk-go",
				"google.golang.org/genai", "github.com/sashabaranov/go-openai")
		},
		example: [2]string{"services/control/model/provider", "charm.land/fantasy"},
	},
	{
		name:  "the catalogue of models stays in one package",
		why:   "its types change with its releases; everything else knows model.Info",
		tests: true,
		breach: func(pkg, imp string) bool {
			return !under(pkg, "services/control/model/provider") && under(imp, "charm.land/catwalk")
		},
		example: [2]string{"services/control/loop", "charm.land/catwalk/pkg/catwalk"},
	},
	{
		name:  "codecs are pure",
		why:   "what turns bytes into parts and messages into bytes is tested and fuzzed without a network",
		tests: true,
		breach: func(pkg, imp string) bool {
			return under(pkg, "services/control/model/wire") && under(imp, "context", "net", "os",
				"services/control/model/provider")
		},
		example: [2]string{"services/control/model/wire", "net"},
	},
	{
		name: "client commands know the API, the transport and archives only",
		why:  "they speak to control planes elsewhere, of other versions, and are a program of their own",
		breach: func(pkg, imp string) bool {
			return pkg == "internal/client" && local(imp) &&
				!under(imp, "gen", "internal/rpc", "internal/cli", "internal/disk", "internal/ident",
					"internal/plural", "internal/tarball")
		},
		example: [2]string{"internal/client", "internal/platformtest"},
	},
	{
		name:  "tests use the standard library",
		why:   "assertion and mock libraries are a second language; fakes are written by hand and contracts are suites",
		tests: true,
		breach: func(_, imp string) bool {
			return under(imp, "github.com/stretchr/testify", "github.com/golang/mock", "go.uber.org/mock",
				"github.com/vektra/mockery",
				"github.com/DATA-DOG/go-sqlmock", "github.com/pashagolub/pgxmock", "github.com/onsi", "gotest.tools", "github.com/matryer/is")
		},
		example: [2]string{"internal/ident", "github.com/stretchr/testify/require"},
	},
}

func TestImports(t *testing.T) {
	packages := load(t)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			if !r.breach(r.example[0], r.example[1]) {
				t.Errorf("the rule allows its example: %s imports %s", r.example[0], r.example[1])
			}
			for _, p := range packages {
				for _, f := range p.files {
					for _, imp := range f.imports() {
						if (r.tests || !f.test()) && r.breach(p.folder, imp) {
							t.Errorf("%s imports %s: %s", f.name, imp, r.why)
						}
					}
				}
			}
		})
	}
}

// The executor is installed on machines that never speak to a model.
func TestExecutorLinksNothingOfModels(t *testing.T) {
	packages := load(t)
	if !slices.Contains(closure(packages, "internal/pgtest/start"), "github.com/jackc/pgx/v5") {
		t.Error("the closure misses what is known to be linked")
	}
	for _, p := range closure(packages, "cmd/executor") {
		if under(p, "services/control", "charm.land/catwalk") {
			t.Errorf("cmd/executor links %s", p)
		}
	}
}

// The package comment is where a reader begins: none leaves them lost, two leave them guessing which is true.
func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range load(t) {
		var with []string
		code := false
		for _, f := range p.files {
			if f.test() {
				continue
			}
			code = true
			if f.syntax.Doc != nil && f.syntax.Doc.Text() != "" { // directives alone have no text
				with = append(with, f.name)
			}
		}
		if code && !under(p.folder, "gen") && len(with) != 1 {
			t.Errorf("%s has package comments in %d files %v, want one", path.Join(module, p.folder), len(with), with)
		}
	}
}

// Leases, silences and times to live are durations on the monotonic clock. A package that never reads a wall clock can
// compare none.
func TestLivenessReadsNoWallClock(t *testing.T) {
	found := 0
	for _, p := range load(t) {
		if !under(p.folder, "services/control/link", "services/control/fleet", "services/control/replica",
			"services/executor/journal", "services/executor/link", "services/executor/work") ||
			under(p.folder, "services/executor/work/worktest") {
			continue
		}
		found++
		for _, f := range p.files {
			if f.test() {
				continue
			}
			for call, pos := range f.calls(t) {
				if slices.Contains([]string{"time.Now", "time.Since", "time.Until"}, call) {
					t.Errorf("%s: %s: ask a mono.Clock", pos, call)
				}
			}
		}
	}
	if found < 8 {
		t.Errorf("%d packages were looked at", found)
	}
}

// A sleeping test is slow where the machine is fast and wrong where it is slow, except on the fake clock of synctest.
// A skipped test is a promise that nobody keeps.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	for _, p := range load(t) {
		for _, f := range p.files {
			if !f.test() {
				continue
			}
			fake := slices.Contains(f.imports(), "testing/synctest")
			for call, pos := range f.calls(t) {
				switch _, method, _ := strings.Cut(call, "."); {
				case call == "time.Sleep" && !fake:
					t.Errorf("%s: time.Sleep without synctest: wait for what the test waits for", pos)
				case slices.Contains([]string{"t.Skip", "b.Skip", "f.Skip", "tb.Skip"},
					call), method == "Skipf", method == "SkipNow":
					t.Errorf("%s: %s: a test runs or is not there", pos, call)
				}
			}
		}
	}
}

// Who drives calls knows how they are carried out. A place that knows tools by name, or replies by type, would have to
// be changed for each tool that is added.
func TestOnlyPackageToolKnowsTools(t *testing.T) {
	names := 0
	for _, p := range load(t) {
		// Steps of workflows that read and write files are kinds of their own, whatever tools are named. To clients of
		// the original some of them are tools of that.
		suite := strings.HasSuffix(p.folder, "test") ||
			under(p.folder, "services/control/workflow", "services/control/run/ask", "services/control/gateway/flue")
		if !under(p.folder, "services/control", "internal/client", "cmd") || suite {
			continue
		}
		for _, f := range p.files {
			if f.test() {
				continue
			}
			for pos, n := range f.nodes(t) {
				switch what := knowsTools(p.folder, n); {
				case what == "":
				case under(p.folder, "services/control/tool"):
					names++
				default:
					t.Errorf("%s: %s: ask the tool.Tool or the tool.Reply what has to be known", pos, what)
				}
			}
		}
	}
	if names < len(toolNames) {
		t.Errorf("found %d places in package tool that name a tool: the test looks for the wrong ones", names)
	}
}

var (
	toolNames = []string{"read", "write", "edit", "bash", "grep", "glob"}
	verbs     = []string{
		"ReadText", "WriteFile", "EditFile", "Exec", "Grep", "Glob",
		"TextReply", "WriteReply", "EditReply", "ExecReply", "GrepReply", "GlobReply",
	}
)

// knowsTools says what a node knows of single tools, if anything. link has the verbs' form on the wire, the offline
// model asks for calls.
func knowsTools(folder string, n ast.Node) string {
	switch n := n.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(n.Value); err == nil && slices.Contains(toolNames, text) {
			return text + " may be a tool's name"
		}
	case *ast.SelectorExpr:
		x, ok := n.X.(*ast.Ident)
		switch {
		case !ok || n.Sel.Name == "Names":
		case x.Name == "tool" && slices.Contains(verbs, n.Sel.Name) && folder != "services/control/link":
			return "tool." + n.Sel.Name + " is of one verb"
		case x.Name == "builtin" && strings.HasPrefix(n.Sel.Name, "Name") && folder != "services/control/model/offline":
			return "builtin." + n.Sel.Name + " is a tool's name"
		}
	}
	return ""
}

type goPackage struct {
	folder string
	files  []goFile
}

type goFile struct {
	name   string
	syntax *ast.File // imports and the package comment only
}

func (f goFile) test() bool { return strings.HasSuffix(f.name, "_test.go") }

// imports of this module are given by folder.
func (f goFile) imports() []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		imp, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		if imp == module {
			imp = ""
		}
		paths = append(paths, strings.TrimPrefix(imp, module+"/"))
	}
	return paths
}

// nodes are all nodes of the file, each with its position.
func (f goFile) nodes(t *testing.T) iter.Seq2[string, ast.Node] {
	t.Helper()
	files := token.NewFileSet()
	full, err := parser.ParseFile(files, f.name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(string, ast.Node) bool) {
		for n := range ast.Preorder(full) {
			if !yield(files.Position(n.Pos()).String(), n) {
				return
			}
		}
	}
}

// calls are the calls of the form x.f, with a position each.
func (f goFile) calls(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for pos, n := range f.nodes(t) {
		if call, ok := n.(*ast.CallExpr); ok {
			if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
				if x, ok := selector.X.(*ast.Ident); ok {
					found[x.Name+"."+selector.Sel.Name] = pos
				}
			}
		}
	}
	return found
}

// load parses the heads of all Go files, whatever system they are for: go list would hide those of another.
func load(t *testing.T) []goPackage {
	t.Helper()
	packages := map[string]*goPackage{}
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			_, notOurs := os.Stat(filepath.Join(name, "go.mod"))
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" ||
				notOurs == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), ".")
		if packages[folder] == nil {
			packages[folder] = &goPackage{folder: folder}
		}
		packages[folder].files = append(packages[folder].files, goFile{name: name, syntax: syntax})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Fatalf("found %d packages: the test does not run at the module's root", len(packages))
	}
	var all []goPackage
	for _, folder := range slices.Sorted(maps.Keys(packages)) {
		all = append(all, *packages[folder])
	}
	return all
}

// closure is what a package links: the folders of this module, and the paths that these import from elsewhere.
func closure(packages []goPackage, root string) []string {
	byFolder := map[string]goPackage{}
	for _, p := range packages {
		byFolder[p.folder] = p
	}
	seen := map[string]bool{}
	var visit func(p string)
	visit = func(p string) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, f := range byFolder[p].files {
			if !f.test() {
				for _, imp := range f.imports() {
					visit(imp)
				}
			}
		}
	}
	visit(root)
	return slices.Sorted(maps.Keys(seen))
}
