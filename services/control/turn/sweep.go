package turn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// sweep looks at every open call: whether its row was completed elsewhere, whether its executor is there, whether it
// waits for one.
func (r *run) sweep(ctx context.Context) error {
	r.inbox.expect(r.calls)
	if r.recordedElsewhere() {
		if _, err := r.reload(ctx); err != nil {
			return err
		}
	}
	for i := range r.calls {
		c := &r.calls[i]
		if c.State.Terminal() {
			continue
		}
		if err := r.sweepCall(ctx, c); err != nil {
			return err
		}
	}
	return r.survive(ctx)
}

// survive clears the stalls once this owner has lived beside a running call for a moment: what killed those before it
// was something else, and a long command is not to be given up for deaths that have nothing to do with it. What kills
// an owner by what it says does so at once. The empty piece of output tells watchers that it runs on.
func (r *run) survive(ctx context.Context) error {
	if r.sub.Stalls == 0 || r.stop != nil {
		return nil
	}
	for _, c := range r.calls {
		l := r.live[c.ID]
		if l == nil || c.State.Terminal() || l.end != nil || l.running.IsZero() || time.Since(l.running) < survival {
			continue
		}
		r.push(r.event(event.Event{
			Type: event.ToolOutput, Call: &event.Call{ID: c.ID},
			Output: &event.Output{Offset: max(l.shown[0], l.logged[0])},
		}))
		return r.commit(ctx, submission.Commit{Progress: &submission.Progress{
			Phase: r.sub.Phase, Turn: r.sub.Turn,
			Usage: r.sub.Usage,
		}})
	}
	return nil
}

// recordedElsewhere reports whether an outcome may have been recorded by others than this run: by another replica, or
// by this one before the run waited for the call.
func (r *run) recordedElsewhere() bool {
	for _, c := range r.calls {
		if !c.State.Terminal() && (c.Executor != r.deps.Builtin || r.liveOf(c.ID).connection == 0) {
			return true
		}
	}
	return false
}

// reload takes over outcomes that were recorded elsewhere. read is false when the rows cannot be read now: nothing may
// be concluded from them then, and the next sweep asks executors and rows again.
func (r *run) reload(ctx context.Context) (read bool, err error) {
	rows, err := r.deps.Store.TurnCalls(ctx, r.id(), r.sub.Seq, r.sub.Turn)
	if err != nil {
		r.deps.Log.Warn("reading calls failed, trying again", "session_id", r.id(), "error", err)
		for _, l := range r.live {
			l.connection = 0
		}
		return false, nil
	}
	for _, row := range rows {
		c := r.callByID(row.ID)
		if c == nil || c.State.Terminal() || !row.State.Terminal() {
			continue
		}
		if err := r.close(ctx, c, r.reply(row), &row); err != nil {
			return false, err
		}
	}
	return true, nil
}

// unreached notes that an executor which is connected to some replica cannot be reached from here. When that lasts, the
// lane is left to the other replicas: one of them holds the connection.
func (r *run) unreached(ctx context.Context, l *liveCall) error {
	now := time.Now()
	if l.unreached.IsZero() {
		l.unreached = now
	}
	if now.Sub(l.unreached) < yieldAfter {
		return nil
	}
	r.deps.Log.Warn("an executor cannot be reached through its replica, leaving the session to others", "session_id",
		r.id(), "executor_id", r.executor)
	r.worker.deferClaims()
	return r.handBack(ctx)
}

// sweepCall is one open call's turn in a sweep.
func (r *run) sweepCall(ctx context.Context, c *call.Call) error {
	now, l, cancel := time.Now(), r.liveOf(c.ID), r.stop != nil
	if l.end != nil {
		return r.fetch(ctx, c)
	}
	if c.State == call.Pending {
		if cancel {
			return r.outcome(ctx, c, call.Cancelled, tool.Failure{
				Reason:  tool.ReasonCancelled,
				Message: "the call was never started",
			})
		}
		if now.Sub(c.CreatedAt) > r.deps.DisconnectGrace {
			who := "no executor for this agent was"
			if r.executor != "" {
				who = fmt.Sprintf("executor %s, which has this session's files, was not", r.executor)
			}
			return r.outcome(ctx, c, call.Done, tool.Failure{Reason: "UNAVAILABLE", Message: fmt.Sprintf(
				"%s available for %s; the call was never started", who, r.deps.DisconnectGrace)})
		}
		return r.dispatchAgain(ctx, c)
	}
	if cancel && now.Sub(r.stopped) > cancelLimit {
		return r.outcome(ctx, c, call.Lost, unconfirmedFailure)
	}
	e, err := r.deps.Fleet.Find(ctx, c.Executor)
	switch {
	case err != nil && !errors.Is(err, fleet.ErrNotFound):
		r.deps.Log.Warn("looking for an executor failed, trying again", "executor_id", c.Executor, "error", err)
		return nil
	case err != nil || !e.Connected():
		l.unreached = time.Time{}
		if l.away.IsZero() {
			l.away = now
			r.waits(*c, r.cutOff(*c, now))
		}
	default:
		l.away = time.Time{}
		// A relayed answer can get lost: an executor that is there and says nothing of the call is asked again.
		if (l.connection != e.ConnectionEpoch || now.Sub(l.heard) > silence) && !now.Before(l.retry) {
			if !r.attach(ctx, c) {
				return r.unreached(ctx, l)
			}
			if l.connection != e.ConnectionEpoch {
				l.cancelled = time.Time{}
			}
			l.connection, l.heard, l.unreached = e.ConnectionEpoch, now, time.Time{}
		}
	}
	switch {
	case cancel && l.cancelled.IsZero() && l.away.IsZero():
		l.cancelled = now
		r.send(ctx, c.Executor, &call.Cancel{CallID: c.ID, LaneID: r.id(), Epoch: r.fence.Epoch, Grace: cancelGrace})
	case cancel && (!l.away.IsZero() && now.Sub(l.away) > cancelWait || !l.cancelled.IsZero() &&
		now.Sub(l.cancelled) > cancelGrace+cancelWait):
		return r.outcome(ctx, c, call.Lost, unconfirmedFailure)
	case !l.away.IsZero() && now.Sub(l.away) > r.deps.DisconnectGrace:
		return r.outcome(ctx, c, call.Lost, tool.Failure{Reason: tool.ReasonInterrupted, Message: fmt.Sprintf(
			"executor %s has been away for %s", c.Executor, r.deps.DisconnectGrace)})
	}
	return nil
}
