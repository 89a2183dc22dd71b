// Package search finds text and files below a directory, as people search code: it leaves out hidden, ignored and
// binary files, and opens only regular files.
//
//	Grep, Glob ──▶ walk (in the order of paths) ──asks──▶ rules (.gitignore, .ignore, from the repository's top down)
//
// Invariants:
//   - Results come in the byte order of their paths, so that a limit always selects the same ones.
//   - A search ends within one read after the end of its context.
//   - Links are not followed.
package search

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/hostfile"
)

// walker visits what is below a directory, sorted.
type walker struct {
	root   string // results are relative to it
	hidden bool   // hidden names are visited, too
	visit  func(path string, e fs.DirEntry) error
}

// walk visits dir, whose own name is not judged: who names a directory means it.
func (w *walker) walk(ctx context.Context, dir string, r *rules) error {
	if err := sandbox.FromContext(ctx); err != nil {
		return err
	}
	entries, err := readDir(dir)
	if err != nil {
		return nil // unreadable, or gone meanwhile: a search takes what it gets
	}
	// "a.b" < "a/b" as paths, but "a" < "a.b" as names.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	r = r.enter(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !w.hidden && strings.HasPrefix(e.Name(), ".") || e.Name() == ".git" || r.ignored(path, e.IsDir()) {
			continue
		}
		if err := w.visit(path, e); err != nil {
			return err
		}
		if e.IsDir() {
			if err := w.walk(ctx, path, r); err != nil {
				return err
			}
		}
	}
	return sandbox.FromContext(ctx)
}

func readDir(dir string) ([]fs.DirEntry, error) {
	d, err := hostfile.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	return entries, errors.Join(err, d.Close())
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// name is how results name a path: below the root relative to it, elsewhere absolute.
func (w *walker) name(path string) string {
	rel, err := filepath.Rel(w.root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return path
	}
	return rel
}

// place resolves where a search starts.
func place(root, path string) (string, fs.FileInfo, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	path = filepath.Clean(path)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, sandbox.ErrNotFound.With("%s: no such file or directory", path)
	case errors.Is(err, syscall.ENOTDIR):
		return "", nil, sandbox.ErrNotDir.With("%s: not a directory", path)
	case errors.Is(err, fs.ErrPermission):
		return "", nil, sandbox.ErrPermission.With("%s: permission denied", path)
	case err != nil:
		return "", nil, sandbox.ErrInvalidArg.With("%s: %v", path, err)
	}
	return path, st, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
