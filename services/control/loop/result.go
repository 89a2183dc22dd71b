package loop

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/result"
)

// ending is how far a loop has come that has to end with a structured result. How often it was asked and corrected is
// read from its entries, as everything is that a new owner has to know.
type ending struct {
	asks        int
	corrections int
	last        string    // what the agent was told of the last result that was not accepted
	answer      *answered // what is shown of the loop when it ends; nil is its last entry, if that completes it
}

// answered is what is shown of a loop that has ended.
type answered struct {
	entry int64 // the assistant's, or that of the result of a command
	text  string
	data  json.RawMessage
}

// structured reports whether the loop has to end with a structured result.
func (l *loop) structured() bool { return l.row.Options.ResultSchema != nil }

func (e *ending) count(entries []session.Entry) {
	for _, one := range entries {
		if result.Asks(one) {
			e.asks++
		}
		if result.Corrects(one) {
			e.corrections++
			e.last = one.Message.Content[0].Text
		}
	}
}

// recoverEnding reads how far the owners before have come.
func (l *loop) recoverEnding(ctx context.Context) error {
	if !l.structured() || l.row.InputEntry == 0 {
		return nil
	}
	for after := l.row.InputEntry; after < l.row.EntryHead; {
		page, err := l.tree.deps.Store.Entries(ctx, l.row.SessionID, after, entriesPage)
		if err != nil {
			return fmt.Errorf("reading how far a structured result has come: %w", err)
		}
		if len(page) == 0 {
			return fmt.Errorf("reading how far a structured result has come: no entries after %d", after)
		}
		l.ending.count(page)
		after = page[len(page)-1].Seq
	}
	return nil
}

// insist asks an agent again that has ended without a result, in the step that has its answer, or ends the loop.
func (l *loop) insist(ctx context.Context, s lane.Step, answer session.Entry) error {
	if l.ending.asks < result.MaxAsks {
		l.entry(&s, session.Marker, result.Again())
		s.Progress.Phase, s.Progress.Turn = lane.PhaseModel, l.row.Turn+1
		return l.Commit(s, lane.With{})
	}
	l.ending.answer = &answered{entry: answer.Seq, text: answer.Message.Text()}
	why := fmt.Sprintf("the agent ended %s without a result, although it was asked for one",
		plural.Of(result.MaxAsks+1, "time"))
	if l.ending.last != "" {
		why += "; the last one that it gave was not accepted: " + l.ending.last
	}
	return l.settleWith(ctx, s, Stop{lane.Failed, result.ReasonInvalid, why})
}

// closing is how the loop ends with the results of its turn, if one of its calls says so, or too many results were not
// accepted. Whatever else would end the loop comes too late for a result.
func (l *loop) closing(s *lane.Step, stop *Stop) (end Stop, closes bool) {
	if l.row.Options.Shell != nil {
		return l.ranShell(s, stop)
	}
	if !l.structured() {
		return Stop{}, false
	}
	said := answered{entry: l.row.EntryHead, text: l.asking.said}
	for _, c := range l.Calls() { // in order of their index
		reply, ok := c.Result().(tool.Closing)
		switch {
		case !ok:
			continue
		case reply.Data != nil:
			said.data, end = reply.Data, Stop{Outcome: lane.Completed}
		case stop != nil:
			continue
		default:
			end = Stop{lane.Failed, result.ReasonGaveUp, "the agent gave up: " + reply.GaveUp}
		}
		l.ending.answer = &said
		s.Progress.Turn = l.row.Turn
		return end, true
	}
	more := l.ending
	if more.count(s.Entries); stop == nil && more.corrections > result.MaxCorrections {
		l.ending.answer, s.Progress.Turn = &said, l.row.Turn
		return Stop{lane.Failed, result.ReasonInvalid, fmt.Sprintf("the agent gave %s that the schema does not allow; "+
			"the last time: %s", plural.Of(more.corrections, "result"), more.last)}, true
	}
	return Stop{}, false
}

// instructed is a request with what is to be known of the end.
func (l *loop) instructed(req model.Request) model.Request {
	if !l.structured() {
		return req
	}
	req.System += "\n\n" + result.Instruction
	if n := len(req.Messages); n > 0 {
		req.MustCall = result.Asked(req.Messages[n-1])
	}
	return req
}
