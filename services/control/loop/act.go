package loop

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
func (l *loop) decide(ctx context.Context, c *toolCall, said call.ReportBody, seen sights) error {
	read := false
	for range maxActions {
		s, err := l.situation(ctx, c, said, seen)
		if err != nil {
			return err
		}
		s.Read = read
		a := call.Next(s)
		switch a.Do {
		case call.DoAttach:
			switch sent := l.attach(c, s.Connection); {
			case c.watch.Ended || sent && said != nil:
				return nil
			case !sent:
				said = call.Unsent{}
			}
			continue
		case call.DoWait:
			if l.wait(ctx, c.Executor, s.Connection) {
				return nil
			}
			said = call.Unsent{}
			continue
		case call.DoCancel:
			c.watch.Cancelled = s.Now
			l.cancelCall(c)
			continue
		case call.DoLoad:
			if read, err = l.reload(ctx); err != nil || !read || c.State.Terminal() || c.watch.Ended {
				return err
			}
			continue
		}
		return l.act(ctx, c, a)
	}
	return nil
}

// act carries out an action after which there is nothing more to do for now.
func (l *loop) act(ctx context.Context, c *toolCall, a call.Action) error {
	now := time.Now()
	switch a.Do {
	case call.DoPlace:
		return l.place(ctx, c)
	case call.DoSend:
		l.order(ctx, c)
	case call.DoTake:
		return l.take(ctx, c, a.Reply, nil)
	case call.DoComplete:
		return l.complete(ctx, c)
	case call.DoConclude:
		return l.conclude(ctx, c, a.State, a.Reply)
	case call.DoHold:
		c.watch.Connection, c.watch.Hold = 0, a.Until // the sweep asks again
	case call.DoResend:
		c.watch.Resend = a.Until
		l.mail.nudge() // for the sweep to come in time
		l.waits(c, refusedFor(c.Call, a))
	case call.DoNote:
		if c.watch.Running.IsZero() {
			c.watch.Running = now
		}
		l.resumes(c)
	case call.DoRaise:
		if err := l.tree.owner.Raise(ctx, a.Above); err != nil {
			return err
		}
		l.order(ctx, c)
	case call.DoYield:
		l.tree.deps.Log.Warn("an executor cannot be reached through its replica, leaving the session to others",
			"session_id", l.row.SessionID, "executor_id", c.Executor)
		l.tree.yield(l.row.ID, c.Executor)
	case call.DoBegin:
		return l.beginChild(ctx, c)
	case call.DoRun:
		return l.runFunction(ctx, c)
	case call.DoNothing, call.DoWait, call.DoAttach, call.DoCancel, call.DoLoad:
	}
	return nil
}

// attach asks an executor for a call's state and its output from where this loop is.
func (l *loop) attach(c *toolCall, connection int64) bool {
	f, w, now := l.tree.owner.Fence(), &c.watch, time.Now()
	if !l.send(c.Executor, &call.Attach{
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
func (l *loop) cancelCall(c *toolCall) {
	if c.cancel != nil {
		c.cancel()
		return
	}
	f := l.tree.owner.Fence()
	l.send(c.Executor, &call.Cancel{CallID: c.ID, LaneID: f.LaneID, Epoch: f.Epoch, Grace: call.CancelGrace})
}

// take notes what a call came to; row is set when it is recorded. It counts when all output of the call has been taken.
func (l *loop) take(ctx context.Context, c *toolCall, reply tool.Reply, row *call.Call) error {
	w := &c.watch
	if !w.Ended {
		l.mail.nudge() // for the sweep to have an eye on it
		w.Ended, w.Quiet, w.Asked, c.reply = true, time.Now(), time.Now(), reply
	}
	if row != nil {
		c.reply, c.row = reply, row
	}
	if c.complete() {
		return l.complete(ctx, c)
	}
	l.expect(c) // more of it
	return nil
}

// complete makes what a call came to count.
func (l *loop) complete(ctx context.Context, c *toolCall) error {
	l.out.results = append(l.out.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})
	if c.row == nil {
		return l.conclude(ctx, c, call.StateOf(c.reply), c.reply)
	}
	l.showRest(c)
	reply := c.reply
	c.Call = *c.row
	l.closeCall(c, reply)
	s := lane.Step{
		Shown:  []call.Shown{{CallID: c.ID, Stdout: call.Told, Stderr: call.Told}},
		Events: []event.Event{l.event(event.Event{Type: event.ToolFinished, Call: c.finished(l.isError(ctx, c))})},
	}
	l.freed(&c.Call)
	return l.commit(s, lane.With{})
}

// closeCall notes that a call has an outcome.
func (l *loop) closeCall(c *toolCall, reply tool.Reply) {
	c.reply, c.watch.Ended = reply, false
	l.turn.open--
	l.mail.forget(c.ID) // what comes later is for the connection to record
}

// conclude records what a call came to. The last one of a turn is left to the commit that appends the results.
func (l *loop) conclude(ctx context.Context, c *toolCall, state call.State, reply tool.Reply) error {
	reply = tool.Clean(reply, l.as.secrets)
	body, err := tool.Encode(reply)
	if err != nil {
		return err
	}
	l.showRest(c)
	if c.gate != nil {
		l.decided(c, true)
	}
	c.before = c.Call
	c.State, c.Reply, c.Leaves, c.DoneAt = state, body, tool.Leaves(reply), time.Now()
	l.closeCall(c, reply)
	if l.turn.open == 0 {
		l.turn.last = c
		return nil
	}
	s := lane.Step{
		Outcomes: []call.Outcome{{CallID: c.ID, State: state, Reply: body, Leaves: c.Leaves}},
		Events:   []event.Event{l.event(event.Event{Type: event.ToolFinished, Call: c.finished(l.isError(ctx, c))})},
	}
	if c.Kind == uint8(tool.KindExecutor) {
		s.Shown = []call.Shown{{CallID: c.ID, Stdout: call.Told, Stderr: call.Told}}
	}
	if err = l.commit(s, lane.With{}); errors.Is(err, call.ErrEnded) {
		return l.reopen(ctx, c)
	}
	l.freed(&c.Call)
	return err
}

// reconsider takes the last outcome of the turn back: it said lost, and another replica has recorded what the call came
// to.
func (l *loop) reconsider(ctx context.Context) error {
	c := l.turn.last
	l.turn.last = nil
	return l.reopen(ctx, c)
}

func (l *loop) reopen(ctx context.Context, c *toolCall) error {
	c.Call, c.reply = c.before, nil
	l.turn.open++
	_, err := l.reload(ctx)
	return err
}

// isError reports whether an ended call is shown to the model as an error.
func (l *loop) isError(ctx context.Context, c *toolCall) bool {
	asked, err := l.requestOf(ctx, c)
	return err != nil || asked.Result(c.reply).IsError
}

// reply is what an ended call came to. Whoever recorded it, what goes to the model has no secrets in it.
func (l *loop) reply(c call.Call) tool.Reply {
	reply, err := l.as.tools.Decode(c.Tool, c.Reply)
	if err != nil {
		l.tree.deps.Log.Error("a recorded result cannot be read", "call_id", c.ID, "error", err)
		return tool.Failure{
			Reason: "INTERNAL", Message: "the call has ended, and the record of its result cannot be read",
		}
	}
	return tool.Clean(reply, l.as.secrets)
}
