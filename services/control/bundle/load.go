package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/document"
)

// Rules are what a folder may have.
type Rules struct {
	What  string // it is the folder of, for problems: "skill"
	Files int
	Bytes int64
	Depth int // of folders in it
	// Links that stay within the root are read as what they lead to. Without it they are problems.
	Links bool
	// Skip are names, beside those that tools leave behind, of what is left out.
	Skip []string
}

// Problem is a file that a folder may not have, or that cannot be read.
type Problem struct {
	Path string // from the root
	Text string
}

// Load reads the files of a folder of root, in order of their paths, which are relative to the folder. "." is all of
// root. Nothing outside of root is read, whatever links say. Files whose names are those of secrets are problems,
// because the files are put into workspaces.
func Load(root *os.Root, folder string, rules Rules) ([]File, []Problem) {
	l := &loader{Rules: rules, root: root, folder: folder}
	l.walk(folder, 0)
	slices.SortFunc(l.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return l.files, l.problems
}

type loader struct {
	Rules
	root     *os.Root
	folder   string
	files    []File
	bytes    int64
	problems []Problem
	full     bool
}

func (l *loader) report(name, format string, args ...any) {
	l.problems = append(l.problems, Problem{name, fmt.Sprintf(format, args...)})
}

func (l *loader) walk(folder string, depth int) {
	entries, err := readDir(l.root, folder)
	if err != nil {
		l.report(folder, "cannot be read: %v", cause(err))
		return
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		switch {
		case l.full:
			return
		case skipped[e.Name()] || slices.Contains(l.Skip, e.Name()):
		case secret(e.Name()):
			l.report(name, "looks like a secret, and the files of a %s are put into workspaces: take it out of the "+
				"%[1]s's folder", l.What)
		case e.Type()&fs.ModeSymlink != 0 && !l.Links:
			l.report(name, "is a link; a %s has files and folders only: copy what it leads to", l.What)
		default:
			l.entry(name, depth)
		}
	}
}

func readDir(root *os.Root, folder string) (entries []fs.DirEntry, err error) {
	d, err := root.Open(folder)
	if err != nil {
		return nil, err
	}
	entries, err = d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, errors.Join(err, d.Close())
}

// entry reads a file or a folder, or what a link to it leads to.
func (l *loader) entry(name string, depth int) {
	info, err := l.root.Stat(name)
	switch {
	case err != nil:
		l.report(name, "cannot be read: %v", cause(err))
	case info.IsDir() && depth+1 >= l.Depth:
		l.report(name, "is more than %d folders deep", l.Depth)
	case info.IsDir():
		l.walk(name, depth+1)
	case !info.Mode().IsRegular():
		l.report(name, "is not a regular file")
	default:
		l.read(name)
	}
}

func (l *loader) read(name string) {
	f, err := l.root.Open(name)
	if err != nil {
		l.report(name, "cannot be read: %v", cause(err))
		return
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		l.report(name, "cannot be read: %v", cause(err))
		return
	}
	data, err := io.ReadAll(io.LimitReader(f, l.Bytes-l.bytes+1))
	switch {
	case err != nil:
		l.report(name, "cannot be read: %v", cause(err))
	case l.bytes+int64(len(data)) > l.Bytes:
		l.report(name, "the files of the %s have more than %d KiB in all", l.What, l.Bytes>>10)
		l.full = true
	case len(l.files) >= l.Files:
		l.report(name, "the %s has more than %d files", l.What, l.Files)
		l.full = true
	default:
		l.bytes += int64(len(data))
		l.files = append(l.files, File{
			Path: strings.TrimPrefix(name, path.Clean(l.folder)+"/"), Data: data,
			Executable: info.Mode()&0o111 != 0,
		})
	}
}

// cause is an error without the path that the message names already.
func cause(err error) error { return document.Cause(err) }
