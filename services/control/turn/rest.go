package turn

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const (
	// restEvery is how often the rest of an ended command's output is asked for when none comes.
	restEvery = time.Second
	// restWait is how long none may come before the stream goes on without it, and says so.
	restWait = 10 * time.Second
	// restSlow is the same while its executor is connected: that one keeps the output until the result is acknowledged,
	// so what does not come is late (control or the disks have too much to do), not lost. Who stops the submission does
	// not want to wait for it.
	restSlow = time.Minute
)

// end is an outcome that waits until the output before it is in the stream. The executor keeps the output until it is
// told that the result is recorded, so nothing of it is lost meanwhile.
type end struct {
	reply tool.Reply
	row   *call.Call // when somebody else has recorded it
	seen  [2]int64   // bytes taken when it was last looked at
	since time.Time  // that so many were
	asked time.Time
}

// missing counts the bytes of an ended command's streams that were not taken.
func (l *liveCall) missing() (n [2]int64) {
	if l.end == nil {
		return n
	}
	if x, ok := l.end.reply.(tool.Process); ok {
		written := x.Written()
		n = [2]int64{max(0, written[0]-l.seen[0]), max(0, written[1]-l.seen[1])}
	}
	return n
}

// close takes what a call came to; row is set when it is recorded. It counts when all output of the call has been
// taken.
func (r *run) close(ctx context.Context, c *call.Call, reply tool.Reply, row *call.Call) error {
	l := r.liveOf(c.ID)
	if l.end == nil {
		r.inbox.nudge() // for the sweep to have an eye on it
		l.end = &end{reply: reply, since: time.Now(), asked: time.Now(), seen: l.seen}
	}
	if row != nil {
		l.end.reply, l.end.row = reply, row
	}
	if l.missing() == [2]int64{} || unreadable(l.end.reply) {
		return r.finish(ctx, c)
	}
	r.inbox.expect(r.calls) // more of it
	return nil
}

// unreadable reports whether an executor could not read all of a command's output: the rest does not come.
func unreadable(reply tool.Reply) bool {
	x, ok := reply.(tool.Process)
	return ok && x.Unreadable()
}

// ending reports whether a call has ended whose output is not complete.
func (r *run) ending() bool {
	for _, c := range r.calls {
		if l := r.live[c.ID]; l != nil && l.end != nil && !c.State.Terminal() {
			return true
		}
	}
	return false
}

// fetch asks for the rest of a call's output, or goes on without it.
func (r *run) fetch(ctx context.Context, c *call.Call) error {
	now, l := time.Now(), r.liveOf(c.ID)
	e := l.end
	if e.seen != l.seen {
		e.seen, e.since, e.asked = l.seen, now, now
	}
	if now.Sub(e.asked) < restEvery && l.connection != 0 {
		return nil
	}
	x, err := r.deps.Fleet.Find(ctx, c.Executor)
	connected := err == nil && x.Connected()
	wait := restWait
	if connected && r.stop == nil {
		wait = restSlow
	}
	if now.Sub(e.since) >= wait {
		return r.finish(ctx, c)
	}
	if connected && r.attach(ctx, c) {
		l.connection, e.asked = x.ConnectionEpoch, now
	}
	return nil
}

// attach asks an executor for a call's state and its output from where this run is.
func (r *run) attach(ctx context.Context, c *call.Call) bool {
	l := r.liveOf(c.ID)
	return r.send(ctx, c.Executor, &call.Attach{
		CallID: c.ID, LaneID: r.id(), Epoch: r.fence.Epoch, Dispatch: c.Dispatch, StdoutFrom: l.seen[0], StderrFrom: l.seen[1],
	})
}

// finish makes an outcome count.
func (r *run) finish(ctx context.Context, c *call.Call) error {
	e := r.liveOf(c.ID).end
	r.results = append(r.results, ack{c.Executor, &call.ResultAck{CallID: c.ID}})
	if e.row == nil {
		return r.outcome(ctx, c, call.StateOf(e.reply), e.reply)
	}
	r.showRest(c)
	*c = *e.row
	return r.commit(ctx, submission.Commit{Events: []event.Event{
		r.event(event.Event{Type: event.ToolFinished, Call: finished(*c, r.isError(*c), c.DoneAt.Sub(c.CreatedAt))}),
	}})
}

// showRest shows what was held back of a call's output, and says how much of it is missing.
func (r *run) showRest(c *call.Call) {
	l := r.liveOf(c.ID)
	for i, missing := range l.missing() {
		stderr := i == 1
		r.show(c.ID, stderr, l.redact[i].Close())
		shown := max(l.shown[i], l.logged[i])
		if missing -= shown - l.shown[i]; missing <= 0 {
			continue
		}
		r.deps.Log.Warn("output of a command is missing from its stream", "call_id", c.ID, "executor_id", c.Executor,
			"bytes", missing)
		r.push(r.event(event.Event{Type: event.ToolOutput, Call: &event.Call{ID: c.ID}, Output: &event.Output{
			Stderr: stderr, Offset: shown + missing, Skipped: missing,
		}}))
	}
}
