package turn

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// maxWhy bounds what a conversation keeps of the reason for which a prompt got no answer, in bytes.
const maxWhy = 500

// begin is T1: the input becomes part of the conversation.
func (r *run) begin(ctx context.Context) error {
	var input model.Message
	if err := json.Unmarshal(r.sub.Input, &input); err != nil {
		return r.settle(ctx, Stop{submission.Failed, "INPUT_UNREADABLE", "the input that was stored cannot be read: " +
			err.Error()})
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

// unanswered is what the model is told of a prompt that got no answer, when the next one comes: an assistant's
// message, so that two prompts do not follow each other, which some providers refuse and others join to one.
func unanswered(s Stop) model.Message {
	what := map[submission.Outcome]string{
		submission.Failed: "it failed", submission.Aborted: "it was aborted",
		submission.Interrupted: "it was interrupted", submission.Expired: "its time ran out",
	}[s.Outcome]
	why := s.Message
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	text := fmt.Sprintf("[This prompt got no answer: %s. %s]", what, why)
	return model.Message{Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
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
	if answer == 0 && r.sub.InputEntry > 0 {
		r.entry(&c, session.Marker, unanswered(s))
	}
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
