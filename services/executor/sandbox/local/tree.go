package local

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/tarball"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
	"github.com/pawl-dev/pawl/services/executor/sandbox/hostfile"
)

// Pack implements sandbox.Sandbox.
func (s *Sandbox) Pack(ctx context.Context, path string) (io.ReadCloser, error) {
	path, err := s.begin(ctx, path)
	if err != nil {
		return nil, err
	}
	dir, err := hostfile.OpenDir(path)
	if err != nil {
		return nil, typed(path, err)
	}
	r, w := io.Pipe()
	go func() { // ends with the archive, with ctx, or when it is closed
		err := contain.Do(func() error { return tarball.Pack(ctx, dir, w, hostfile.RefuseOwn) })
		w.CloseWithError(errors.Join(packing(path, err), dir.Close()))
	}()
	return r, nil
}

// Unpack implements sandbox.Sandbox.
func (s *Sandbox) Unpack(ctx context.Context, path string, archive io.Reader) error {
	path, err := s.begin(ctx, path)
	if err != nil {
		return err
	}
	if err := s.MakeDir(ctx, path, true); err != nil {
		return err
	}
	dir, err := hostfile.OpenDir(path)
	if err != nil {
		return typed(path, err)
	}
	return errors.Join(packing(path, tarball.Unpack(ctx, dir, archive)), dir.Close())
}

// packing is an error of an archive as verbs tell it.
func packing(path string, err error) error {
	var entry *tarball.EntryError
	var at *os.PathError
	switch {
	case errors.As(err, &entry):
		return sandbox.ErrInvalidArg.With("%s: %v", path, entry)
	case errors.As(err, &at):
		return typed(at.Path, err)
	}
	return err
}
