package turn

import (
	"context"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// turn is the calls of the present turn.
type turn struct {
	calls []*Call // in order of their index
	byID  map[string]*Call
	open  int   // how many have not ended
	last  *Call // the last one that has ended, whose outcome is left to the user's next commit
	// roughly says that calls are looked at only because it is time to: a list of executors that is a second old is
	// good enough then.
	roughly bool
	// Since when reading their rows fails, looking for their executors, and reading approvals; zero while it works.
	unread, unseen, astray, undecided time.Time
}

func newTurn() turn { return turn{byID: map[string]*Call{}} }

// Call is one call of a turn, with its record as it is known.
type Call struct {
	call.Call
	watch  call.Watch
	gate   *gate // that it waits at, nil for none
	output output
	reply  tool.Reply  // what it came to, once that is known
	row    *call.Call  // the record, when somebody else has written the outcome
	before call.Call   // the record before the outcome that is left to the user's commit
	waits  string      // the reason for which watchers were told that it waits, "" when it does not
	usage  model.Usage // of the sub-agent that has carried it out
	cancel context.CancelFunc
}

// Result is what an ended call came to, without secrets. That of a call which was not made is a tool.Failure.
func (c *Call) Result() tool.Reply { return c.reply }

// Usage is what the sub-agent has cost that has carried out an ended call of kind task.
func (c *Call) Usage() model.Usage { return c.usage }

// Made is when the call was made, and Sent when it was last dispatched, on this process's clock.
func (c *Call) Made() time.Time { return c.watch.Made }

// Sent is when the call was last dispatched.
func (c *Call) Sent() time.Time { return c.watch.Sent }

func (t *Strand) newCall(c call.Call) *Call {
	now := time.Now()
	k := &Call{Call: c, output: newOutput(t.kit.Secrets)}
	k.watch.Made, k.watch.Owned, k.watch.Quiet = now.Add(-c.Age[0]), now, now
	if c.Dispatch > 0 {
		k.watch.Sent = now.Add(-c.Age[1])
	}
	t.turn.calls = append(t.turn.calls, k)
	t.turn.byID[c.ID] = k
	return k
}

// expect makes reports of an open call come in.
func (t *Strand) expect(c *Call) {
	t.mail.expect(c.ID, c.Executor)
	t.lane.route(c.ID, t)
}

// Calls are those of the turn that have records, in order of their index.
func (t *Strand) Calls() []*Call { return t.turn.calls }

// Call is one of them; nil for another one.
func (t *Strand) Call(id string) *Call { return t.turn.byID[id] }

// Open is how many calls of the turn have not ended.
func (t *Strand) Open() int { return t.turn.open }

// Below reports whether all that is open is the work of sub-agents.
func (t *Strand) Below() bool {
	for _, c := range t.turn.calls {
		if !c.State.Terminal() && (c.Kind != uint8(tool.KindTask) || c.State == call.Pending) {
			return false
		}
	}
	return t.turn.open > 0
}

// Last is the call whose outcome is not committed yet, because it was the last one of the turn to end: see AddLast.
// nil for none.
func (t *Strand) Last() *Call { return t.turn.last }

// Inherit takes over the calls of a turn that an owner before has begun. One that somebody recorded, and nobody told
// the end of, is still open to this owner: its output may not be in the stream.
func (t *Strand) Inherit(ctx context.Context) error {
	n := t.user.Turn()
	rows, err := t.lane.deps.Store.TurnCalls(ctx, t.who.LoopID, n)
	if err != nil {
		return fmt.Errorf("reading the calls of turn %d: %w", n, err)
	}
	for _, row := range rows {
		c := t.newCall(row)
		c.watch.Inherited = true
		c.output.logged = [2]int64{max(row.Shown[0], 0), max(row.Shown[1], 0)}
		if row.Approval != "" && row.State == call.Pending && row.Executor == "" {
			c.gate = &gate{Approval: approval.Approval{ID: row.Approval}} // the first look reads it
			t.lane.gates.Add(1)
		}
		byExecutor := row.Kind == uint8(tool.KindExecutor)
		if row.State.Terminal() && (!byExecutor || row.Shown[0] == call.Told) {
			c.reply = t.reply(row)
			if c.usage, err = usageOf(row); err != nil {
				return fmt.Errorf("reading what call %s has cost: %w", c.ID, err)
			}
			if byExecutor { // its acknowledgement may be lost
				t.out.results = append(t.out.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})
			}
			continue
		}
		if row.State.Terminal() {
			c.State = call.Dispatched
		}
		t.turn.open++
		t.expect(c)
	}
	return nil
}

