package turn

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
func (t *Strand) placeAll(ctx context.Context, s *lane.Step, with *lane.With) (waits string, err error) {
	var e fleet.Executor
	var ok, looked bool
	needs, others := t.demanded(s.Calls)
	for i := range s.Calls {
		c := &s.Calls[i]
		s.Events = append(s.Events, t.Event(event.Event{Type: event.ToolStarted, Call: started(*c)}))
		if c.Approval != "" {
			s.Events = append(s.Events, t.requested(*c, approvalWith(s.Approvals, c.Approval)))
			continue
		}
		if c.Kind != uint8(tool.KindExecutor) {
			continue
		}
		if !looked {
			if e, ok, err = t.choose(ctx, needs...); err == nil && !ok && others && len(needs) > 0 {
				e, ok, err = t.choose(ctx)
			}
			if err != nil && !errors.Is(err, fleet.ErrNotFound) {
				return "", fmt.Errorf("placing the workspace: %w", err)
			}
			looked = true
		}
		if ok && !t.has(e, *c) {
			continue // the first look says so: what a call comes to is recorded
		}
		if ok {
			c.Executor, with.Executor = e.ID, t.binding(e.ID)
			s.Events[len(s.Events)-1].Call.Executor = e.ID
			if here, free := t.lane.deps.Slots.TryDispatch(e.ID, c.ID); free {
				c.State, c.Dispatch, c.Journal = call.Dispatched, 1, here.JournalID
			}
			continue
		}
		w := t.unplaced(time.Now(), e, err == nil)
		waits = w.Reason
		s.Events = append(s.Events, t.Event(waiting(*c, w)))
	}
	return waits, nil
}

// choose finds the executor for calls, which need some tools of it. The first that a strand of the lane finds is that
// of all: they share the files.
func (t *Strand) choose(ctx context.Context, needs ...string) (fleet.Executor, bool, error) {
	w := t.wanted()
	w.Needs = needs
	return t.Choose(ctx, w)
}

// Choose finds an executor that has what is wanted: that of the workspace, once it has one.
func (t *Strand) Choose(ctx context.Context, w fleet.Wanted) (fleet.Executor, bool, error) {
	e, ok, err := t.lane.deps.Fleet.Place(ctx, w)
	if bound := ""; ok && err == nil && !t.kit.Apart {
		if bound = t.lane.bind(e.ID); bound != e.ID {
			w.Executor = bound
			return t.lane.deps.Fleet.Place(ctx, w)
		}
	}
	return e, ok, err
}

// binding is the executor that a commit binds the workspace to, "" for none.
func (t *Strand) binding(executor string) string {
	if t.kit.Apart {
		return ""
	}
	return t.lane.Binding(executor)
}

// moved reports whether a call waits for an executor that the workspace is no longer at.
func (t *Strand) moved(c *Call) bool {
	return c.State == call.Pending && c.Executor != "" && c.Executor != t.lane.Executor() && !t.Stopped() &&
		!t.kit.Apart
}

// place gives a call that is known not to run, or that may run again, an executor, and sends it.
func (t *Strand) place(ctx context.Context, c *Call) error {
	var needs []string
	if name := t.demands(c.Call); name != "" {
		needs = []string{name}
	}
	e, ok, err := t.choose(ctx, needs...)
	if missing := errors.Is(err, fleet.ErrNotFound); missing || err == nil && !ok {
		w := t.unplaced(c.watch.Made, e, !missing)
		w.Until = c.watch.WaitsUntil(t.lane.deps.DisconnectGrace)
		t.waits(c, w)
		return nil // the next look tries again
	}
	if err != nil {
		return fmt.Errorf("placing a call: %w", err)
	}
	if !t.has(e, c.Call) {
		return t.conclude(ctx, c, call.Done, notOffered(e, c.Tool))
	}
	next := c.Call
	next.Executor, next.Age, next.Shown = e.ID, [2]time.Duration{}, [2]int64{}
	if here, free := t.slot(c, e); free {
		next.State, next.Dispatch, next.Journal = call.Dispatched, c.Dispatch+1, here.JournalID
	}
	d := call.Dispatch{CallID: c.ID, Executor: e.ID, Dispatch: next.Dispatch, Journal: next.Journal}
	s := lane.Step{
		Dispatches: []call.Dispatch{d},
		Events:     []event.Event{t.Event(event.Event{Type: event.ToolStarted, Call: started(next)})},
	}
	if c.Dispatch > 0 {
		s.Shown = []call.Shown{{CallID: c.ID}}
	}
	if err := t.Commit(s, lane.With{Executor: t.binding(e.ID)}); err != nil {
		t.freed(&next)
		return err
	}
	attrs := []any{
		"call_id", c.ID, "tool", c.Tool, "session_id", t.who.SessionID, "submission_id", t.who.LoopID,
		"executor_id", e.ID,
	}
	if c.Dispatch > 0 {
		t.lane.deps.Log.InfoContext(ctx, "tool call is sent again", append(attrs, "dispatches", c.Dispatch)...)
	} else {
		t.lane.deps.Log.InfoContext(ctx, "tool call has its executor", append(attrs, "waited",
			time.Since(c.watch.Made))...)
	}
	fresh := Call{Call: next, output: newOutput(t.kit.Secrets)} // it runs anew, and so does its output
	fresh.watch.Made, fresh.watch.Owned = c.watch.Made, c.watch.Owned
	fresh.watch.Sent, fresh.watch.Quiet = time.Now(), time.Now()
	*c = fresh
	t.expect(c)
	if c.State == call.Dispatched {
		t.order(ctx, c)
	}
	return nil
}

