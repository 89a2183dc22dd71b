package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/hostfile"
)

// Open implements sandbox.Sandbox.
func (s *Sandbox) Open(ctx context.Context, path string) (io.ReadSeekCloser, sandbox.Info, error) {
	path, err := s.begin(ctx, path)
	if err != nil {
		return nil, sandbox.Info{}, err
	}
	f, st, err := hostfile.Open(path, 0)
	if err != nil {
		if st, serr := os.Stat(path); serr == nil && !st.Mode().IsRegular() && !st.IsDir() {
			return nil, sandbox.Info{}, notRegular(path, st.Mode())
		}
		return nil, sandbox.Info{}, typed(path, err)
	}
	switch {
	case st.IsDir():
		err = sandbox.ErrIsDir.With("%s: is a directory", path)
	case !st.Mode().IsRegular():
		err = notRegular(path, st.Mode())
	default:
		return f, info(st), nil
	}
	f.Close()
	return nil, sandbox.Info{}, err
}

func notRegular(path string, m fs.FileMode) error {
	kind := "a device"
	switch {
	case m&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case m&fs.ModeSocket != 0:
		kind = "a socket"
	}
	return sandbox.ErrInvalidArg.With("%s: is %s, not a regular file", path, kind)
}

func info(st fs.FileInfo) sandbox.Info {
	return sandbox.Info{
		Size: st.Size(), Mode: st.Mode(), ModTime: st.ModTime(),
		IsFile: st.Mode().IsRegular(), IsDir: st.IsDir(), IsSymlink: st.Mode()&fs.ModeSymlink != 0,
	}
}

// Stat implements sandbox.Sandbox.
func (s *Sandbox) Stat(ctx context.Context, path string) (sandbox.Info, error) {
	path, err := s.begin(ctx, path)
	if err != nil {
		return sandbox.Info{}, err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return sandbox.Info{}, typed(path, err)
	}
	i := info(st)
	if i.IsSymlink {
		if i.LinkTarget, err = os.Readlink(path); err != nil {
			return sandbox.Info{}, typed(path, err)
		}
	}
	return i, nil
}

// ReadDir implements sandbox.Sandbox.
func (s *Sandbox) ReadDir(ctx context.Context, path string) ([]string, error) {
	path, err := s.begin(ctx, path)
	if err != nil {
		return nil, err
	}
	d, err := hostfile.OpenDir(path)
	if err != nil {
		return nil, typed(path, err)
	}
	defer d.Close()
	names := []string{}
	for {
		some, err := d.Readdirnames(4096)
		names = append(names, some...)
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, typed(path, err)
		}
		if err := sandbox.FromContext(ctx); err != nil {
			return nil, err
		}
	}
}

// Exists implements sandbox.Sandbox. As `test -e` does it follows links: a dangling one does not exist.
func (s *Sandbox) Exists(ctx context.Context, path string) (bool, error) {
	path, err := s.begin(ctx, path)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	for _, no := range []error{syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG} {
		if errors.Is(err, no) {
			return false, nil
		}
	}
	return err == nil, typed(path, err)
}

// MakeDir implements sandbox.Sandbox.
func (s *Sandbox) MakeDir(ctx context.Context, path string, recursive bool) error {
	path, err := s.begin(ctx, path)
	if err != nil {
		return err
	}
	if !recursive {
		return typed(path, os.Mkdir(path, 0o777))
	}
	err = os.MkdirAll(path, 0o777)
	if st, serr := os.Stat(path); err != nil && serr == nil && !st.IsDir() {
		return sandbox.ErrExists.With("%s: a file is in the way", path)
	}
	return typed(path, err)
}
