package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// placeAll gives the new calls of a step their executor. It returns the reason for which they wait, "" for none.
func (l *loop) placeAll(ctx context.Context, s *lane.Step, with *lane.With) (waits string, err error) {
	var e fleet.Executor
	var ok, looked bool
	needs, others := l.demanded(s.Calls)
	for i := range s.Calls {
		c := &s.Calls[i]
		s.Events = append(s.Events, l.event(event.Event{Type: event.ToolStarted, Call: started(*c)}))
		if c.Approval != "" {
			s.Events = append(s.Events, l.requested(*c, approvalWith(s.Approvals, c.Approval)))
			continue
		}
		if c.Kind != uint8(tool.KindExecutor) {
			continue
		}
		if !looked {
			if e, ok, err = l.choose(ctx, needs...); err == nil && !ok && others && len(needs) > 0 {
				e, ok, err = l.choose(ctx)
			}
			if err != nil && !errors.Is(err, fleet.ErrNotFound) {
				return "", fmt.Errorf("placing the workspace: %w", err)
			}
			looked = true
		}
		if ok && !l.has(e, *c) {
			continue // the first look says so: what a call comes to is recorded
		}
		if ok {
			c.Executor, with.Executor = e.ID, l.binding(e.ID)
			s.Events[len(s.Events)-1].Call.Executor = e.ID
			if here, free := l.tree.deps.Slots.TryDispatch(e.ID, c.ID); free {
				c.State, c.Dispatch, c.Journal = call.Dispatched, 1, here.JournalID
			}
			continue
		}
		w := l.unplaced(time.Now(), e, err == nil)
		waits = w.Reason
		s.Events = append(s.Events, l.event(waiting(*c, w)))
	}
	return waits, nil
}

// choose finds the executor for calls, which need some tools of it. The first that a loop of the lane finds is that of
// all: they share the files.
func (l *loop) choose(ctx context.Context, needs ...string) (fleet.Executor, bool, error) {
	w := l.wanted()
	w.Needs = needs
	return l.chooseFor(ctx, w)
}

func (l *loop) chooseFor(ctx context.Context, w fleet.Wanted) (fleet.Executor, bool, error) {
	e, ok, err := l.tree.deps.Fleet.Place(ctx, w)
	if bound := ""; ok && err == nil {
		if bound = l.tree.bind(e.ID); bound != e.ID {
			w.Executor = bound
			return l.tree.deps.Fleet.Place(ctx, w)
		}
	}
	return e, ok, err
}

// binding is the executor that a commit writes as the one that has the workspace: "" if the row has one, which somebody
// may have moved since it was read.
func (l *loop) binding(executor string) string {
	if l.tree.owner.Lease().Executor != "" {
		return ""
	}
	return executor
}

// moved reports whether a call waits for an executor that the workspace is no longer at.
func (l *loop) moved(c *toolCall) bool {
	return c.State == call.Pending && c.Executor != "" && c.Executor != l.tree.bound() && l.end.stop == nil
}

// place gives a call that is known not to run, or that may run again, an executor, and sends it.
func (l *loop) place(ctx context.Context, c *toolCall) error {
	var needs []string
	if name := l.demands(c.Call); name != "" {
		needs = []string{name}
	}
	e, ok, err := l.choose(ctx, needs...)
	if missing := errors.Is(err, fleet.ErrNotFound); missing || err == nil && !ok {
		w := l.unplaced(c.watch.Made, e, !missing)
		w.Until = c.watch.WaitsUntil(l.tree.deps.DisconnectGrace)
		l.waits(c, w)
		return nil // the next look tries again
	}
	if err != nil {
		return fmt.Errorf("placing a call: %w", err)
	}
	if !l.has(e, c.Call) {
		return l.conclude(ctx, c, call.Done, notOffered(e, c.Tool))
	}
	next := c.Call
	next.Executor, next.Age, next.Shown = e.ID, [2]time.Duration{}, [2]int64{}
	if here, free := l.slot(c, e); free {
		next.State, next.Dispatch, next.Journal = call.Dispatched, c.Dispatch+1, here.JournalID
	}
	d := call.Dispatch{CallID: c.ID, Executor: e.ID, Dispatch: next.Dispatch, Journal: next.Journal}
	s := lane.Step{
		Dispatches: []call.Dispatch{d},
		Events:     []event.Event{l.event(event.Event{Type: event.ToolStarted, Call: started(next)})},
	}
	if c.Dispatch > 0 {
		s.Shown = []call.Shown{{CallID: c.ID}}
	}
	if err := l.commit(s, lane.With{Executor: l.binding(e.ID)}); err != nil {
		l.freed(&next)
		return err
	}
	attrs := []any{
		"call_id", c.ID, "tool", c.Tool, "session_id", l.row.SessionID, "submission_id", l.row.ID, "executor_id", e.ID,
	}
	if c.Dispatch > 0 {
		l.tree.deps.Log.InfoContext(ctx, "tool call is sent again", append(attrs, "dispatches", c.Dispatch)...)
	} else {
		l.tree.deps.Log.InfoContext(ctx, "tool call has its executor", append(attrs, "waited",
			time.Since(c.watch.Made))...)
	}
	fresh := toolCall{Call: next, output: newOutput(l.as.secrets)} // it runs anew, and so does its output
	fresh.watch.Made, fresh.watch.Owned = c.watch.Made, c.watch.Owned
	fresh.watch.Sent, fresh.watch.Quiet = time.Now(), time.Now()
	*c = fresh
	l.expect(c)
	if c.State == call.Dispatched {
		l.order(ctx, c)
	}
	return nil
}