// wait asks for slots for all calls of the turn that have asked for none at a connection of their executor; false when
// the replica that has the connection was not told.
func (t *Strand) wait(ctx context.Context, executor string, connection int64) bool {
	var calls []*Call
	var ids []string
	for _, c := range t.turn.calls {
		if c.State == call.Pending && c.Executor == executor && c.watch.Connection != connection {
			calls, ids = append(calls, c), append(ids, c.ID)
		}
	}
	err := t.lane.deps.Slots.Wait(ctx, call.Queued{
		Executor: executor, Tenant: t.lane.key.Tenant, LaneID: t.lane.id(), CallIDs: ids,
	})
	if err != nil {
		t.lane.deps.Log.Debug("telling of calls that wait for slots failed", "executor_id", executor, "lane_id",
			t.lane.id(), "error", err)
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
func (t *Strand) slot(c *Call, e fleet.Executor) (fleet.Executor, bool) {
	if c.Executor != e.ID {
		t.freed(&c.Call)
	}
	if c.Dispatch == 0 {
		return t.lane.deps.Slots.TryDispatch(e.ID, c.ID)
	}
	return e, true
}

// freed says that a call has no slot of its executor any longer.
func (t *Strand) freed(c *call.Call) {
	if c.Kind == uint8(tool.KindExecutor) && c.Executor != "" {
		t.lane.deps.Slots.Freed(c.Executor, c.ID)
	}
}

// granted sends a call that has got a slot.
func (t *Strand) granted(ctx context.Context, c *Call, dispatch int, journal string) {
	c.State, c.Dispatch, c.Journal, c.watch.Sent = call.Dispatched, dispatch, journal, time.Now()
	c.watch.Connection, c.watch.Unreached = 0, time.Time{}
	t.order(ctx, c)
}

// order sends a dispatched call. When it cannot be sent the record stands, and the call is asked for once its executor
// is there.
func (t *Strand) order(ctx context.Context, c *Call) {
	asked, err := t.user.Request(ctx, c)
	if err != nil {
		if !t.user.Unreadable(err) {
			t.lane.deps.Log.Error("a recorded call cannot be read back", "call_id", c.ID, "error", err)
		}
		return
	}
	// The executor may have come back without the labels since the call was placed. With the order go the agent's
	// secrets.
	e, err := t.lane.deps.Fleet.Find(ctx, c.Executor)
	if err != nil || !e.Connected() || !e.Has(t.wanted().Labels) {
		return
	}
	left := t.timeLeft()
	if left <= 0 {
		return // it is to end before it has begun: the executor is asked, and says that it never ran
	}
	if left == lane.Never {
		left = 0 // as long as it wants
	}
	f := t.lane.owner.Fence()
	c.watch.Connection, c.watch.Heard, c.watch.Resend = e.ConnectionEpoch, time.Now(), time.Time{}
	if !t.send(c.Executor, &call.Order{
		Call: c.Call, LaneID: f.LaneID, Epoch: f.Epoch, Request: asked.Call.Request, Cwd: t.kit.Cwd,
		Env: t.kit.Env(asked.Call.Tool), Timeout: left,
	}) {
		c.watch.Connection, c.watch.Unreached = 0, time.Now()
	}
}

// timeLeft is how long a call may run at the executor, lane.Never for as long as it wants.
func (t *Strand) timeLeft() time.Duration {
	left := lane.Never
	if !t.who.Late {
		left = t.lane.owner.Ends().In
	}
	if !t.ends.IsZero() {
		left = min(left, time.Until(t.ends))
	}
	return left
}
