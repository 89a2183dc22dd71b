package work

import (
	"context"
	"errors"

	"github.com/pawl-dev/pawl/services/executor/journal"
	"github.com/pawl-dev/pawl/services/executor/sandbox"
)

// Recover takes up what an earlier process left, see the diagram. It waits for the sandbox's answers.
func (s *Service) Recover(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.quit)()
	held := s.j.Calls(func(c *journal.Call) bool { return c.State != journal.Tombstone })
	for r := range held {
		if err := s.recover(r); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.j.Calls(func(c *journal.Call) bool {
		return c.State == journal.Tombstone && c.Exec && !c.Forgot
	}) {
		s.forget = append(s.forget, r.CallID)
	}
	s.reap.Set()
	return nil
}

func (s *Service) recover(r journal.Call) error {
	c := &call{
		begin: r.Begin, epoch: r.Epoch, accepted: true, progress: progress{state: r.State}, ended: make(chan struct{}),
		stop: func() {},
	}
	if !r.Exec {
		s.recoverVerb(c)
		return nil
	}
	c.verb = verbExec
	ex, err := s.attach(r.CallID)
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	switch {
	case r.State != journal.Begun:
		s.recoverEnded(c, ex)
	case err == nil:
		s.mu.Lock()
		s.live[c.id()] = c
		s.running++
		s.goLocked(func() { s.contained(c, func() { s.follow(c, ex) }) })
		s.mu.Unlock()
	case r.Safety != journal.AtMostOnce && (errors.Is(err, sandbox.ErrUnknownExec) || s.forgotten(r.CallID)):
		s.j.Drop(c.id()) // it may run again
	case errors.Is(err, sandbox.ErrUnknownExec) && s.knew(r):
		s.j.Drop(c.id()) // it never ran
	default:
		s.interrupted(c)
	}
	return nil
}

// forgotten makes the sandbox forget a command, so that it can be started again.
func (s *Service) forgotten(id string) bool {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	err := s.cfg.Sandbox.Forget(ctx, id)
	if err != nil {
		s.log.Warn("an interrupted command could not be forgotten", "call_id", id, "err", err)
	}
	return err == nil
}

// knew reports whether the sandbox would know of a call's command if it had been started.
func (s *Service) knew(c journal.Call) bool { return c.Witness != "" && c.Witness == s.cfg.Witness() }

// recoverVerb takes up a verb that was not a command, and so did not survive.
func (s *Service) recoverVerb(c *call) {
	switch {
	case c.state != journal.Begun:
		s.recoverEnded(c, nil)
	case c.begin.Safety == journal.AtMostOnce:
		s.interrupted(c)
	default:
		s.j.Drop(c.id())
	}
}

// recoverEnded takes up a call whose outcome is in the journal. ex is nil when its output is gone.
func (s *Service) recoverEnded(c *call, ex sandbox.Exec) {
	close(c.ended)
	c.kept = true
	r, err := s.load(c)
	if err != nil {
		s.log.Error("a result could not be read", "call_id", c.id(), "err", err)
		r = failure(c, errLostResult)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.sized(r)
	if ex != nil {
		c.ex, c.src = ex, commandSource{ex}
	}
	if err != nil {
		c.result, c.kept = r, false
	}
	s.live[c.id()] = c
}

// interrupted records that nobody knows the outcome of a call.
func (s *Service) interrupted(c *call) {
	s.mu.Lock()
	s.live[c.id()] = c
	s.running++
	s.mu.Unlock()
	s.finish(c, journal.Interrupted, failure(c, sandbox.ErrInterrupted))
}