// Make is the record of a call that is to be made, for Start. index is its place among all that the turn asks for,
// entrySeq the entry that says so, 0 for none.
func (t *Strand) Make(index int, a tool.Asked, entrySeq int64) (call.Call, error) {
	hash, err := a.Call.Hash(t.kit.Cwd, t.kit.Env(a.Call.Tool))
	if err != nil {
		return call.Call{}, err
	}
	return call.Call{
		ID: ident.New(), LaneID: t.lane.id(), LoopID: t.who.LoopID, Turn: t.user.Turn(), Index: index,
		EntrySeq: entrySeq, ProviderID: a.Block.CallID, Tool: a.Call.Tool.Name, Kind: uint8(a.Call.Tool.Kind()),
		Safety: a.Call.Tool.Safety, ArgsHash: hash,
	}, nil
}

// Start commits a step with new calls, which become those of the present turn, and sends them. Calls that have an
// approval, which is among the step's, wait for that. After an error nothing is sent.
func (t *Strand) Start(ctx context.Context, s lane.Step) error {
	var with lane.With
	waits, err := t.placeAll(ctx, &s, &with)
	if err != nil {
		return err
	}
	if err := t.Commit(s, with); err != nil {
		for _, c := range s.Calls {
			t.freed(&c)
		}
		return err
	}
	t.turn = newTurn()
	t.turn.open = len(s.Calls)
	for _, c := range s.Calls {
		k := t.newCall(c)
		t.expect(k)
		if c.Approval != "" {
			k.gate = newGate(*approvalWith(s.Approvals, c.Approval))
			t.lane.gates.Add(1)
			continue
		}
		switch {
		case c.State == call.Dispatched:
			t.order(ctx, k)
		case c.Kind == uint8(tool.KindExecutor):
			k.waits = waits
		}
	}
	return nil // the first look asks for slots
}

// AddLast adds the outcome of the last call to a step, which the user is to commit: without the reply, if the step says
// that its entries hold what the calls came to. Otherwise its record has all, for whoever reads the calls of the turn
// again. isError says how the user takes it.
func (t *Strand) AddLast(s *lane.Step, isError bool) {
	c := t.turn.last
	o := call.Outcome{CallID: c.ID, State: c.State, Leaves: c.Leaves}
	if !s.ForgetReplies {
		o.Reply = c.Reply
		if c.Kind == uint8(tool.KindExecutor) {
			s.Shown = append(s.Shown, call.Shown{CallID: c.ID, Stdout: call.Told, Stderr: call.Told})
		}
	}
	s.Outcomes = append(s.Outcomes, o)
	s.Events = append(s.Events, t.Event(event.Event{Type: event.ToolFinished, Call: c.finished(isError)}))
}

// Finish forgets the calls of the turn, whose outcomes are committed. last is what Last was before that commit.
func (t *Strand) Finish(last *Call) {
	calls := t.turn.calls
	t.turn = newTurn()
	t.lane.release(calls)
	if last != nil {
		t.freed(&last.Call)
	}
}

// Unconfirmed tells why nobody knows whether anything of a call runs.
func (t *Strand) Unconfirmed(ctx context.Context, c call.Call) call.Unconfirmed {
	u := c.Unconfirmed()
	if c.Leaves || c.Kind != uint8(tool.KindExecutor) {
		return u
	}
	if e, err := t.lane.deps.Fleet.Find(ctx, c.Executor); err != nil || !e.Connected() {
		u.Reason, u.Message = call.ExecutorAway, "executor "+c.Executor+" is not connected"
	} else if w := t.turn.byID[c.ID]; w != nil && !w.watch.Cancelled.IsZero() {
		u.Reason, u.Message = call.NoAnswer, "executor "+c.Executor+" did not say in time that the call has ended"
	}
	return u
}

func started(c call.Call) *event.Call {
	return &event.Call{ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool, Executor: c.Executor}
}

func (c *Call) finished(isError bool) *event.Call {
	return &event.Call{
		ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool, Executor: c.Executor, State: c.State.String(),
		IsError: isError, Duration: time.Since(c.watch.Made),
	}
}
