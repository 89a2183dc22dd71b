package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var errNoOutcome = errors.New("an outcome of a call is done, lost or cancelled")

func errDispatch(id string, n int) error {
	return fmt.Errorf("dispatch %d of call %s does not follow the last one", n, id)
}

// change is what a commit does to a call that exists: a dispatch, an outcome or both.
type change struct {
	callID   string
	executor string
	dispatch int // 0: not a dispatch
	journal  string
	state    *int16 // nil: not an outcome
	reply    []byte
}

func (d change) lost() bool { return d.state != nil && call.State(*d.state) == call.Lost }

// merge leaves one item per call, since a statement can change a row only once: what happens to a new call in the same
// commit becomes part of its record. The first outcome of a call counts.
func (c *commit) merge() error {
	c.Calls = append([]call.Call(nil), c.Calls...)
	created, changed := make(map[string]*call.Call, len(c.Calls)), map[string]int{}
	for i := range c.Calls {
		created[c.Calls[i].ID] = &c.Calls[i]
	}
	existing := func(id string) *change {
		at, ok := changed[id]
		if !ok {
			at = len(c.changes)
			changed[id], c.changes = at, append(c.changes, change{callID: id})
		}
		return &c.changes[at]
	}
	for _, d := range c.Dispatches {
		if n := created[d.CallID]; n == nil {
			e := existing(d.CallID)
			if d.Dispatch <= e.dispatch {
				return errDispatch(d.CallID, d.Dispatch)
			}
			e.executor, e.dispatch, e.journal = d.Executor, d.Dispatch, d.Journal
		} else if !n.State.Terminal() {
			if d.Dispatch <= n.Dispatch {
				return errDispatch(d.CallID, d.Dispatch)
			}
			n.State, n.Executor, n.Dispatch, n.Journal = call.Dispatched, d.Executor, d.Dispatch, d.Journal
		}
	}
	for _, o := range c.Outcomes {
		if !isOutcome(o.State) {
			return errNoOutcome
		}
		if c.ForgetReplies {
			o.Reply = nil
		}
		if n := created[o.CallID]; n == nil {
			if e := existing(o.CallID); e.state == nil {
				state := int16(o.State)
				e.state, e.reply = &state, o.Reply
			}
		} else if !n.State.Terminal() {
			n.State, n.Reply = o.State, o.Reply
		}
	}
	return nil
}

func isOutcome(s call.State) bool { return s.Terminal() && s <= call.Cancelled }

// refusal is why a commit by the lane's owner was refused for its calls.
func (s *Store) refusal(ctx context.Context, c *commit) error {
	for _, d := range c.changes {
		got, err := s.getCall(ctx, d.callID)
		if err == nil && got.SessionID != c.Fence.SessionID {
			err = call.ErrNotFound
		}
		if err != nil {
			return err
		}
		if d.dispatch > 0 && d.dispatch <= got.Dispatch && !got.State.Terminal() {
			return errDispatch(d.callID, d.dispatch)
		}
		if d.lost() && got.State.Terminal() && got.State != call.Lost {
			return call.ErrEnded
		}
	}
	return submission.ErrFenced // it has lost the lane since
}
