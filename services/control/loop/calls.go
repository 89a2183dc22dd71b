package loop

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// asking is what the answer of the present turn says.
type asking struct {
	asked []tool.Asked // what it asks for, refused calls included; nil until it is read
	said  string       // its text
}

// asks is what the answer of the turn asks for. It is the conversation's last entry.
func (l *loop) asks(ctx context.Context) ([]tool.Asked, error) {
	if l.asking.asked != nil {
		return l.asking.asked, nil
	}
	page, err := l.tree.deps.Store.Entries(ctx, l.row.SessionID, l.row.EntryHead-1, 1)
	if err != nil {
		return nil, fmt.Errorf("reading the answer of turn %d: %w", l.row.Turn, err)
	}
	if len(page) == 0 {
		return nil, fmt.Errorf("reading the answer of turn %d: entry %d is missing", l.row.Turn, l.row.EntryHead)
	}
	if page[0].Unreadable != nil {
		return nil, page[0].Unreadable
	}
	l.asking = asking{l.read(page[0].Message), page[0].Message.Text()}
	return l.asking.asked, nil
}

// Read implements turn.User.
func (l *loop) Read(ctx context.Context) error {
	_, err := l.asks(ctx)
	return err
}

// Request implements turn.User.
func (l *loop) Request(ctx context.Context, c *turn.Call) (tool.Asked, error) {
	asked, err := l.asks(ctx)
	switch {
	case err != nil:
		return tool.Asked{}, err
	case c.Index >= len(asked):
		return tool.Asked{}, fmt.Errorf("entry %d does not hold call %d", c.EntrySeq, c.Index)
	case asked[c.Index].Refused != nil:
		return tool.Asked{}, fmt.Errorf("call %s was accepted, and is refused now: %w", c.ID, asked[c.Index].Refused)
	}
	return asked[c.Index], nil
}

// callTools is T2: the answer and a record of every call that it asks for, then the calls are sent.
func (l *loop) callTools(ctx context.Context, s lane.Step, answer session.Entry, asked []tool.Asked) error {
	for i, a := range asked {
		if a.Refused != nil {
			continue // there is nothing to run, and the result follows from the answer
		}
		c, err := l.Make(i, a, answer.Seq)
		if err != nil {
			return err
		}
		s.Calls = append(s.Calls, c)
	}
	if err := l.gateAll(ctx, &s, asked); err != nil {
		return err
	}
	l.asking = asking{asked, answer.Message.Text()}
	return l.Start(ctx, s)
}

// appendResults is T3: what the calls came to, in order of the calls; with stop also the end of the loop.
func (l *loop) appendResults(ctx context.Context, stop *Stop) error {
	usage := l.row.Usage
	for _, c := range l.Calls() {
		usage = usage.Add(c.Usage())
	}
	s := lane.Step{
		ForgetReplies: true,
		Progress:      &lane.Progress{Phase: lane.PhaseModel, Turn: l.row.Turn + 1, Usage: usage},
	}
	if err := l.results(ctx, &s); err != nil {
		var bad *session.UnreadableError
		if lane.Outage(err) || !l.row.Exhausted() && (stop == nil || !errors.As(err, &bad)) {
			return err
		}
		// The conversation cannot be read: it goes on without them, and the records keep what the calls came to.
		s.Entries, s.Events, s.Outcomes, s.ForgetReplies = nil, nil, nil, false
		if l.Last() != nil {
			l.AddLast(&s, true)
		}
	}
	last := l.Last()
	var err error
	switch end, closes := l.closing(&s, stop); {
	case closes && end.Outcome == lane.Completed:
		err = l.finish(s, end, nil)
	case closes:
		err = l.settleWith(ctx, s, end)
	case stop != nil:
		err = l.settleWith(ctx, s, *stop)
	default:
		err = l.Commit(s, lane.With{})
	}
	if errors.Is(err, call.ErrEnded) {
		return l.Reconsider(ctx)
	}
	if err == nil {
		l.asking = asking{}
		l.Finish(last)
	}
	return err
}

// results adds the results of all calls that the answer asks for to a step.
func (l *loop) results(ctx context.Context, s *lane.Step) error {
	asked, err := l.asks(ctx)
	if err != nil {
		return err
	}
	byIndex := map[int]*turn.Call{}
	for _, c := range l.Calls() {
		byIndex[c.Index] = c
	}
	closed := false
	for i, a := range asked {
		var reply tool.Reply
		c := byIndex[i]
		switch {
		case c != nil:
			reply = c.Result()
		case a.Refused == nil: // by a skill of a conversation that was not read since a take-over
			if err := l.catchUp(ctx); err != nil {
				return err
			}
			a.Refused = l.forbids(a.Call)
		}
		if _, closes := reply.(tool.Closing); closes && closed {
			reply = tool.Failure{Reason: "TOO_LATE", Message: "Another call of this answer has ended the work before."}
		} else if closes {
			closed = true
		}
		res, err := a.Result(reply).FitImages(ctx)
		if err != nil {
			return err
		}
		if c != nil && c == l.Last() {
			l.AddLast(s, res.IsError)
		}
		l.entry(s, session.ToolResult, resultMessage(a.Block, res))
	}
	return nil
}

func resultMessage(b model.Block, res tool.Result) model.Message {
	block := model.Block{
		Type: model.ToolResultBlock, CallID: b.CallID, Tool: b.Tool, Text: res.Text,
		IsError: res.IsError, Details: res.Details,
	}
	if len(res.Images) > 0 {
		block.Image = &res.Images[0]
	}
	return model.Message{Role: model.ToolRole, Content: []model.Block{block}}
}
