package turn

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// decide does with an open call what the rules say, until there is nothing to do.
func (t *Strand) decide(ctx context.Context, c *Call, said call.ReportBody, seen sights) error {
	read := false
	for range maxActions {
		s, err := t.situation(ctx, c, said, seen)
		if err != nil {
			return err
		}
		s.Read = read
		a := call.Next(s)
		switch a.Do {
		case call.DoAttach:
			switch sent := t.attach(c, s.Connection); {
			case c.watch.Ended || sent && said != nil:
				return nil
			case !sent:
				said = call.Unsent{}
			}
			continue
		case call.DoWait:
			if t.wait(ctx, c.Executor, s.Connection) {
				return nil
			}
			said = call.Unsent{}
			continue
		case call.DoCancel:
			c.watch.Cancelled = s.Now
			t.cancelCall(c)
			continue
		case call.DoLoad:
			if read, err = t.reload(ctx); err != nil || !read || c.State.Terminal() || c.watch.Ended {
				return err
			}
			continue
		}
		return t.act(ctx, c, a)
	}
	return nil
}

// act carries out an action after which there is nothing more to do for now.
func (t *Strand) act(ctx context.Context, c *Call, a call.Action) error {
	now := time.Now()
	switch a.Do {
	case call.DoPlace:
		return t.place(ctx, c)
	case call.DoSend:
		t.order(ctx, c)
	case call.DoTake:
		return t.take(ctx, c, a.Reply, nil)
	case call.DoComplete:
		return t.complete(ctx, c)
	case call.DoConclude:
		return t.conclude(ctx, c, a.State, a.Reply)
	case call.DoHold:
		c.watch.Connection, c.watch.Hold = 0, a.Until // the sweep asks again
		t.expect(c)                                   // it may have been the call's end that was said
	case call.DoResend:
		c.watch.Resend = a.Until
		t.mail.nudge() // for the sweep to come in time
		t.waits(c, refusedFor(c.Call, a))
	case call.DoNote:
		if c.watch.Running.IsZero() {
			c.watch.Running = now
		}
		t.resumes(c)
	case call.DoRaise:
		if err := t.lane.owner.Raise(ctx, a.Above); err != nil {
			return err
		}
		t.order(ctx, c)
	case call.DoYield:
		t.lane.deps.Log.Warn("an executor cannot be reached through its replica, leaving the session to others",
			"session_id", t.who.SessionID, "executor_id", c.Executor)
		t.lane.yield(t.who.LoopID, c.Executor)
	case call.DoBegin:
		return t.beginTask(ctx, c)
	case call.DoRun:
		return t.runFunction(ctx, c)
	case call.DoNothing, call.DoWait, call.DoAttach, call.DoCancel, call.DoLoad:
	}
	return nil
}

// attach asks an executor for a call's state and its output from where this strand is.
func (t *Strand) attach(c *Call, connection int64) bool {
	f, w, now := t.lane.owner.Fence(), &c.watch, time.Now()
	if !t.send(c.Executor, &call.Attach{
		CallID: c.ID, LaneID: f.LaneID, Epoch: f.Epoch, Dispatch: c.Dispatch, StdoutFrom: c.output.seen[0],
		StderrFrom: c.output.seen[1],
	}) {
		if w.Unreached.IsZero() {
			w.Unreached = now
		}
		return false
	}
	if w.Connection != connection {
		w.Cancelled, w.Resend = time.Time{}, time.Time{}
	}
	w.Connection, w.Heard, w.Asked, w.Unreached = connection, now, now, time.Time{}
	return true
}

// cancelCall asks whoever carries a call out to end it.
func (t *Strand) cancelCall(c *Call) {
	if c.cancel != nil {
		c.cancel()
		return
	}
	f := t.lane.owner.Fence()
	t.send(c.Executor, &call.Cancel{CallID: c.ID, LaneID: f.LaneID, Epoch: f.Epoch, Grace: call.CancelGrace})
}

