package search

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/pawl-dev/pawl/services/executor/sandbox/hostfile"
)

// maxIgnoreFile bounds what is read of an ignore file.
const maxIgnoreFile = 1 << 20

// rules are the ignore files that hold in a directory. A rule of .ignore beats one of .gitignore; among files of one
// name the deeper one does; in a file the last one.
type rules struct {
	parent *rules
	dir    string
	byFile [2][]rule // .ignore, .gitignore
}

type rule struct {
	pattern string
	negate  bool
	dirOnly bool
	base    bool // matches names at any depth, not paths
}

// rulesAbove is what holds in dir because of its parents, up to the top of its repository; without one, of root.
func rulesAbove(root, dir string) *rules {
	top, above := "", []string{}
	for d := dir; ; d = filepath.Dir(d) {
		above = append(above, d)
		if _, err := os.Lstat(filepath.Join(d, ".git")); err == nil || d == root {
			top = d
			if err == nil {
				break
			}
		}
		if d == filepath.Dir(d) {
			break
		}
	}
	if top == "" {
		return nil
	}
	var r *rules
	for i := len(above) - 1; i > 0; i-- {
		if len(above[i]) >= len(top) {
			r = r.enter(above[i])
		}
	}
	return r
}

// enter adds the ignore files of dir.
func (r *rules) enter(dir string) *rules {
	n := &rules{parent: r, dir: dir}
	n.byFile[0] = readRules(filepath.Join(dir, ".ignore"))
	n.byFile[1] = append(readRules(filepath.Join(dir, ".git", "info", "exclude")),
		readRules(filepath.Join(dir, ".gitignore"))...)
	if n.byFile[0] == nil && n.byFile[1] == nil {
		return r
	}
	return n
}

func readRules(path string) []rule {
	f, st, err := hostfile.Open(path, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if !st.Mode().IsRegular() {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile))
	if err != nil {
		return nil
	}
	return parseRules(string(b))
}

func parseRules(text string) []rule {
	var out []rule
	for line := range strings.Lines(text) {
		if r, ok := parseRule(strings.TrimRight(line, "\r\n")); ok {
			out = append(out, r)
		}
	}
	return out
}

func parseRule(line string) (rule, bool) {
	for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
		line = line[:len(line)-1]
	}
	if line == "" || line[0] == '#' {
		return rule{}, false
	}
	var r rule
	line, r.negate = strings.CutPrefix(line, "!")
	line, r.dirOnly = strings.CutSuffix(line, "/")
	r.base = !strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	// Braces mean themselves here; and "a/**" is what is in a, not a.
	line = strings.NewReplacer(`\{`, `\{`, `\}`, `\}`, "{", `\{`, "}", `\}`).Replace(line)
	if strings.HasSuffix(line, "/**") {
		line += "/*"
	}
	r.pattern = line
	return r, line != "" && doublestar.ValidatePattern(line)
}

func (r *rules) ignored(path string, dir bool) bool {
	for kind := range 2 {
		for at := r; at != nil; at = at.parent {
			rel, err := filepath.Rel(at.dir, path)
			if err != nil {
				continue
			}
			list := at.byFile[kind]
			for i := len(list) - 1; i >= 0; i-- {
				if list[i].matches(rel, dir) {
					return !list[i].negate
				}
			}
		}
	}
	return false
}

func (r rule) matches(rel string, dir bool) bool {
	if r.dirOnly && !dir {
		return false
	}
	if r.base {
		rel = filepath.Base(rel)
	}
	return doublestar.MatchUnvalidated(r.pattern, rel)
}
