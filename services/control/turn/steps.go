package turn

import (
	"context"
	"encoding/json"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// begin is T1: the input becomes part of the conversation.
func (r *run) begin(ctx context.Context) error {
	var input model.Message
	if err := json.Unmarshal(r.sub.Input, &input); err != nil {
		return r.settle(ctx, Stop{submission.Failed, "INPUT_UNREADABLE", "the input that was stored cannot be read: " + err.Error()})
	}
	c := submission.Commit{}
	e := r.entry(&c, session.Input, input)
	c.Events[0].Turn = 1
	c.Progress = &submission.Progress{Phase: submission.PhaseModel, Turn: 1, InputEntry: e.Seq, Usage: r.sub.Usage}
	return r.commit(ctx, c)
}

// publishStart publishes the events of a start that admission committed.
func (r *run) publishStart() {
	input := r.conversation.last
	e := r.event(event.Event{Type: event.Started, EntrySeq: input.Seq, Entry: &input})
	e.Seq, e.Time = r.eventHead, r.sub.StartedAt
	r.deps.Events.Publish(r.key, []event.Event{e})
}

// settle ends the submission without an answer.
func (r *run) settle(ctx context.Context, s Stop) error {
	return r.end(ctx, submission.Commit{}, s, 0)
}

// end is a commit that settles. answer is the entry that holds the answer, 0 for none.
func (r *run) end(ctx context.Context, c submission.Commit, s Stop, answer int64) error {
	cancellation, err := r.cancellation(ctx, s.Outcome)
	if err != nil {
		return err
	}
	s.Message += tell(cancellation)
	usage := r.sub.Usage
	if c.Progress != nil {
		usage = c.Progress.Usage
	}
	text := ""
	for _, e := range c.Entries {
		if e.Seq == answer {
			text = e.Message.Text()
		}
	}
	c.Settle = &submission.Settlement{
		Outcome: s.Outcome, Reason: s.Reason, Message: s.Message, Model: r.def.Model.String(), Usage: usage, ResultEntry: answer,
		Cancellation: cancellation,
		Continue:     r.share < fairShare && !r.draining(),
	}
	c.Events = append(c.Events, r.event(event.Event{Type: event.Settled, Settlement: &event.Settlement{
		Outcome: string(s.Outcome), Reason: s.Reason, Message: s.Message, Model: r.def.Model.String(), Usage: usage,
		EntrySeq: answer, Text: text, Turn: r.sub.Turn, Cancellation: cancellation,
	}}))
	return r.commit(ctx, c)
}