// wait asks for slots for all calls of the turn that have asked for none at a connection of their executor; false when
// the replica that has the connection was not told.
func (l *loop) wait(ctx context.Context, executor string, connection int64) bool {
	var calls []*toolCall
	var ids []string
	for _, c := range l.turn.calls {
		if c.State == call.Pending && c.Executor == executor && c.watch.Connection != connection {
			calls, ids = append(calls, c), append(ids, c.ID)
		}
	}
	err := l.tree.deps.Slots.Wait(ctx, call.Queued{
		Executor: executor, Tenant: l.row.Key.Tenant, LaneID: l.row.LaneID, CallIDs: ids,
	})
	if err != nil {
		l.tree.deps.Log.Debug("telling of calls that wait for slots failed", "executor_id", executor, "lane_id",
			l.row.LaneID, "error", err)
	}
	for _, c := range calls {
		switch {
		case err == nil:
			c.watch.Connection, c.watch.Unreached = connection, time.Time{}
		case c.watch.Unreached.IsZero():
			c.watch.Unreached = time.Now()
		}
	}
	return err == nil
}

// slot takes a slot of an executor for a call. One that was dispatched before has one, or the executor says that it has
// none.
func (l *loop) slot(c *toolCall, e fleet.Executor) (fleet.Executor, bool) {
	if c.Executor != e.ID {
		l.freed(&c.Call)
	}
	if c.Dispatch == 0 {
		return l.tree.deps.Slots.TryDispatch(e.ID, c.ID)
	}
	return e, true
}

// freed says that a call has no slot of its executor any longer.
func (l *loop) freed(c *call.Call) {
	if c.Kind == uint8(tool.KindExecutor) && c.Executor != "" {
		l.tree.deps.Slots.Freed(c.Executor, c.ID)
	}
}

// granted sends a call that has got a slot.
func (l *loop) granted(ctx context.Context, c *toolCall, dispatch int, journal string) {
	c.State, c.Dispatch, c.Journal, c.watch.Sent = call.Dispatched, dispatch, journal, time.Now()
	c.watch.Connection, c.watch.Unreached = 0, time.Time{}
	l.order(ctx, c)
}

// order sends a dispatched call. When it cannot be sent the record stands, and the call is asked for once its executor
// is there.
func (l *loop) order(ctx context.Context, c *toolCall) {
	asked, err := l.requestOf(ctx, c)
	if err != nil {
		if !l.unreadable(err) {
			l.tree.deps.Log.Error("a recorded call cannot be read back", "call_id", c.ID, "error", err)
		}
		return
	}
	// The executor may have come back without the labels since the call was placed. With the order go the agent's
	// secrets.
	e, err := l.tree.deps.Fleet.Find(ctx, c.Executor)
	if err != nil || !e.Connected() || !e.Has(l.wanted().Labels) {
		return
	}
	f := l.tree.owner.Fence()
	c.watch.Connection, c.watch.Heard, c.watch.Resend = e.ConnectionEpoch, time.Now(), time.Time{}
	if !l.send(c.Executor, &call.Order{
		Call: c.Call, LaneID: f.LaneID, Epoch: f.Epoch, Request: asked.Call.Request, Cwd: l.cwd(),
		Env: l.env(asked.Call.Tool), Timeout: l.timeLeft(),
	}) {
		c.watch.Connection, c.watch.Unreached = 0, time.Now()
	}
}

// timeLeft is how long a call may run at the executor; 0 is as long as it wants.
func (l *loop) timeLeft() time.Duration {
	left := l.tree.owner.Ends().In
	if own := l.as.def.Limits.Timeout; !l.root() && own > 0 {
		left = min(left, own-time.Since(l.origin.began))
	}
	if left == lane.Never {
		return 0
	}
	return max(left, time.Millisecond)
}
