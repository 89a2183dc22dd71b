package loop

import (
	"context"
	"fmt"
	"strings"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// maxWhy bounds what a conversation keeps of the reason for which an input got no answer, in bytes.
const maxWhy = 500

// unanswered is what the model is told of an input that got no answer, when the next one comes: an assistant's
// message, so that two inputs do not follow each other, which some providers refuse and others join to one.
func unanswered(s Stop) model.Message {
	why := s.Message
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	text := fmt.Sprintf("[This prompt got no answer: %s. %s]", unansweredBecause[s.Outcome], why)
	return model.Message{Role: model.Assistant, Content: []model.Block{{Type: model.TextBlock, Text: text}}}
}

// settle ends the loop without an answer.
func (l *loop) settle(ctx context.Context, s Stop) error { return l.settleWith(ctx, lane.Step{}, s) }

// settleWith ends the loop without an answer in a step that says more.
func (l *loop) settleWith(ctx context.Context, step lane.Step, s Stop) error {
	facts, err := l.cancellation(ctx, s.Outcome)
	if err != nil {
		return err
	}
	s.Message += facts.Words()
	if l.row.InputEntry > 0 {
		l.entry(&step, session.Marker, unanswered(s))
	}
	return l.finish(step, s, facts)
}

// finish is a commit that ends the loop. An answer is the step's last entry, if s completes it.
func (l *loop) finish(step lane.Step, s Stop, facts *call.Cancellation) error {
	z := lane.Settlement{
		Outcome: s.Outcome, Reason: s.Reason, Message: s.Message, Model: l.model().String(), Usage: l.row.Usage,
		Cancellation: facts,
	}
	if step.Progress != nil {
		z.Usage = step.Progress.Usage
	}
	text := ""
	if a := l.ending.answer; a != nil {
		z.ResultEntry, z.Data, text = a.entry, a.data, a.text
	} else if s.Outcome == lane.Completed {
		if answer := l.result(step); answer != nil {
			z.ResultEntry, text = answer.Seq, answer.Message.Text()
		}
	}
	step.End = &z
	told := event.Settlement{
		Outcome: string(z.Outcome), Reason: z.Reason, Message: z.Message, Model: z.Model, Usage: z.Usage,
		EntrySeq: z.ResultEntry, Text: text, Data: z.Data, Turn: l.row.Turn, Cancellation: facts,
	}
	if !l.root() {
		return l.finishTask(step, told)
	}
	step.Events = append(step.Events, l.Event(event.Event{Type: event.Settled, Settlement: &told}))
	return l.Commit(step, lane.With{Continue: l.tree.taken < fairShare && !l.tree.Leaving()})
}

// result is the entry that a completed loop ends with; nil when a summary was asked for, and there was nothing to cut.
func (l *loop) result(step lane.Step) *session.Entry {
	if n := len(step.Entries); n > 0 {
		return &step.Entries[n-1]
	}
	if last := &l.conversation.last; last.Kind == session.Summary && last.SubmissionID == l.row.ID {
		return last
	}
	return nil
}

// cancellation is what is known of the calls of the loop, and of all below it, when it is made to end; nil when it ends
// by itself. It names every call of which nobody has said that nothing of it is left, of earlier turns too.
func (l *loop) cancellation(ctx context.Context, o lane.Outcome) (*call.Cancellation, error) {
	switch o {
	case lane.Aborted, lane.Expired, lane.Interrupted:
	default:
		return nil, nil
	}
	var told map[string]call.Unconfirmed // what sub-agents that have ended knew
	if l.root() {
		var err error
		if told, err = l.toldBelow(ctx); err != nil {
			return nil, err
		}
	}
	left, err := l.tree.deps.Store.Unended(ctx, l.row.ID)
	if err != nil {
		return nil, fmt.Errorf("reading the calls of which something may run: %w", err)
	}
	if c := l.Last(); c != nil && (c.Leaves || c.State == call.Lost) { // it is recorded with the end of the loop
		left.Total++
		left.Calls = append(left.Calls, c.Call)
	}
	facts := &call.Cancellation{Confirmed: left.Total == 0, More: left.Total - len(left.Calls)}
	for _, c := range left.Calls {
		u, ok := told[c.ID]
		if !ok {
			u = l.Unconfirmed(ctx, c)
		}
		facts.Add(u)
	}
	return facts, nil
}

// toldBelow is what sub-agents that were made to end have said of their calls.
func (l *loop) toldBelow(ctx context.Context) (map[string]call.Unconfirmed, error) {
	ended, err := l.tree.deps.Store.Cancellations(ctx, l.row.ID)
	if err != nil {
		return nil, fmt.Errorf("reading what sub-agents have left: %w", err)
	}
	told := map[string]call.Unconfirmed{}
	for _, c := range ended {
		for _, u := range c.Unconfirmed {
			told[u.CallID] = u
		}
	}
	return told, nil
}
