package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	records "github.com/pawl-dev/pawl/services/control/step"
)

var errNoOutcome = errors.New("an outcome of a call is done, lost or cancelled")

func errDispatch(id string, n int) error {
	return fmt.Errorf("dispatch %d of call %s does not follow the last one", n, id)
}

// change is what a step does to a call that exists: a dispatch, an outcome or both.
type change struct {
	callID   string
	dispatch *call.Dispatch
	state    *int16 // nil: not an outcome
	reply    []byte
	leaves   bool
}

func (d change) lost() bool { return d.state != nil && call.State(*d.state) == call.Lost }

// merge leaves one item per call, since a statement can change a row only once: what happens to a new call in the same
// step becomes part of its record. The first outcome of a call counts.
func (p *step) merge() error {
	p.Calls = append([]call.Call(nil), p.Calls...)
	created, changed := make(map[string]*call.Call, len(p.Calls)), map[string]int{}
	for i := range p.Calls {
		created[p.Calls[i].ID] = &p.Calls[i]
	}
	existing := func(id string) *change {
		at, ok := changed[id]
		if !ok {
			at = len(p.changes)
			changed[id], p.changes = at, append(p.changes, change{callID: id})
		}
		return &p.changes[at]
	}
	for i := range p.Dispatches {
		d := &p.Dispatches[i]
		var err error
		if n := created[d.CallID]; n != nil {
			err = dispatchNew(n, d)
		} else {
			err = existing(d.CallID).add(d)
		}
		if err != nil {
			return err
		}
	}
	for _, o := range p.Outcomes {
		if !isOutcome(o.State) {
			return errNoOutcome
		}
		if n := created[o.CallID]; n == nil {
			if e := existing(o.CallID); e.state == nil {
				state := int16(o.State)
				e.state, e.reply, e.leaves = &state, o.Reply, o.Leaves
			}
		} else if !n.State.Terminal() {
			n.State, n.Leaves = o.State, o.Leaves
			if !p.ForgetReplies {
				n.Reply = o.Reply
			}
		}
	}
	for _, shown := range p.Shown {
		if n := created[shown.CallID]; n != nil {
			n.Shown = [2]int64{shown.Stdout, shown.Stderr}
		} else {
			p.shown = append(p.shown, shown)
		}
	}
	return nil
}

// add makes the change dispatch the call, after what it does already.
func (d *change) add(next *call.Dispatch) error {
	if d.dispatch != nil && d.dispatch.Dispatch > 0 && next.Dispatch <= d.dispatch.Dispatch {
		return errDispatch(next.CallID, next.Dispatch)
	}
	d.dispatch = next
	return nil
}

// dispatchNew dispatches a call that is made in the same step.
func dispatchNew(n *call.Call, d *call.Dispatch) error {
	switch {
	case n.State.Terminal():
	case d.Dispatch == 0:
		n.State, n.Executor = call.Pending, d.Executor
	case d.Dispatch <= n.Dispatch:
		return errDispatch(d.CallID, d.Dispatch)
	default:
		n.State, n.Executor, n.Dispatch, n.Journal = call.Dispatched, d.Executor, d.Dispatch, d.Journal
	}
	return nil
}

func isOutcome(s call.State) bool { return s.Terminal() && s <= call.Cancelled }

// refusal is why a commit by the lane's owner contradicts the rows.
func (s *Store) refusal(ctx context.Context, c *commit) error {
	for i := range c.steps {
		p := &c.steps[i]
		if left, err := s.notQueued(ctx, p); err != nil {
			return err
		} else if left {
			return &lane.Refused{LoopID: p.LoopID, Err: lane.ErrNotQueued}
		}
		if decided, err := s.decided(ctx, c.Fence.LaneID, p); err != nil {
			return err
		} else if decided {
			return &lane.Refused{LoopID: p.LoopID, Err: approval.ErrDecided}
		}
		if err := s.notRecorded(ctx, c.Fence.LaneID, p); err != nil {
			return err
		}
		for _, d := range p.changes {
			got, err := s.GetCall(ctx, d.callID)
			if err == nil && got.LaneID != c.Fence.LaneID {
				err = call.ErrNotFound
			}
			if err != nil {
				return err
			}
			if n := value(d.dispatch).Dispatch; n > 0 && n <= got.Dispatch && !got.State.Terminal() {
				return errDispatch(d.callID, n)
			}
			if d.lost() && got.State.Terminal() && got.State != call.Lost {
				return &lane.Refused{LoopID: p.LoopID, Err: call.ErrEnded}
			}
		}
	}
	return errContradicts
}

// notRecorded is why the records of steps, or the signals that they have received, are refused.
func (s *Store) notRecorded(ctx context.Context, runID string, p *step) error {
	for i := range p.records {
		var same bool
		r := &p.records[i]
		err := s.pool.QueryRow(ctx, `
			SELECT state = 1 AND path = $3 FROM run_steps WHERE run_id = $1 AND ord = $2`, runID,
			r.Ord, r.Path).Scan(&same)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err == nil && !same {
			return fmt.Errorf("step %s: %w", r.Path, records.ErrEnded)
		}
	}
	for _, taken := range p.Taken {
		var free bool
		err := s.pool.QueryRow(ctx, `SELECT count(*) = 1 FROM run_signals WHERE run_id = $1 AND seq = $2
			AND taken_by IS NULL`, runID, taken.Seq).Scan(&free)
		if err != nil {
			return err
		}
		if !free {
			return fmt.Errorf("signal %d: %w", taken.Seq, records.ErrTaken)
		}
	}
	return nil
}

// notQueued reports whether a submission that a step joins does not wait for its loop any more.
func (s *Store) notQueued(ctx context.Context, p *step) (left bool, err error) {
	for _, j := range p.Joins {
		err := s.pool.QueryRow(ctx, `SELECT count(*) = 0 FROM submissions WHERE submission_id = $1 AND host_id = $2
			AND when_busy = 1 AND status = 0`, j.SubmissionID, p.LoopID).Scan(&left)
		if err != nil || left {
			return left, err
		}
	}
	return false, nil
}

// decided reports whether an approval that a step withdraws has been decided, or has expired.
func (s *Store) decided(ctx context.Context, laneID string, p *step) (decided bool, err error) {
	var ids []string
	for _, n := range p.Noted {
		if n.Withdraw {
			ids = append(ids, n.ID)
		}
	}
	if len(ids) == 0 {
		return false, nil
	}
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM approvals
		WHERE approval_id = ANY ($1::uuid[]) AND lane_id = $2 AND state BETWEEN 1 AND 3)`, ids, laneID).Scan(&decided)
	return decided, err
}
