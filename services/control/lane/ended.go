package lane

import (
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
)

// Overdue settles a head from rows that its owner did not end in time.
func Overdue(why Why) Settlement {
	z := Settlement{Outcome: Expired, Reason: ReasonNotEnded}
	cause := "its deadline has passed"
	if why == Abort {
		z.Outcome, cause = Aborted, "an abort was requested"
	}
	z.Message = fmt.Sprintf("%s and it was not ended within %v; it is settled without its owner", cause, ForceGrace)
	return z
}

// Undecodable settles a head from rows that cannot be decoded.
func Undecodable(err error) Settlement {
	return Settlement{
		Outcome: Interrupted, Reason: ReasonUnreadable,
		Message: "what is stored of it cannot be read, so that it cannot go on: " + err.Error(),
	}
}

// LeaveOpen completes a settlement from rows: of the calls that were open, those that were pending never ran, and those
// that were dispatched to an executor are named.
func (z *Settlement) LeaveOpen(open []call.Call) {
	z.Cancellation = &call.Cancellation{}
	for _, c := range open {
		if c.State != call.Dispatched || c.Executor == "" {
			continue
		}
		z.Cancellation.Unconfirmed = append(z.Cancellation.Unconfirmed, call.Unconfirmed{
			CallID: c.ID, Tool: c.Tool, Executor: c.Executor, Reason: call.OutcomeLost,
			Message: "nobody saw the call end on executor " + c.Executor,
		})
	}
	z.Cancellation.Confirmed = len(z.Cancellation.Unconfirmed) == 0
}

// Event tells of the settlement of a head from rows.
func (z *Settlement) Event(headID string, turn int, seq int64, now time.Time) event.Event {
	return event.Event{
		Seq: seq, Time: now, SubmissionID: headID, Turn: turn, Type: event.Settled,
		Settlement: &event.Settlement{
			Outcome: string(z.Outcome), Reason: z.Reason, Message: z.Message, Model: z.Model, Usage: z.Usage,
			EntrySeq: z.ResultEntry, Turn: turn, Cancellation: z.Cancellation,
		},
	}
}
