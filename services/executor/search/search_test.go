package search

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func lines(m Matches) string {
	var out []string
	for _, x := range m.Matches {
		out = append(out, fmt.Sprintf("%s:%d:%s", x.Path, x.Line, x.Text))
	}
	return strings.Join(out, "\n")
}

func TestGrep(t *testing.T) {
	root := tree(t, map[string]string{
		"a.go": "one\nTwo needle\r\nthree", "a/b.txt": "needle\n\nneedle (again)", "bin": "needle\x00", "late": strings.Repeat("x\n", 9000) + "\x00needle",
		".hidden": "needle", ".git/config": "needle", "empty": "", "node_modules/x.js": "needle", ".gitignore": "node_modules/\n",
		"ż.txt": "zażółć NEEDLE",
	})
	if err := os.Symlink("a.go", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		o    GrepOptions
		want string
	}{
		{"plain", GrepOptions{Pattern: "needle"}, "a.go:2:Two needle\na/b.txt:1:needle\na/b.txt:3:needle (again)"},
		{"regexp", GrepOptions{Pattern: `^n\w+$`}, "a/b.txt:1:needle"},
		{"literal", GrepOptions{Pattern: "(again)", Literal: true}, "a/b.txt:3:needle (again)"},
		{"ignore case", GrepOptions{Pattern: "ŻÓŁĆ needle", IgnoreCase: true}, "ż.txt:1:zażółć NEEDLE"},
		{"path", GrepOptions{Pattern: "needle", Path: "a"}, "a/b.txt:1:needle\na/b.txt:3:needle (again)"},
		{"absolute path", GrepOptions{Pattern: "Two", Path: root}, "a.go:2:Two needle"},
		{"a named file", GrepOptions{Pattern: "needle", Path: ".hidden"}, ".hidden:1:needle"},
		{"a named link", GrepOptions{Pattern: "Two", Path: "link"}, "link:2:Two needle"},
		{
			"a named ignored directory",
			GrepOptions{Pattern: "needle", Path: "node_modules"},
			"node_modules/x.js:1:needle",
		},
		{"include", GrepOptions{Pattern: "needle", Include: "*.{go,rs}"}, "a.go:2:Two needle"},
		{"include a path", GrepOptions{Pattern: "needle", Include: "a/**"}, "a/b.txt:1:needle\na/b.txt:3:needle " +
			"(again)"},
		{"nothing", GrepOptions{Pattern: "nothing"}, ""},
	} {
		m, err := Grep(t.Context(), root, tt.o)
		if got := lines(m); err != nil || got != tt.want || m.Total != len(m.Matches) {
			t.Errorf("%s: %v, total %d\n%s\nwant\n%s", tt.name, err, m.Total, got, tt.want)
		}
	}
	m, err := Grep(t.Context(), root, GrepOptions{Pattern: "needle", MaxMatches: 2})
	if err != nil || len(m.Matches) != 2 || m.Total != 3 {
		t.Errorf("limit: %v %+v", err, m)
	}
	if _, err := Grep(t.Context(), root, GrepOptions{Pattern: "x", Path: "missing"}); !errors.Is(err,
		sandbox.ErrNotFound) {
		t.Error(err)
	}
}

