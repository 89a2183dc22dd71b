package lane

import (
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
)

// Overdue settles a head from rows, of a lane of the kind, that its owner did not end in time.
func Overdue(kind Kind, why Why) Settlement {
	z := Settlement{Outcome: Expired, Reason: ReasonNotEnded}
	cause := "its deadline has passed"
	if why == Abort {
		z.Outcome, cause = Aborted, "an abort was requested"
	}
	z.Message = fmt.Sprintf("%s and it was not ended within %v; it is settled without its owner", cause, kind.Grace())
	return z
}

// Undecodable settles a head from rows that cannot be decoded.
func Undecodable(err error) Settlement {
	return Settlement{
		Outcome: Interrupted, Reason: ReasonUnreadable,
		Message: "what is stored of it cannot be read, so that it cannot go on: " + err.Error(),
	}
}

// LeaveOpen completes a settlement from rows. It names the calls of the tree that had ended with something left of them
// before, and of those that were open the ones that were dispatched to an executor: those that were pending never ran.
func (z *Settlement) LeaveOpen(ended call.Unended, open []call.Call) {
	z.Cancellation = &call.Cancellation{More: ended.Total - len(ended.Calls)}
	z.Cancellation.Confirmed = ended.Total == 0
	for _, c := range ended.Calls {
		z.Cancellation.Add(c.Unconfirmed())
	}
	for _, c := range open {
		if c.State == call.Dispatched && c.Executor != "" {
			z.Cancellation.Add(c.Unconfirmed())
		}
	}
}

// Event tells of the settlement of a head from rows.
func (z *Settlement) Event(headID string, turn int, seq int64, now time.Time) event.Event {
	return event.Event{
		Seq: seq, Time: now, SubmissionID: headID, Turn: turn, Type: event.Settled,
		Settlement: &event.Settlement{
			Outcome: string(z.Outcome), Reason: z.Reason, Message: z.Message, Model: z.Model, Usage: z.Usage,
			EntrySeq: z.ResultEntry, Data: z.Data, Turn: turn, Cancellation: z.Cancellation,
		},
	}
}
