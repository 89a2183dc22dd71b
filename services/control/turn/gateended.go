package turn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/event"
)

// decided tells what became of an approval, with the strand's next step, and notes that it does.
func (t *Strand) decided(c *Call, withdraw bool) {
	a := c.gate
	c.gate = nil
	t.lane.gates.Add(-1)
	if a.Told {
		return
	}
	told := tellsOf(&a.Approval)
	if withdraw {
		told.State = approval.Withdrawn.String()
	}
	t.Push(t.Event(event.Event{Type: event.ApprovalDecided, Call: started(c.Call), Approval: told}))
	t.out.notes = append(t.out.notes, approval.Note{ID: a.ID, Withdraw: withdraw})
}

// tellsOf is what an event tells of what became of an approval.
func tellsOf(a *approval.Approval) *event.Approval {
	told := &event.Approval{
		ID: a.ID, State: a.State.String(), Comment: a.Comment, Session: a.Scope == approval.Session,
	}
	if a.By != nil {
		told.By = a.By.Name
	}
	return told
}

// decidedMeanwhile is after a step was refused because an approval that it would have withdrawn has been decided: the
// stream tells what was decided, unless an owner before has told that. The call is not made all the same.
func (t *Strand) decidedMeanwhile(ctx context.Context) error {
	rows, err := t.lane.deps.Store.TurnApprovals(ctx, t.who.LoopID, t.user.Turn())
	if err != nil {
		return fmt.Errorf("reading approvals that were decided meanwhile: %w", err)
	}
	var notes []approval.Note
	changed := false
	for _, n := range t.out.notes {
		i := slices.IndexFunc(rows, func(a approval.Approval) bool { return a.ID == n.ID && a.Decided() })
		if n.Withdraw && i >= 0 {
			n.Withdraw, changed = false, true
			t.out.pending = slices.DeleteFunc(t.out.pending, func(e event.Event) bool {
				return e.Type == event.ApprovalDecided && e.Approval.ID == n.ID
			})
			if rows[i].Told {
				continue
			}
			c := t.turn.byID[rows[i].CallID].Call
			t.Push(t.Event(event.Event{
				Type: event.ApprovalDecided, Call: started(c), Approval: tellsOf(&rows[i]),
			}))
		}
		notes = append(notes, n)
	}
	t.out.notes = notes
	if !changed {
		return errors.New("an approval cannot be withdrawn, and none of the turn has been decided")
	}
	return nil
}