// What models write out of habit with other tools is found.
func TestGrepTakesOtherHabits(t *testing.T) {
	root := tree(t, map[string]string{
		"a.go": "func one(a int) {\nfunc two()\nabcabc 12\nx | y\n", "sub/b.ts": "one\n", "sub/c.tsx": "two\n",
		"crlf": "\xef\xbb\xbfone\r\ntwo\r\n", "utf16": "\xff\xfeo\x00n\x00e\x00\r\x00\n\x00",
	})
	for _, tt := range []struct {
		name string
		o    GrepOptions
		want string
		note string
	}{
		{"classes", GrepOptions{Pattern: `\bc\w+\s\d{2}$`, Include: "*.go"}, "", ""},
		{"look behind", GrepOptions{Pattern: `(?<=func )t\w+`}, "a.go:2:func two()", ""},
		{"look ahead", GrepOptions{Pattern: `func (?!one)`}, "a.go:2:func two()", ""},
		{"back reference", GrepOptions{Pattern: `(abc)\1`}, "a.go:3:abcabc 12", ""},
		{"look ahead, any case", GrepOptions{Pattern: `FUNC (?!ONE)`, IgnoreCase: true}, "a.go:2:func two()", ""},
		{
			"not a regexp",
			GrepOptions{Pattern: "one("},
			"a.go:1:func one(a int) {",
			"The pattern is not a regular expression (missing closing ): `one(`) and was searched as plain text.",
		},
		{
			"basic",
			GrepOptions{Pattern: `^one\|^two`, Include: "*.{ts,tsx}"},
			"sub/b.ts:1:one\nsub/c.tsx:1:two",
			"Nothing matches the pattern as it is. It was searched with | for \\|, which is the alternation here.",
		},
		{
			"basic group",
			GrepOptions{Pattern: `^\(one\|two\)$`, Include: "*.ts"},
			"sub/b.ts:1:one",
			"Nothing matches the pattern as it is. It was searched with | for \\|, which is the alternation here.",
		},
		{"a bar", GrepOptions{Pattern: `x \| y`}, "a.go:4:x | y", ""},
		{
			"over lines",
			GrepOptions{Pattern: "one\ntwo"},
			"",
			"A pattern is searched in one line at a time and cannot match a line break.",
		},
		{"list of globs", GrepOptions{Pattern: "one", Include: "*.ts, *.tsx"}, "sub/b.ts:1:one", ""},
		{"include from here", GrepOptions{Pattern: "one", Include: "./sub/*.ts"}, "sub/b.ts:1:one", ""},
		{"hidden include", GrepOptions{Pattern: "one", Include: ".sub/*.ts"}, "", ""},
		{"glob for a path", GrepOptions{Pattern: "one", Path: "sub/*.ts"}, "sub/b.ts:1:one", ""},
		{"mark and CRLF", GrepOptions{Pattern: "^one$", Path: "crlf"}, "crlf:1:one", ""},
		{"UTF-16", GrepOptions{Pattern: "^one$", Path: "utf16"}, "utf16:1:one", ""},
	} {
		m, err := Grep(t.Context(), root, tt.o)
		if got := lines(m); err != nil || got != tt.want || m.Note != tt.note {
			t.Errorf("%s: %v, note %q\n%s\nwant\n%s", tt.name, err, m.Note, got, tt.want)
		}
	}
	if _, err := Grep(t.Context(), root, GrepOptions{Pattern: "x", Path: "missing/*.go"}); !errors.Is(err,
		sandbox.ErrNotFound) {
		t.Error(err)
	}
	// A pattern that backtracks for ever ends the search, and says so.
	slow := tree(t, map[string]string{"f": strings.Repeat("a", 40) + "!\n"})
	if _, err := Grep(t.Context(), slow, GrepOptions{Pattern: `(?=x|a)(a+)+(a+)+\1$`}); !errors.Is(err,
		sandbox.ErrInvalidArg) ||
		!strings.Contains(err.Error(), "takes too long") {
		t.Error(err)
	}
}

func TestGrepLongLines(t *testing.T) {
	long := strings.Repeat("ä", 200_000) + "needle" + strings.Repeat("ö", 100)
	root := tree(t, map[string]string{"f": long + "\nneedle\n", "huge": strings.Repeat("x", 3<<20) + "\nneedle"})
	m, err := Grep(t.Context(), root, GrepOptions{Pattern: "needle", MaxLine: 40})
	if err != nil || m.Total != 3 || len(m.Matches) != 3 {
		t.Fatalf("%v %+v", err, m)
	}
	if x := m.Matches[0]; !strings.Contains(x.Text, "needle") || len(x.Text) > 50 ||
		strings.ContainsRune(x.Text, '\uFFFD') {
		t.Errorf("%q", x.Text)
	}
	if x := m.Matches[2]; x.Path != "huge" || x.Line != 2 {
		t.Errorf("%+v", x)
	}
}

func TestGlob(t *testing.T) {
	root := tree(t, map[string]string{
		"a.go": "", "a/b.go": "", "a/c/d.go": "", "a/c/d.txt": "", ".env": "", ".github/w/ci.yml": "", ".git/HEAD": "", "out/x.go": "",
		".gitignore": "out\n",
	})
	for _, tt := range []struct{ pattern, dir, want string }{
		{"*.go", "", "a.go"},
		{"**/*.go", "", "a.go a/b.go a/c/d.go"},
		{"a/**", "", "a/b.go a/c/d.go a/c/d.txt"},
		{"**/*.{txt,yml}", "", "a/c/d.txt"},
		{"*.go", "a", "a/b.go"},
		{"**/d.*", "a/c", "a/c/d.go a/c/d.txt"},
		{"a/c/d.go", "", "a/c/d.go"},
		{"**/", "", "a a/c"},
		{".env", "", ".env"},
		{".*", "", ".env .gitignore"},
		{".github/**", "", ".github/w/ci.yml"},
		{"missing/*.go", "", ""},
		{filepath.Join(root, "a", "*.go"), "", "a/b.go"},
		{"/a/*.go", "", "a/b.go"},
		{"/**/d.go", "", "a/c/d.go"},
		{"/c/*.go", "a", "a/c/d.go"},
		{"./a/**/*.txt", "", "a/c/d.txt"},
	} {
		p, err := Glob(t.Context(), root, tt.pattern, tt.dir, 0)
		if got := strings.Join(p.Paths, " "); err != nil || got != tt.want || p.Total != len(p.Paths) {
			t.Errorf("%s in %q: %v, total %d: %s, want %s", tt.pattern, tt.dir, err, p.Total, got, tt.want)
		}
	}
	p, err := Glob(t.Context(), root, "**/*.go", "", 2)
	if err != nil || !slices.Equal(p.Paths, []string{"a.go", "a/b.go"}) || p.Total != 3 {
		t.Errorf("limit: %v %+v", err, p)
	}
	if _, err := Glob(t.Context(), root, "[", "", 0); !errors.Is(err, sandbox.ErrInvalidArg) {
		t.Error(err)
	}
	if _, err := Glob(t.Context(), root, "*", "missing", 0); !errors.Is(err, sandbox.ErrNotFound) {
		t.Error(err)
	}
}

