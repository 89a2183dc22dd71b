package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Cmd is a command as the daemon sees it. It implements sandbox.Exec.
type Cmd struct {
	c       *Client
	id      string
	dir     string
	started bool // the keeper said so; belongs to c.mu, as does
	asking  int  // how many wait to hear that

	mu      sync.Mutex
	changed chan struct{} // closed by the next change
	size    [3]int64      // of the streams; what was heard last, and after the end the truth, unless nobody saw that
	end     *end
	done    chan struct{}
}

var _ sandbox.Exec = (*Cmd)(nil)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func checkID(id string) error {
	if !idPattern.MatchString(id) {
		return sandbox.ErrInvalidArg.With("command id %q: want 1 to 64 of A-Z a-z 0-9 _ -", id)
	}
	return nil
}

// Start runs a command under id, or finds the one that was started under it: running, finished, or ErrInterrupted.
// After ErrTimeout and ErrCancelled it may run; Attach tells.
func (c *Client) Start(ctx context.Context, id string, spec Spec) (*Cmd, error) {
	return c.follow(ctx, message{Kind: kindStart, ID: id, Spec: &spec})
}

// Attach finds a command again. ErrUnknownExec if it never ran, ErrInterrupted if its keeper died before it ended.
func (c *Client) Attach(ctx context.Context, id string) (*Cmd, error) {
	return c.follow(ctx, message{Kind: kindAttach, ID: id})
}

// Forget drops output and status of a finished command. Unknown ids are fine.
func (c *Client) Forget(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	_, err := c.ask(ctx, message{Kind: kindForget, ID: id})
	return err
}

func (c *Client) follow(ctx context.Context, m message) (*Cmd, error) {
	if err := checkID(m.ID); err != nil {
		return nil, err
	}
	// Known before it is asked for, so that no event passes by.
	c.mu.Lock()
	cmd := c.cmds[m.ID]
	if cmd == nil {
		cmd = &Cmd{
			c: c, id: m.ID, dir: filepath.Join(c.dir, "calls", m.ID),
			changed: make(chan struct{}), done: make(chan struct{}),
		}
		c.cmds[m.ID] = cmd
	}
	cmd.asking++
	c.mu.Unlock()
	interrupted := func(r *message) bool { return r.State.End != nil && r.State.End.Interrupted }
	r, err := c.askAnd(ctx, m, func(r *message) {
		c.mu.Lock()
		defer c.mu.Unlock()
		cmd.started = cmd.started || !interrupted(r)
	})
	c.mu.Lock()
	cmd.asking--
	if c.cmds[m.ID] == cmd && !cmd.started && cmd.asking == 0 {
		delete(c.cmds, m.ID)
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if interrupted(r) {
		return nil, sandbox.ErrInterrupted.With("command %s was interrupted, its outcome is unknown", m.ID)
	}
	if r.State.End != nil {
		c.update(r.State)
	}
	cmd.update(r.State) // even when it left the table: its end may have come before this answer
	return cmd, nil
}

func (cmd *Cmd) update(s *state) {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	if cmd.end != nil {
		return
	}
	close(cmd.changed)
	if s.End == nil {
		// An answer may be older than the events that overtook it.
		cmd.size = [3]int64{
			sandbox.Stdout: max(cmd.size[sandbox.Stdout], s.Stdout),
			sandbox.Stderr: max(cmd.size[sandbox.Stderr], s.Stderr),
		}
		cmd.changed = make(chan struct{})
		return
	}
	if !s.End.Interrupted {
		cmd.size = [3]int64{sandbox.Stdout: s.End.Stdout, sandbox.Stderr: s.End.Stderr}
	}
	cmd.end = s.End // changed stays closed: there is nothing to wait for any more
	close(cmd.done)
}

// Done implements sandbox.Exec.
func (cmd *Cmd) Done() <-chan struct{} { return cmd.done }

// Changed implements sandbox.Exec.
func (cmd *Cmd) Changed() <-chan struct{} {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	return cmd.changed
}

// Size implements sandbox.Exec.
func (cmd *Cmd) Size(s sandbox.Stream) int64 {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	return cmd.size[s]
}

// Exit implements sandbox.Exec.
func (cmd *Cmd) Exit() sandbox.Exit {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	if cmd.end == nil {
		return sandbox.Exit{}
	}
	return cmd.end.exit()
}

// ReadOutput implements sandbox.Exec. It reads the keeper's file.
func (cmd *Cmd) ReadOutput(s sandbox.Stream, p []byte, off int64) (int, error) {
	cmd.mu.Lock()
	e, size := cmd.end, cmd.size[s] // before the look at the file
	cmd.mu.Unlock()
	name := "stdout"
	if s == sandbox.Stderr {
		name = "stderr"
	}
	if e != nil && !e.Interrupted && off >= size {
		return 0, io.EOF
	}
	f, err := openOutput(filepath.Join(cmd.dir, name))
	if errors.Is(err, os.ErrNotExist) && (e == nil || e.Interrupted) {
		if e != nil {
			return 0, io.EOF
		}
		return 0, nil // nothing was written yet
	}
	if err != nil {
		return 0, sandbox.ErrUnavailable.With("reading the output of command %s: %v", cmd.id, err)
	}
	defer f.Close()
	n, err := f.ReadAt(p, off)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, sandbox.ErrUnavailable.With("reading the output of command %s: %v", cmd.id, err)
	case e == nil:
		return n, nil
	case !e.Interrupted && off+int64(n) < size:
		return n, sandbox.ErrUnavailable.With("reading the output of command %s: %d bytes are missing from its file",
			cmd.id, size-off-int64(n))
	}
	return n, io.EOF
}

// openOutput opens a file of captured output, and nothing that a command may have put in its place: a pipe would never
// open.
func openOutput(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file any more (%s)", path, st.Mode().Type())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Preserve implements sandbox.Exec.
func (cmd *Cmd) Preserve() (where string, err error) {
	err = os.Mkdir(filepath.Join(cmd.dir, unreadMark), 0o700) // no descriptor is needed for that
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", sandbox.ErrUnavailable.With("keeping the files of command %s: %v", cmd.id, err)
	}
	return filepath.Join(cmd.c.dir, preservedDir, cmd.id), nil
}

// Kill implements sandbox.Exec. After the end of a command it ends the children that it kept.
func (cmd *Cmd) Kill(ctx context.Context, grace time.Duration) error {
	if _, err := cmd.c.ask(ctx, message{Kind: kindKill, ID: cmd.id, Grace: max(0, grace)}); err != nil {
		select {
		case <-cmd.done:
			if errors.Is(err, sandbox.ErrUnknownExec) {
				return nil // it was forgotten meanwhile
			}
		default:
		}
		return err
	}
	select {
	case <-cmd.done:
		return nil
	case <-ctx.Done():
		return sandbox.FromContext(ctx)
	case <-cmd.c.closed:
		return sandbox.ErrUnavailable.With("the keeper's client is closed")
	}
}
