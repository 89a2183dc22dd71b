package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// maxLinks is how many links the kernel follows.
const maxLinks = 40

// resolve makes a path absolute. What `..` means is for the kernel to say, which knows where links lead.
func (s *Sandbox) resolve(path string) (string, error) {
	if path == "" {
		return "", sandbox.ErrInvalidArg.With("the path is empty")
	}
	if strings.Contains(path, "\x00") {
		return "", sandbox.ErrInvalidArg.With("%q: a path cannot hold a NUL", path)
	}
	if path == "." {
		return s.root, nil
	}
	if !filepath.IsAbs(path) {
		path = s.root + "/" + path
	}
	var b strings.Builder
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			b.WriteString("/" + part)
		}
	}
	switch {
	case b.Len() == 0:
		return "/", nil
	case strings.HasSuffix(path, "/."):
		b.WriteString("/.") // what a link leads to, and not the link
	}
	return b.String(), nil
}

// begin is what every verb does first.
func (s *Sandbox) begin(ctx context.Context, path string) (string, error) {
	if err := sandbox.FromContext(ctx); err != nil {
		return "", err
	}
	return s.resolve(path)
}

// Locate implements sandbox.Sandbox.
func (s *Sandbox) Locate(ctx context.Context, path string) (string, error) {
	path, err := s.begin(ctx, path)
	if err != nil {
		return "", err
	}
	at, err := locate(path)
	return at, typed(path, err)
}

// locate finds the place that a path names in the end, through links, even if nothing is there yet. There is no link
// and no `..` in the answer.
func locate(path string) (string, error) {
	for range maxLinks {
		at, err := place(path)
		if err != nil {
			return "", err
		}
		to, err := os.Readlink(at)
		switch {
		case errors.Is(err, syscall.EINVAL), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return at, nil // not a link, or nothing
		case err != nil:
			return "", err
		}
		if path = to; !filepath.IsAbs(to) {
			path = filepath.Dir(at) + "/" + to
		}
	}
	return "", syscall.ELOOP
}

// place is a path without links and `..`, but for its last name: that may be a link itself, or of nothing.
func place(path string) (string, error) {
	at, err := filepath.EvalSymlinks(path[:strings.LastIndexByte(path, '/')+1])
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case errors.Is(err, fs.ErrNotExist) && name != ".." && name != ".":
		if at, err = locate(strings.TrimRight(path[:len(path)-len(name)], "/")); err != nil {
			return "", err
		}
	case err != nil:
		return "", err
	case name == "..":
		return filepath.Dir(at), nil
	}
	return filepath.Join(at, name), nil
}
