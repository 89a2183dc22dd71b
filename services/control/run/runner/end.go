package runner

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// settle ends the attempt.
func (r *root) settle(ctx context.Context, end ended) error {
	if r.broken != nil && turn.Closed(r.Lane.Over()) { // it had to end anyway
		end.outcome = lane.Expired
		if r.Owner().Why() == lane.Abort {
			end.outcome, end.reason = lane.Aborted, lane.ReasonAborted
		}
	}
	facts, err := r.cancellation(ctx, end.outcome)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	z := &lane.Settlement{
		Outcome: end.outcome, Reason: end.reason, Message: end.message + facts.Words(), Usage: r.usage,
		Data: end.output, Cancellation: facts,
	}
	told := &event.Settlement{
		Outcome: string(z.Outcome), Reason: z.Reason, Message: z.Message, Usage: z.Usage, Cancellation: facts,
	}
	told.Data, told.Cut = event.Bounded(z.Data)
	s := lane.Step{End: z}
	if !r.opened {
		s.Events = append(s.Events, r.event(event.RunBegins(r.attempt.run.Workflow, r.attempt.run.Digest,
			r.attempt.run.Attempt, r.attempt.run.Input)))
	}
	s.Events = append(s.Events, r.event(event.Event{Type: event.Settled, Settlement: told}))
	return r.Commit(s, lane.With{})
}

// cancellation is what is known of the calls of a run that is made to end; nil when it ends by itself.
func (r *root) cancellation(ctx context.Context, o lane.Outcome) (*call.Cancellation, error) {
	switch o {
	case lane.Aborted, lane.Expired, lane.Interrupted:
	default:
		return nil, nil
	}
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