// take notes what a call came to; row is set when it is recorded. It counts when all output of the call has been taken.
func (t *Strand) take(ctx context.Context, c *Call, reply tool.Reply, row *call.Call) error {
	w := &c.watch
	if !w.Ended {
		t.mail.nudge() // for the sweep to have an eye on it
		w.Ended, w.Quiet, w.Asked, c.reply = true, time.Now(), time.Now(), reply
	}
	if row != nil {
		c.reply, c.row = reply, row
	}
	if c.complete() {
		return t.complete(ctx, c)
	}
	t.expect(c) // more of it
	return nil
}

// complete makes what a call came to count.
func (t *Strand) complete(ctx context.Context, c *Call) error {
	t.out.results = append(t.out.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})
	if c.row == nil {
		return t.conclude(ctx, c, call.StateOf(c.reply), c.reply)
	}
	t.showRest(c)
	reply := c.reply
	c.Call = *c.row
	t.closeCall(c, reply)
	s := lane.Step{
		Shown:  []call.Shown{{CallID: c.ID, Stdout: call.Told, Stderr: call.Told}},
		Events: []event.Event{t.Event(event.Event{Type: event.ToolFinished, Call: c.finished(t.isError(ctx, c))})},
	}
	t.freed(&c.Call)
	return t.Commit(s, lane.With{})
}

// closeCall notes that a call has an outcome.
func (t *Strand) closeCall(c *Call, reply tool.Reply) {
	c.reply, c.watch.Ended = reply, false
	t.turn.open--
	t.mail.forget(c.ID) // what comes later is for the connection to record
}

// conclude records what a call came to. The last one of a turn is left to the commit that appends the results.
func (t *Strand) conclude(ctx context.Context, c *Call, state call.State, reply tool.Reply) error {
	reply = tool.Clean(reply, t.kit.Secrets)
	body, err := tool.Encode(reply)
	if err != nil {
		return err
	}
	t.showRest(c)
	if c.gate != nil {
		t.decided(c, true)
	}
	c.before = c.Call
	c.State, c.Reply, c.Leaves, c.DoneAt = state, body, tool.Leaves(reply), time.Now()
	t.closeCall(c, reply)
	if t.turn.open == 0 {
		t.turn.last = c
		return nil
	}
	s := lane.Step{
		Outcomes: []call.Outcome{{CallID: c.ID, State: state, Reply: body, Leaves: c.Leaves}},
		Events:   []event.Event{t.Event(event.Event{Type: event.ToolFinished, Call: c.finished(t.isError(ctx, c))})},
	}
	if c.Kind == uint8(tool.KindExecutor) {
		s.Shown = []call.Shown{{CallID: c.ID, Stdout: call.Told, Stderr: call.Told}}
	}
	if err = t.Commit(s, lane.With{}); errors.Is(err, call.ErrEnded) {
		return t.reopen(ctx, c)
	}
	t.freed(&c.Call)
	return err
}

// Reconsider takes the last outcome of the turn back, after a commit was refused with call.ErrEnded: it said lost, and
// another replica has recorded what the call came to. Await must follow.
func (t *Strand) Reconsider(ctx context.Context) error {
	c := t.turn.last
	t.turn.last = nil
	return t.reopen(ctx, c)
}

func (t *Strand) reopen(ctx context.Context, c *Call) error {
	c.Call, c.reply = c.before, nil
	t.turn.open++
	_, err := t.reload(ctx)
	return err
}

// isError reports whether an ended call is shown to the model as an error.
func (t *Strand) isError(ctx context.Context, c *Call) bool {
	asked, err := t.user.Request(ctx, c)
	return err != nil || asked.Result(c.reply).IsError
}

// reply is what an ended call came to. Whoever recorded it, what goes to the model has no secrets in it.
func (t *Strand) reply(c call.Call) tool.Reply {
	reply, err := t.kit.Tools.Decode(c.Tool, c.Reply)
	if err != nil {
		t.lane.deps.Log.Error("a recorded result cannot be read", "call_id", c.ID, "error", err)
		return tool.Failure{
			Reason: "INTERNAL", Message: "the call has ended, and the record of its result cannot be read",
		}
	}
	return tool.Clean(reply, t.kit.Secrets)
}
