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
	"fmt"
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
	missed missed
}

// named is how many paths that could not be read a search names.
const named = 3

// missed is what of the files below a directory could not be read.
type missed struct {
	total int
	first []string
}

// add counts a path if an error says that it may not be read. What is gone meanwhile is not missed.
func (m *missed) add(name string, err error) {
	missed := func(is error) bool { return errors.Is(err, is) }
	if !slices.ContainsFunc([]error{
		fs.ErrPermission, sandbox.ErrPermission, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
	}, missed) {
		return
	}
	if m.total++; len(m.first) < named {
		m.first = append(m.first, name)
	}
}

// note says what was missed, "" for nothing.
func (m *missed) note() string {
	switch {
	case m.total == 0:
		return ""
	case m.total == 1:
		return fmt.Sprintf("1 path could not be read: %s", m.first[0])
	case m.total > len(m.first):
		return fmt.Sprintf("%d paths could not be read: %s, …", m.total, strings.Join(m.first, ", "))
	}
	return fmt.Sprintf("%d paths could not be read: %s", m.total, strings.Join(m.first, ", "))
}

// walk visits dir, whose own name is not judged: who names a directory means it.
func (w *walker) walk(ctx context.Context, dir string, r *rules) error {
	if err := sandbox.FromContext(ctx); err != nil {
		return err
	}
	entries, err := readDir(dir)
	if err != nil {
		w.missed.add(w.name(dir), err) // a search takes what it gets, and says what it did not get
		return nil
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