func TestIgnore(t *testing.T) {
	for _, tt := range []struct {
		rules, path string
		dir, want   bool
	}{
		{"*.log", "a/b.log", false, true},
		{"/b.log", "a/b.log", false, false},
		{"/b.log", "b.log", false, true},
		{"build/", "build", false, false},
		{"build/", "x/build", true, true},
		{"a/*.c", "a/x.c", false, true},
		{"a/*.c", "z/a/x.c", false, false},
		{"**/a/*.c", "z/a/x.c", false, true},
		{"a/**", "a/x/y", false, true},
		{"a/**", "a", true, false},
		{"*.log\n!keep.log", "keep.log", false, false},
		{"!keep.log\n*.log", "keep.log", false, true},
		{"# c\n\n\\#x\n", "#x", false, true},
		{"a\\ \nb  ", "a ", false, true},
		{"b  ", "b", false, true},
		{"{a,b}", "a", false, false},
		{"{a,b}", "{a,b}", false, true},
		{"[", "[", false, false},
		{"\\!x", "!x", false, true},
	} {
		r := &rules{dir: "/r"}
		r.byFile[1] = parseRules(tt.rules)
		if got := r.ignored("/r/"+tt.path, tt.dir); got != tt.want {
			t.Errorf("%q on %s: %v", tt.rules, tt.path, got)
		}
	}
}

func TestIgnoreFilesTogether(t *testing.T) {
	root := tree(t, map[string]string{
		".git/info/exclude": "excluded\n", ".gitignore": "*.tmp\nsub/deep\n", ".ignore": "!wanted.tmp\n",
		"x.tmp": "", "wanted.tmp": "", "excluded": "", "sub/x.tmp": "", "sub/.gitignore": "!x.tmp\n*.md\n", "sub/r.md": "", "sub/deep/f": "", "sub/f": "",
	})
	for dir, want := range map[string]string{"": "sub/f sub/x.tmp wanted.tmp", "sub": "sub/f sub/x.tmp"} {
		p, err := Glob(t.Context(), root, "**", dir, 0)
		if got := strings.Join(p.Paths, " "); err != nil || got != want {
			t.Errorf("in %q: %v %s, want %s", dir, err, got, want)
		}
	}
	// A root inside a repository obeys the repository.
	p, err := Glob(t.Context(), filepath.Join(root, "sub"), "**", "", 0)
	if got := strings.Join(p.Paths, " "); err != nil || got != "f x.tmp" {
		t.Errorf("%v %s", err, got)
	}
}

func TestNeverOpensPipes(t *testing.T) {
	root := tree(t, map[string]string{"f": "needle"})
	for _, name := range []string{"pipe", ".gitignore"} {
		if err := syscall.Mkfifo(filepath.Join(root, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, path := range []string{"", "pipe"} {
		if _, err := Grep(ctx, root, GrepOptions{Pattern: "needle", Path: path}); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestEndsWithItsContext(t *testing.T) {
	root := tree(t, map[string]string{"f": ""})
	if err := os.Truncate(filepath.Join(root, "f"), 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(root, "f"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Text at its head, then a hole of a terabyte: without the context this takes minutes.
	if _, err := f.WriteString(strings.Repeat("text ", sniff)); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = Grep(ctx, root, GrepOptions{Pattern: "needle"})
	if !errors.Is(err, sandbox.ErrTimeout) || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := Glob(ctx, root, "**", "", 0); !errors.Is(err, sandbox.ErrCancelled) {
		t.Error(err)
	}
}

func FuzzRules(f *testing.F) {
	f.Add("*.log\n!a/\n/b/**\n{", "a/b")
	f.Fuzz(func(t *testing.T, text, path string) {
		r := &rules{dir: "/r"}
		r.byFile[0] = parseRules(text)
		r.ignored("/r/"+path, false)
	})
}

// One file that is to be searched and cannot be read is an error: nothing found in it would be a guess.
func TestUnreadableFileIsTold(t *testing.T) {
	got, err := Grep(t.Context(), t.TempDir(), GrepOptions{Pattern: ".", Path: "/proc/self/environ"})
	if !errors.Is(err, sandbox.ErrPermission) {
		t.Errorf("%+v, %v", got, err)
	}
}
