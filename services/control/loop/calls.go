package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// turn is the calls of the present turn.
type turn struct {
	asked []tool.Asked // what the answer asks for, refused calls included; nil until it is read
	said  string       // the text of the answer
	calls []*toolCall  // those that have records, in order of their index
	byID  map[string]*toolCall
	open  int       // how many have not ended
	last  *toolCall // the last one that has ended, whose outcome is left to the commit of the results
	// roughly says that calls are looked at only because it is time to: a list of executors that is a second old is
	// good enough then.
	roughly bool
	// Since when reading their rows fails, looking for their executors, and reading approvals; zero while it works.
	unread, unseen, astray, undecided time.Time
}

func newTurn() turn { return turn{byID: map[string]*toolCall{}} }

// below reports whether all that is open is the work of sub-agents.
func (t *turn) below() bool {
	for _, c := range t.calls {
		if !c.State.Terminal() && (c.Kind != uint8(tool.KindTask) || c.State == call.Pending) {
			return false
		}
	}
	return t.open > 0
}

// toolCall is one call of the turn.
type toolCall struct {
	call.Call
	watch  call.Watch
	gate   *gate // that it waits at, nil for none
	output output
	reply  tool.Reply  // what it came to, once that is known
	row    *call.Call  // the record, when somebody else has written the outcome
	before call.Call   // the record before the outcome that is left to the commit of the results
	waits  string      // the reason for which watchers were told that it waits, "" when it does not
	usage  model.Usage // of the sub-agent that has carried it out
	cancel context.CancelFunc
}

func (l *loop) newCall(c call.Call) *toolCall {
	now := time.Now()
	k := &toolCall{Call: c, output: newOutput(l.as.secrets)}
	k.watch.Made, k.watch.Owned, k.watch.Quiet = now.Add(-c.Age[0]), now, now
	if c.Dispatch > 0 {
		k.watch.Sent = now.Add(-c.Age[1])
	}
	l.turn.calls = append(l.turn.calls, k)
	l.turn.byID[c.ID] = k
	return k
}

// expect makes reports of an open call come in.
func (l *loop) expect(c *toolCall) {
	l.mail.expect(c.ID, c.Executor)
	l.tree.route(c.ID, l)
}

// inherit takes over the calls of a turn that an owner before has begun. One that somebody recorded, and nobody told
// the end of, is still open to this owner: its output may not be in the stream.
func (l *loop) inherit(ctx context.Context) error {
	rows, err := l.tree.deps.Store.TurnCalls(ctx, l.row.ID, l.row.Turn)
	if err != nil {
		return fmt.Errorf("reading the calls of turn %d: %w", l.row.Turn, err)
	}
	for _, row := range rows {
		c := l.newCall(row)
		c.watch.Inherited = true
		c.output.logged = [2]int64{max(row.Shown[0], 0), max(row.Shown[1], 0)}
		if row.Approval != "" && row.State == call.Pending && row.Executor == "" {
			c.gate = &gate{Approval: approval.Approval{ID: row.Approval}} // the first look reads it
			l.tree.gates.Add(1)
		}
		byExecutor := row.Kind == uint8(tool.KindExecutor)
		if row.State.Terminal() && (!byExecutor || row.Shown[0] == call.Told) {
			c.reply = l.reply(row)
			if c.usage, err = usageOf(row); err != nil {
				return fmt.Errorf("reading what call %s has cost: %w", c.ID, err)
			}
			l.tree.spend(l, c.usage)
			if byExecutor { // its acknowledgement may be lost
				l.out.results = append(l.out.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})
			}
			continue
		}
		if row.State.Terminal() {
			c.State = call.Dispatched
		}
		l.turn.open++
		l.expect(c)
	}
	return nil
}

