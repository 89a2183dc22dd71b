package local

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/disk"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// maxLinks is how many links the kernel follows.
const maxLinks = 40

// fileWriter writes beside its target and takes the target's place at Commit.
type fileWriter struct {
	ctx    context.Context
	target string
	tmp    *os.File
	made   []string // directories that Create made, outermost first
	ended  bool
}

// Create implements sandbox.Sandbox. A link is written through: what it points to is replaced.
func (s *Sandbox) Create(ctx context.Context, path string) (sandbox.FileWriter, error) {
	if strings.HasSuffix(path, "/") {
		return nil, sandbox.ErrIsDir.With("%s: names a directory; end it with the name of the file", path)
	}
	path, err := s.begin(ctx, path)
	if err != nil {
		return nil, err
	}
	target, err := followLinks(path)
	if err != nil {
		return nil, typed(path, err)
	}
	old, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	case err != nil:
		return nil, typed(path, err)
	case old.IsDir():
		return nil, sandbox.ErrIsDir.With("%s: is a directory", path)
	case !old.Mode().IsRegular():
		return nil, notRegular(path, old.Mode())
	default:
		// A rename asks the directory only; who may not write the file may not replace it either.
		if err := unix.Access(target, unix.W_OK); err != nil {
			return nil, typed(path, err)
		}
	}
	w := &fileWriter{ctx: ctx, target: target}
	if w.made, err = makeParents(filepath.Dir(target)); err != nil {
		return nil, typed(path, err)
	}
	tmp := filepath.Join(filepath.Dir(target), ".pawl-"+rand.Text()+".tmp")
	if w.tmp, err = os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
		return nil, typed(path, err)
	}
	if old != nil {
		if st, ok := old.Sys().(*syscall.Stat_t); ok {
			w.tmp.Chown(int(st.Uid), int(st.Gid)) // only root can, for another's file; then the file becomes ours
		}
		if err := w.tmp.Chmod(old.Mode().Perm()); err != nil {
			w.Abort()
			return nil, typed(path, err)
		}
	}
	return w, nil
}

// followLinks finds what a path names in the end, even if nothing is there yet.
func followLinks(path string) (string, error) {
	for range maxLinks {
		to, err := os.Readlink(path)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			return path, nil // not a link, or nothing
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			// Relative to where the link really is: its parents may be links, and to may climb with "..".
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", syscall.ELOOP
}

// makeParents is MkdirAll that tells what it made.
func makeParents(dir string) (made []string, err error) {
	err = os.Mkdir(dir, 0o777)
	switch {
	case err == nil:
		return []string{dir}, nil
	case errors.Is(err, fs.ErrNotExist):
		if made, err = makeParents(filepath.Dir(dir)); err != nil {
			return made, err
		}
		if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return made, err
		}
		return append(made, dir), nil
	}
	st, serr := os.Stat(dir)
	switch {
	case serr == nil && st.IsDir():
		return nil, nil
	case serr == nil:
		return nil, syscall.ENOTDIR
	}
	return nil, err
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if err := sandbox.FromContext(w.ctx); err != nil {
		return 0, err
	}
	n, err := w.tmp.Write(p)
	return n, typed(w.target, err)
}

// Commit implements sandbox.FileWriter.
func (w *fileWriter) Commit() error {
	if w.ended {
		return sandbox.ErrInvalidArg.With("%s: the write has ended already", w.target)
	}
	if err := sandbox.FromContext(w.ctx); err != nil {
		w.Abort()
		return err
	}
	err := w.tmp.Sync()
	if err == nil {
		err = os.Rename(w.tmp.Name(), w.target)
	}
	if err != nil {
		w.Abort()
		return typed(w.target, err)
	}
	w.ended = true
	err = w.tmp.Close()
	for _, dir := range append(w.made, w.target) {
		err = errors.Join(err, disk.SyncDir(filepath.Dir(dir)))
	}
	return typed(w.target, err)
}

// Abort implements sandbox.FileWriter.
func (w *fileWriter) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	w.tmp.Close()
	os.Remove(w.tmp.Name())
}
