package search

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// DefaultMaxPaths is how many paths Glob returns when not told.
const DefaultMaxPaths = 1000

// Paths is what Glob found: the first ones in order, and how many there are in all.
type Paths struct {
	Paths []string
	Total int
	Note  string // which paths could not be read, for the model; "" for none
}

// Glob lists the files below dir (relative to root; "" is root) whose path from there matches pattern: *, ?, [a-z],
// {a,b}, and ** for any number of directories. A pattern that ends in / lists directories. Hidden names are left out
// unless a part of the pattern starts with a dot; .git always is. At most limit paths are returned, 0 is
// DefaultMaxPaths.
func Glob(ctx context.Context, root, pattern, dir string, limit int) (Paths, error) {
	if limit <= 0 {
		limit = DefaultMaxPaths
	}
	pattern, dirs := strings.CutSuffix(pattern, "/")
	if pattern == "" || !doublestar.ValidatePattern(pattern) {
		return Paths{}, sandbox.ErrInvalidArg.With("%q is not a glob pattern", pattern)
	}
	if path.IsAbs(pattern) {
		if base, _ := doublestar.SplitPattern(path.Clean(pattern)); base != "/" && exists(base) {
			dir = "/"
		} // else it is meant from dir on, as in ignore files
		pattern = strings.TrimLeft(pattern, "/")
	}
	// What comes before the first wildcard needs no walk.
	base, rest := doublestar.SplitPattern(path.Clean(pattern))
	start, st, err := place(root, filepath.Join(dir, base))
	if err != nil {
		if _, _, err := place(root, dir); err != nil {
			return Paths{}, err
		}
		return Paths{Paths: []string{}}, nil // the place is there; nothing of this name is
	}
	out := Paths{Paths: []string{}}
	if !st.IsDir() {
		return out, sandbox.FromContext(ctx)
	}
	w := &walker{root: root, hidden: strings.HasPrefix(pattern, ".") || strings.Contains(pattern, "/.") ||
		strings.Contains(pattern, "{.")}
	w.visit = func(p string, e fs.DirEntry) error {
		rel, err := filepath.Rel(start, p)
		if err != nil || e.IsDir() != dirs || !doublestar.MatchUnvalidated(rest, rel) {
			return nil
		}
		if out.Total++; out.Total <= limit {
			out.Paths = append(out.Paths, w.name(p))
		}
		return nil
	}
	if err := w.walk(ctx, start, rulesAbove(root, start)); err != nil {
		return Paths{}, err
	}
	out.Note = w.missed.note()
	return out, nil
}