// asks is what the answer of the turn asks for. It is the conversation's last entry.
func (l *loop) asks(ctx context.Context) ([]tool.Asked, error) {
	if l.turn.asked != nil {
		return l.turn.asked, nil
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
	l.turn.asked, l.turn.said = l.read(page[0].Message), page[0].Message.Text()
	return l.turn.asked, nil
}

// requestOf is what a call asks for.
func (l *loop) requestOf(ctx context.Context, c *toolCall) (tool.Asked, error) {
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

func (l *loop) wanted() fleet.Wanted {
	w := l.needs()
	w.Roughly = l.turn.roughly
	return w
}

// needs is what the workspace needs of an executor. It may be called by another goroutine than the loop's.
func (l *loop) needs() fleet.Wanted {
	w := fleet.Wanted{Tenant: l.tree.key.Tenant, Executor: l.tree.bound(), Builtin: l.tree.deps.Builtin}
	if s := l.as.def.Sandbox; s.Kind == agent.SandboxExecutor {
		w.Labels = s.Labels
	}
	w.Tools = l.as.def.Offered()
	return w
}

// callTools is T2: the answer and a record of every call that it asks for, then the calls are sent.
func (l *loop) callTools(ctx context.Context, s lane.Step, answer session.Entry, asked []tool.Asked) error {
	var with lane.With
	for i, a := range asked {
		if a.Refused != nil {
			continue // there is nothing to run, and the result follows from the answer
		}
		hash, err := a.Call.Hash(l.cwd(), l.env(a.Call.Tool))
		if err != nil {
			return err
		}
		s.Calls = append(s.Calls, call.Call{
			ID: ident.New(), LaneID: l.row.LaneID, LoopID: l.row.ID, Turn: l.row.Turn, Index: i, EntrySeq: answer.Seq,
			ProviderID: a.Block.CallID, Tool: a.Call.Tool.Name, Kind: uint8(a.Call.Tool.Kind()),
			Safety: a.Call.Tool.Safety, ArgsHash: hash,
		})
	}
	if err := l.gateAll(ctx, &s, asked); err != nil {
		return err
	}
	waits, err := l.placeAll(ctx, &s, &with)
	if err != nil {
		return err
	}
	if err := l.commit(s, with); err != nil {
		for _, c := range s.Calls {
			l.freed(&c)
		}
		return err
	}
	l.turn = newTurn()
	l.turn.asked, l.turn.said, l.turn.open = asked, answer.Message.Text(), len(s.Calls)
	for _, c := range s.Calls {
		k := l.newCall(c)
		l.expect(k)
		if c.Approval != "" {
			k.gate = newGate(*approvalWith(s.Approvals, c.Approval))
			l.tree.gates.Add(1)
			continue
		}
		switch {
		case c.State == call.Dispatched:
			l.order(ctx, k)
		case c.Kind == uint8(tool.KindExecutor):
			k.waits = waits
		}
	}
	return nil // the first look asks for slots
}

func started(c call.Call) *event.Call {
	return &event.Call{ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool, Executor: c.Executor}
}

func (c *toolCall) finished(isError bool) *event.Call {
	return &event.Call{
		ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool, Executor: c.Executor, State: c.State.String(),
		IsError: isError, Duration: time.Since(c.watch.Made),
	}
}

// appendResults is T3: what the calls came to, in order of the calls; with stop also the end of the loop.
func (l *loop) appendResults(ctx context.Context, stop *Stop) error {
	usage := l.row.Usage
	for _, c := range l.turn.calls {
		usage = usage.Add(c.usage)
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
		s.Entries, s.Events = nil, nil // the conversation cannot be read: it goes on without them
	}
	calls, last := l.turn.calls, l.turn.last
	var err error
	switch end, closes := l.closing(&s, stop); {
	case closes && end.Outcome == lane.Completed:
		err = l.finish(s, end, nil)
	case closes:
		err = l.settleWith(ctx, s, end)
	case stop != nil:
		err = l.settleWith(ctx, s, *stop)
	default:
		err = l.commit(s, lane.With{})
	}
	if errors.Is(err, call.ErrEnded) {
		return l.reconsider(ctx)
	}
	if err == nil {
		l.turn = newTurn()
		l.tree.release(calls)
		if last != nil {
			l.freed(&last.Call)
		}
	}
	return err
}

// results adds the results of all calls that the answer asks for to a step.
func (l *loop) results(ctx context.Context, s *lane.Step) error {
	asked, err := l.asks(ctx)
	if err != nil {
		return err
	}
	byIndex := map[int]*toolCall{}
	for _, c := range l.turn.calls {
		byIndex[c.Index] = c
	}
	closed := false
	for i, a := range asked {
		var reply tool.Reply
		c := byIndex[i]
		switch {
		case c != nil:
			reply = c.reply
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
		if c != nil && c == l.turn.last {
			s.Outcomes = []call.Outcome{{CallID: c.ID, State: c.State, Leaves: c.Leaves}}
			s.Events = append(s.Events, l.event(event.Event{Type: event.ToolFinished, Call: c.finished(res.IsError)}))
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
