package runner

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// cut reports whether the run was made to end.
func (e *ended) cut() bool {
	switch e.outcome {
	case lane.Aborted, lane.Expired, lane.Interrupted:
		return true
	case lane.Completed, lane.Failed:
	}
	return false
}

// conclude ends an attempt that was made to end, or that nobody can go on with.
func (r *root) conclude(ctx context.Context, end ended) error {
	if r.broken != nil && turn.Closed(r.Lane.Over()) { // it had to end anyway
		end.outcome = lane.Expired
		if r.Owner().Why() == lane.Abort {
			end.outcome, end.reason = lane.Aborted, lane.ReasonAborted
		}
	}
	facts, err := r.cancellation(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := lane.Step{}
	if !r.opened {
		s.Events = append(s.Events, r.begins())
	}
	r.settle(&s, end, facts)
	return r.Commit(s, lane.With{})
}

// settle completes a step that ends the attempt. The mutex is held.
func (a *attempt) settle(s *lane.Step, end ended, facts *call.Cancellation) {
	s.End = &lane.Settlement{
		Outcome: end.outcome, Reason: end.reason, Message: end.message + facts.Words(), Usage: a.usage,
		Data: end.output, Cancellation: facts,
	}
	told := &event.Settlement{
		Outcome: string(end.outcome), Reason: end.reason, Message: s.End.Message, Usage: a.usage, Cancellation: facts,
	}
	told.Data, told.Cut = event.Bounded(end.output)
	s.Events = append(s.Events, a.event(event.Event{Type: event.Settled, Settlement: told}))
}

// cancellation is what is known of the calls of a run that is made to end.
func (r *root) cancellation(ctx context.Context) (*call.Cancellation, error) {
	left, err := r.Store.Unended(ctx, r.row.ID)
	if err != nil {
		return nil, fmt.Errorf("reading the calls of which something may run: %w", err)
	}
	facts := &call.Cancellation{Confirmed: left.Total == 0, More: left.Total - len(left.Calls)}
	for _, c := range left.Calls {
		facts.Add(r.Unconfirmed(ctx, c))
	}
	return facts, nil
}
