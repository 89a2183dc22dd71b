package turn

import (
	"context"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// cancellation is what is known of the submission's calls when it is made to end; nil when it ends by itself. It names
// every call of which nobody has said that nothing of it is left, of earlier turns too.
func (r *run) cancellation(ctx context.Context, o submission.Outcome) (*call.Cancellation, error) {
	switch o {
	case submission.Aborted, submission.Expired, submission.Interrupted:
	default:
		return nil, nil
	}
	lost, err := r.deps.Store.LostCalls(ctx, r.id(), r.sub.Seq)
	if err != nil {
		return nil, fmt.Errorf("reading the calls without an outcome: %w", err)
	}
	out := &call.Cancellation{}
	for _, c := range lost {
		out.Unconfirmed = append(out.Unconfirmed, r.unconfirmed(ctx, c))
	}
	for _, c := range r.calls {
		known := func(k call.Call) bool { return k.ID == c.ID }
		reply, _ := r.deps.Tools.Decode(c.Tool, c.Reply) // a reply that is gone was looked at before
		process, ran := reply.(tool.Process)
		switch {
		case c.State == call.Lost && !slices.ContainsFunc(lost, known) && c.LateReply == nil:
			out.Unconfirmed = append(out.Unconfirmed, r.unconfirmed(ctx, c))
		case ran && !process.Over():
			out.Unconfirmed = append(out.Unconfirmed, call.Unconfirmed{
				CallID: c.ID, Tool: c.Tool, Executor: c.Executor, Reason: call.ProcessesLeft,
				Message: "executor " + c.Executor + " could not make sure that no process of the command is left",
			})
		}
	}
	out.Confirmed = len(out.Unconfirmed) == 0
	return out, nil
}

// unconfirmed tells why nobody knows whether a lost call has ended.
func (r *run) unconfirmed(ctx context.Context, c call.Call) call.Unconfirmed {
	u := call.Unconfirmed{
		CallID: c.ID, Tool: c.Tool, Executor: c.Executor, Reason: call.OutcomeLost,
		Message: "nobody saw the call end on executor " + c.Executor,
	}
	if e, err := r.deps.Fleet.Find(ctx, c.Executor); err != nil || !e.Connected() {
		u.Reason, u.Message = call.ExecutorAway, "executor "+c.Executor+" is not connected"
	} else if l := r.live[c.ID]; l != nil && !l.cancelled.IsZero() {
		u.Reason, u.Message = call.NoAnswer, "executor "+c.Executor+" did not say in time that the call has ended"
	}
	return u
}

// tell is what a settlement's message says of a cancellation.
func tell(c *call.Cancellation) string {
	switch {
	case c == nil:
		return ""
	case c.Confirmed:
		return "; confirmed: nothing of it runs any more"
	}
	first := c.Unconfirmed[0]
	text := fmt.Sprintf("; unconfirmed: call %s (%s) may still run: %s", first.CallID, first.Tool, first.Message)
	if n := len(c.Unconfirmed) - 1; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}
