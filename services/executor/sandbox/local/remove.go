package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Remove implements sandbox.Sandbox. Without recursive it takes files, links and empty directories. The working
// directory and the executor's data stay, and so does what they are in, by whatever name it is called: a link, a bind
// mount, a way round with `..`.
func (s *Sandbox) Remove(ctx context.Context, path string, recursive, force bool) error {
	path, err := s.begin(ctx, path)
	if err != nil {
		return err
	}
	gone := func(err error) error {
		if force && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR)) {
			return nil
		}
		return typed(path, err)
	}
	at, err := place(path)
	if err != nil {
		return gone(err)
	}
	st, err := os.Lstat(at)
	if err != nil {
		return gone(err)
	}
	if st.IsDir() {
		stays, err := s.protected()
		if err != nil {
			return err
		}
		if err := stays.check(st, path); err != nil {
			return err
		}
		if recursive {
			if err := stays.emptyDir(ctx, at, st); err != nil {
				return typed(path, err)
			}
		}
	}
	return gone(os.Remove(at))
}

// protected is what is never removed, by identity.
type protected map[fileID]string

type fileID struct{ dev, ino uint64 }

func idOf(st fs.FileInfo) fileID {
	sys := st.Sys().(*syscall.Stat_t) // of this system's os package there is no other
	return fileID{uint64(sys.Dev), sys.Ino}
}

func (s *Sandbox) protected() (protected, error) {
	all := protected{}
	for what, dir := range map[string]string{"the working directory": s.root, "the executor's data directory": s.data} {
		if dir == "" {
			continue
		}
		dir, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, sandbox.ErrUnavailable.With("looking at %s: %v", what, err)
		}
		for ; ; dir = filepath.Dir(dir) {
			st, err := os.Lstat(dir)
			if err != nil {
				return nil, sandbox.ErrUnavailable.With("looking at %s: %v", what, err)
			}
			all[idOf(st)] = what
			if dir == "/" {
				break
			}
		}
	}
	return all, nil
}

func (p protected) check(st fs.FileInfo, path string) error {
	if what, ok := p[idOf(st)]; ok {
		return sandbox.ErrInvalidArg.With("%s: %s is here and stays", path, what)
	}
	return nil
}

// emptyDir removes what is in a directory, which is the one that was looked at.
func (p protected) emptyDir(ctx context.Context, path string, looked fs.FileInfo) error {
	r, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	err = p.empty(ctx, r, looked, path)
	return errors.Join(err, r.Close())
}

// empty removes one entry after the other, so that ctx can end it. Nothing is followed that takes the place of a
// directory meanwhile.
func (p protected) empty(ctx context.Context, r *os.Root, looked fs.FileInfo, path string) error {
	st, err := r.Stat(".")
	if err != nil {
		return err
	}
	if !os.SameFile(st, looked) {
		return sandbox.ErrUnavailable.With("%s: something else took its place; it was not removed", path)
	}
	names, err := namesIn(r)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := sandbox.FromContext(ctx); err != nil {
			return err
		}
		if err := p.removeEntry(ctx, r, name, path+"/"+name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return typed(path+"/"+name, err)
		}
	}
	return nil
}

func (p protected) removeEntry(ctx context.Context, r *os.Root, name, path string) error {
	st, err := r.Lstat(name)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return r.Remove(name)
	}
	if err := p.check(st, path); err != nil {
		return err
	}
	sub, err := r.OpenRoot(name)
	if err != nil {
		return err
	}
	if err := errors.Join(p.empty(ctx, sub, st, path), sub.Close()); err != nil {
		return err
	}
	return r.Remove(name)
}

func namesIn(r *os.Root) ([]string, error) {
	d, err := r.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, errors.Join(err, d.Close())
}
