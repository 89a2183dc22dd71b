package local

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/executor/keeper"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// startFed starts a command that has input. The keeper opens a named pipe for it; this process writes into that. When
// this process dies the pipe ends, and with it the input.
func (s *Sandbox) startFed(ctx context.Context, id string, spec keeper.Spec, from io.Reader) (sandbox.Exec, error) {
	path := filepath.Join(cmp.Or(s.data, os.TempDir()), "stdin-"+id)
	pipe, ready, err := newPipe(path)
	if err != nil {
		return nil, typed(path, err)
	}
	spec.Stdin = []byte(path)
	ex, err := execOrError(s.keeper.Start(ctx, id, spec))
	err = errors.Join(err, ready.Close())
	if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && err == nil {
		err = typed(path, rerr)
	}
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	over := make(chan struct{})
	go func() { // ends with the input, or with the command
		defer close(over)
		_ = contain.Do(func() error { feed(pipe, from); return nil }) // the command sees an end, whatever has ended it
		pipe.Close()
	}()
	go func() { // whoever waits for room in the pipe does not wait for a command that has ended
		select {
		case <-ex.Done():
			pipe.Close()
		case <-over:
		}
	}()
	return ex, nil
}

// newPipe makes a named pipe that is open for writing. Until ready is closed the pipe has a reader, so that nobody
// waits for one.
func newPipe(path string) (pipe, ready *os.File, err error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, nil, err
	}
	ready, err = os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err == nil {
		pipe, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		if ready != nil {
			ready.Close()
		}
		return nil, nil, errors.Join(err, os.Remove(path))
	}
	return pipe, ready, nil
}

// feed passes input on. What the command does not want any more is read all the same.
func feed(pipe io.Writer, from io.Reader) {
	if _, err := io.Copy(pipe, from); err != nil {
		_, _ = io.Copy(io.Discard, from)
	}
}
