package work

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

const (
	maxHead = 64 << 10
	maxTail = 64 << 10
	// maxWhole bounds the bytes of both streams of a command whose result has them whole, and of a file that travels in
	// one frame.
	maxWhole = 12 << 20
	// overtime is how long after its deadline a command that its owner did not end is ended from here.
	overtime = 10 * time.Second
)

func (s *Service) runExec(c *call, again bool) {
	if again {
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		err := s.cfg.Sandbox.Forget(ctx, c.id())
		cancel()
		if err != nil {
			s.accept(c)
			s.finish(c, journal.Finished, s.failed(c, err))
			return
		}
	}
	ex, err := s.startCommand(c)
	if s.ctx.Err() != nil && err != nil {
		close(c.ended)
		return
	}
	s.accept(c)
	if err != nil {
		s.failedToStart(c, err)
		return
	}
	s.follow(c, ex)
}

func (s *Service) failedToStart(c *call, err error) {
	state := journal.Finished
	if errors.Is(err, sandbox.ErrInterrupted) {
		state = journal.Interrupted
	}
	s.finish(c, state, s.failed(c, err))
}

// startCommand starts a command, or finds out for certain that it did not start.
func (s *Service) startCommand(c *call) (sandbox.Exec, error) {
	if s.isCancelled(c) {
		return nil, sandbox.ErrCancelled.With("cancelled before it began")
	}
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	ex, err := s.cfg.Sandbox.Start(ctx, c.id(), s.command(c))
	cancel()
	if err == nil || certain(err) {
		return ex, err
	}
	// Whoever was to start it does not answer. Either it runs or it does not; a guess would be a lie.
	s.log.Warn("a command's start is in doubt", "call_id", c.id(), "err", err)
	ex, aerr := s.attach(c.id())
	if errors.Is(aerr, sandbox.ErrUnknownExec) {
		return nil, err
	}
	return ex, aerr
}

// certain reports whether an error of Start says by itself what became of the command.
func certain(err error) bool {
	return slices.ContainsFunc([]error{
		sandbox.ErrNotFound, sandbox.ErrNotDir, sandbox.ErrIsDir, sandbox.ErrPermission, sandbox.ErrNoSpace,
		sandbox.ErrTooLarge, sandbox.ErrInvalidArg, sandbox.ErrInterrupted,
	}, func(e error) bool { return errors.Is(err, e) })
}

// attach asks the sandbox about a command until it answers or the service is closed.
func (s *Service) attach(id string) (sandbox.Exec, error) {
	for {
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		ex, err := s.cfg.Sandbox.Attach(ctx, id)
		cancel()
		if err == nil || errors.Is(err, sandbox.ErrUnknownExec) || errors.Is(err, sandbox.ErrInterrupted) {
			return ex, err
		}
		s.log.Warn("the sandbox does not tell about a command", "call_id", id, "err", err)
		if err := await.Sleep(s.ctx, askPause); err != nil {
			return nil, err
		}
	}
}

func (s *Service) isCancelled(c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.cancelled
}

func (s *Service) command(c *call) sandbox.Command {
	x := c.exec.GetExec()
	env := make(map[string]*string, len(c.exec.GetEnv())+len(x.GetEnv()))
	for k, v := range c.exec.GetEnv() {
		env[k] = &v
	}
	for _, k := range c.exec.GetUnsetEnv() {
		env[k] = nil
	}
	for k, v := range x.GetEnv() {
		env[k] = &v
	}
	cmd := sandbox.Command{
		Line: x.GetCommand(), Cwd: s.path(c, x.GetCwd()), Env: env, Keep: x.GetKeep(),
		Timeout: x.GetTimeout().AsDuration(), Tied: c.loose(), Input: x.GetInput(),
	}
	if x.GetStdin() {
		cmd.Stdin = &taken{s: s, c: c, in: c.in, hash: sha256.New()}
	}
	if left, limited := s.left(c); limited {
		// The owner of the command ends it even when this daemon is not there to do it.
		left = max(left, time.Millisecond)
		if cmd.Timeout <= 0 || left < cmd.Timeout {
			cmd.Timeout = left
		}
	}
	return cmd
}

// left is the time until a call's deadline. After a restart it is more than that by the time that no daemon was there:
// only the owner of the command, which runs on, knows better.
func (s *Service) left(c *call) (left time.Duration, limited bool) {
	return c.begin.Deadline - s.j.Age(), c.begin.Deadline != 0
}

// follow watches a command to its end. The command is not this process's: Close only stops watching.
func (s *Service) follow(c *call, ex sandbox.Exec) {
	s.adopt(c, ex)
	var late <-chan time.Time
	if left, limited := s.left(c); limited {
		t := time.NewTimer(max(0, left) + overtime)
		defer t.Stop()
		late = t.C
	}
	overdue := false
	for {
		changed := ex.Changed()
		select {
		case <-ex.Done():
			s.finishCommand(c, ex, overdue)
			return
		default:
		}
		s.grew(c)
		select {
		case <-changed:
		case <-ex.Done():
		case <-late:
			late, overdue = nil, true
			s.mu.Lock()
			c.grace = 0
			s.kill(c)
			s.mu.Unlock()
		case <-s.ctx.Done():
			close(c.ended)
			return
		}
	}
}

func (s *Service) adopt(c *call, ex sandbox.Exec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.ex, c.src = ex, commandSource{ex}
	if c.cancelled {
		s.kill(c)
	}
}

// grew makes the watcher look for new output.
func (s *Service) grew(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.feed.touch()
	if c.feed.attached {
		s.push(c)
	}
}

// kill ends a command, however often it has to be asked for. The caller holds mu.
func (s *Service) kill(c *call) {
	ex, grace := c.ex, c.grace
	s.goLocked(func() {
		for s.ctx.Err() == nil {
			err := ex.Kill(s.ctx, grace)
			if err == nil {
				return
			}
			s.log.Warn("a command could not be killed", "call_id", c.id(), "err", err)
			select {
			case <-ex.Done():
				return
			case <-s.ctx.Done():
			case <-time.After(askPause):
			}
		}
	})
}

func (s *Service) finishCommand(c *call, ex sandbox.Exec, overdue bool) {
	x := ex.Exit()
	if x.Interrupted {
		s.finish(c, journal.Interrupted, failure(c, sandbox.ErrInterrupted))
		return
	}
	out, serr, err := s.capturedStreams(c, ex, x)
	if err != nil {
		close(c.ended)
		return // cut short by Close, and read by the next Recover
	}
	image, err := s.image(c, ex, x)
	if err != nil {
		close(c.ended)
		return
	}
	if image != nil {
		out = &pawlv1.Captured{Size: x.StdoutBytes}
	}
	r := &pawlv1.ExecResult{
		ExitCode: int32(x.Code), Signal: int32(x.Signal), TimedOut: x.TimedOut, Cancelled: x.Killed,
		Confirmed: x.Confirmed, Stdout: out, Stderr: serr, Started: stamp(x.Started), Ended: stamp(x.Ended),
		Leftovers: int32(x.Leftovers), Image: image, Whole: c.begin.Whole && isWhole(out) && isWhole(serr),
	}
	if overdue && x.Killed {
		r.TimedOut, r.Cancelled, r.ExitCode = true, s.isCancelled(c), 124
	}
	h := c.head()
	h.Outcome = &pawlv1.Result_Exec{Exec: r}
	s.finish(c, journal.Finished, h)
}
