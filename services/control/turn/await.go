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

const (
	sweepEvery = 5 * time.Second // to look at executors and rows that no hint told of
	yieldAfter = 5 * time.Second // of not reaching an executor
	silence    = 2 * sweepEvery  // of an executor about a call, before it is asked
	// of an owner that waits for a running call, which is not what its predecessors died of then
	survival    = time.Second
	cancelGrace = 2 * time.Second  // between TERM and KILL
	cancelWait  = 10 * time.Second // for an executor to say that a cancelled call has ended
	cancelLimit = 20 * time.Second // for all of that, whatever an executor's connection does
)

// errStale is an executor's claim that it knows a higher epoch of the session.
var errStale = errors.New("the executor knows a higher epoch of the session")

var unconfirmedFailure = tool.Failure{Reason: tool.ReasonInterrupted, Message: "the executor did not confirm that " +
	"the call has ended"}

// liveCall is what this run knows of an open call beside its record.
type liveCall struct {
	connection int64 // connection epoch at which it was last ordered or attached, 0 for never
	seen       [2]int64
	away       time.Time // since when its executor is gone, zero when it is not
	cancelled  time.Time // when Cancel was sent
	retry      time.Time // not to be ordered again before
	unreached  time.Time // since when nothing gets through to its executor, which is connected; zero when something did
	heard      time.Time // when its executor was last asked about it, or said something
	running    time.Time // since when this run knows that it runs there
	redact     [2]*tool.Stream
	shown      [2]int64 // bytes of redacted output, per stream
	logged     [2]int64 // of which earlier owners have put so many into the stream
	told       bool     // an earlier owner has told that it ended
	end        *end     // what it came to, once that is known
	waits      string   // the reason for which watchers were told that it waits, "" when it does not
}

func (r *run) liveOf(id string) *liveCall {
	l := r.live[id]
	if l == nil {
		l = &liveCall{}
		secrets := r.values.Secrets()
		l.redact = [2]*tool.Stream{tool.NewStream(secrets), tool.NewStream(secrets)}
		r.live[id] = l
	}
	return l
}

// await handles what executors say of the turn's calls, until all have ended or the submission is stopped or handed
// over.
func (r *run) await(ctx context.Context) error {
	cancel := r.stop != nil
	r.inbox.expect(r.calls)
	timer := time.NewTimer(0)
	defer timer.Stop()
	sweep := time.Now() // at once: what this run has not ordered itself is attached to
	for {
		if now := time.Now(); !now.Before(sweep) {
			if err := r.sweep(ctx); err != nil {
				return err
			}
			sweep = now.Add(sweepEvery)
			if cancel || r.ending() || r.sub.Stalls > 0 {
				sweep = now.Add(time.Second)
			}
		}
		if r.open() == 0 {
			return nil
		}
		wait := time.Until(sweep)
		if due, ok := r.flushDue(); ok {
			wait = min(wait, due)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.drain:
			return nil
		case <-r.expired():
		case <-timer.C:
			if due, ok := r.flushDue(); ok && due <= 0 {
				if err := r.flush(ctx); err != nil {
					return err
				}
			}
		case <-r.inbox.ready:
			nudged, err := r.readInbox(ctx)
			if err != nil {
				return err
			}
			if nudged {
				sweep = time.Now()
			}
		}
		if before := r.stop; before == nil {
			if r.checkStop(); r.stop != nil {
				return nil
			}
		}
	}
}

func (r *run) open() (n int) {
	for _, c := range r.calls {
		if !c.State.Terminal() {
			n++
		}
	}
	return n
}

func (r *run) callByID(id string) *call.Call {
	for i := range r.calls {
		if r.calls[i].ID == id {
			return &r.calls[i]
		}
	}
	return nil
}

func (r *run) readInbox(ctx context.Context) (nudged bool, err error) {
	reports, nudged := r.inbox.take()
	for _, rep := range reports {
		c := r.callByID(rep.CallID)
		if c == nil || c.State.Terminal() || c.Executor != rep.Executor {
			r.missed(ctx, rep)
			continue
		}
		if err := r.report(ctx, c, rep); err != nil {
			return nudged, err
		}
	}
	return nudged, nil
}

// missed asks again for a result that was posted when nobody waited for it any more: the connection, which may have to
// record it, has left it to this run.
func (r *run) missed(ctx context.Context, rep call.Report) {
	if _, ok := rep.Body.(call.Ended); ok {
		r.send(ctx, rep.Executor, &call.Attach{CallID: rep.CallID, LaneID: r.id(), Epoch: r.fence.Epoch})
	}
}

func (r *run) report(ctx context.Context, c *call.Call, rep call.Report) error {
	r.liveOf(c.ID).heard = time.Now()
	switch b := rep.Body.(type) {
	case call.Output:
		return r.tookOutput(ctx, c, b)
	case call.Ended:
		return r.ended(ctx, c, b.Reply)
	case call.Found:
		return r.found(ctx, c, b)
	case call.Rejected:
		return r.rejected(ctx, c, b)
	}
	return nil
}

// ended records what a call came to. The last one of a turn is left to the commit that appends the results.
func (r *run) ended(ctx context.Context, c *call.Call, reply tool.Reply) error {
	state := call.StateOf(reply)
	if state == call.Lost && c.Safety != tool.AtMostOnce && r.stop == nil {
		return r.dispatchAgain(ctx, c)
	}
	return r.close(ctx, c, reply, nil)
}

func (r *run) outcome(ctx context.Context, c *call.Call, state call.State, reply tool.Reply) error {
	body, err := tool.Encode(tool.Clean(reply, r.values.Secrets()))
	if err != nil {
		return err
	}
	r.showRest(c)
	before := *c
	c.State, c.Reply, c.DoneAt = state, body, time.Now()
	r.inbox.expect(r.calls) // what comes later is for the connection to record
	if r.open() == 0 {
		r.outcomes, r.undecided = append(r.outcomes, call.Outcome{CallID: c.ID, State: state}), before
		return nil
	}
	err = r.commit(ctx, submission.Commit{
		Outcomes: []call.Outcome{{CallID: c.ID, State: state, Reply: body}},
		Events: []event.Event{r.event(event.Event{
			Type: event.ToolFinished,
			Call: finished(*c, r.isError(*c), c.DoneAt.Sub(c.CreatedAt)),
		})},
	})
	if errors.Is(err, call.ErrEnded) {
		*c = before
		_, err = r.reload(ctx)
	}
	return err
}

// reconsider takes the last outcome of the turn back: it said lost, and another replica has recorded what the call came
// to.
func (r *run) reconsider(ctx context.Context) error {
	*r.callByID(r.undecided.ID) = r.undecided
	r.outcomes = nil
	_, err := r.reload(ctx)
	return err
}

// isError reports whether an ended call is shown to the model as an error.
func (r *run) isError(c call.Call) bool {
	return c.Index >= len(r.asked) || r.asked[c.Index].Result(r.reply(c)).IsError
}

// reply is what an ended call came to. Whoever recorded it, what goes to the model has no secrets in it.
func (r *run) reply(c call.Call) tool.Reply {
	reply, err := r.deps.Tools.Decode(c.Tool, c.Reply)
	if err != nil {
		r.deps.Log.Error("a recorded result cannot be read", "call_id", c.ID, "error", err)
		return tool.Failure{Reason: "INTERNAL", Message: "the call has ended, and the record of its " +
			"result cannot be read"}
	}
	return tool.Clean(reply, r.values.Secrets())
}

// found decides by what the executor knows of a call that this run did not order over the present connection.
func (r *run) found(ctx context.Context, c *call.Call, f call.Found) error {
	if r.liveOf(c.ID).end != nil {
		if f.State == call.Unknown || f.State == call.TombstoneThere {
			return r.finish(ctx, c) // it has ended, and its output is gone
		}
		return nil
	}
	switch f.State {
	case call.RunningThere:
		if l := r.liveOf(c.ID); l.running.IsZero() {
			l.running = time.Now()
		}
		r.resumes(*c)
		return nil // a result follows
	case call.FinishedThere:
		return nil // it follows
	case call.InterruptedThere:
		return r.ended(ctx, c, tool.Failure{Reason: tool.ReasonInterrupted, Message: "nobody saw the call end"})
	case call.Unknown:
		if f.Dispatch != 0 && f.Dispatch != c.Dispatch {
			return nil // an answer to an older question
		}
		if c.Safety != tool.AtMostOnce || neverRan(*c, f) {
			return r.dispatchAgain(ctx, c)
		}
	case call.TombstoneThere:
		// It was acknowledged, which happens only after it was recorded.
		if read, err := r.reload(ctx); err != nil || !read || c.State.Terminal() || r.liveOf(c.ID).end != nil {
			return err
		}
	}
	return r.outcome(ctx, c, call.Lost, tool.Failure{Reason: tool.ReasonInterrupted, Message: noProof(*c, f)})
}

// noProof is why an executor that does not know a call may have run it.
func noProof(c call.Call, f call.Found) string {
	if f.Journal != c.Journal {
		return "the executor has no record of the call: its data directory is not the one that it had when the call " +
			"was sent, " +
			"but another one, a copy, or an older state of it"
	}
	return "the executor has no record of the call, and none that proves that it never ran"
}

// neverRan is C5: an executor that does not know a call has never run it if its journal is the one that it had at the
// dispatch and has forgotten nothing since. Ids are compared and no clocks of two machines.
func neverRan(c call.Call, f call.Found) bool {
	return f.Journal != "" && f.Journal == c.Journal && time.Since(c.DispatchedAt) < call.ForgetAfter
}

func (r *run) rejected(ctx context.Context, c *call.Call, rej call.Rejected) error {
	if rej.Epoch < r.fence.Epoch {
		return nil // that was a former owner's order
	}
	l := r.liveOf(c.ID)
	switch rej.Reason {
	case "STALE_EPOCH":
		// Whether the lane is lost is for the database to say: giving it back changes nothing if it is, and else the
		// next owner has a higher epoch. One that is to end does without the executor's word.
		if r.stop == nil {
			return errStale
		}
		return nil
	case "REVOKED":
		return r.dispatchAgain(ctx, c)
	case "CAPACITY", "DRAINING":
		l.connection, l.retry = 0, time.Now().Add(time.Second)
		r.waits(*c, refusedFor(*c, rej.Reason, rej.Message))
		return nil
	case "NO_SPACE":
		if !l.cancelled.IsZero() {
			return nil // it may be the Cancel that was refused: that proves nothing about the call
		}
	}
	message := rej.Message
	if rej.Reason == "NO_SPACE" || rej.Reason == "UNSUPPORTED" {
		// the model must not take it for the call's own failure
		message = "The executor did not run this call: " + message
	}
	return r.outcome(ctx, c, call.Done, tool.Failure{Reason: rej.Reason, Message: message})
}

// pause is how long after its n-th dispatch a call is not sent again: the second is sent at once, an executor that
// refuses for ever costs little.
func pause(dispatches int) time.Duration {
	if dispatches < 2 {
		return 0
	}
	return min(time.Second<<min(dispatches-2, 6), time.Minute)
}

// dispatchAgain sends a call that is known not to run, or that may run again.
func (r *run) dispatchAgain(ctx context.Context, c *call.Call) error {
	if r.stop != nil {
		return r.outcome(ctx, c, call.Cancelled, tool.Failure{
			Reason:  tool.ReasonCancelled,
			Message: "the call was never started",
		})
	}
	if wait := time.Until(c.DispatchedAt.Add(pause(c.Dispatch))); wait > 0 {
		l := r.liveOf(c.ID)
		l.connection, l.retry = 0, time.Now().Add(wait) // the sweep asks again
		return nil
	}
	e, ok, err := r.deps.Fleet.Place(ctx, r.wanted())
	if missing := errors.Is(err, fleet.ErrNotFound); missing || err == nil && !ok {
		r.waits(*c, r.unplaced(*c, e, !missing))
		return nil // the sweep tries again
	}
	if err != nil {
		return fmt.Errorf("placing a call: %w", err)
	}
	next := *c
	next.State, next.Executor, next.Dispatch, next.DispatchedAt, next.Journal = call.Dispatched, e.ID, c.Dispatch+1, time.Now(), e.JournalID
	err = r.commit(ctx, submission.Commit{
		Dispatches: []call.Dispatch{{
			CallID: c.ID, Executor: e.ID, Dispatch: next.Dispatch,
			Journal: next.Journal,
		}}, Executor: e.ID,
		Events: []event.Event{r.event(event.Event{Type: event.ToolStarted, Call: started(next)})},
	})
	if err != nil {
		return err
	}
	if c.Dispatch > 0 {
		r.deps.Log.InfoContext(ctx, "tool call is sent again", "call_id", c.ID, "tool", c.Tool, "session_id", r.id(),
			"submission_id", r.sub.ID, "executor_id", e.ID, "dispatch", next.Dispatch)
	} else {
		r.deps.Log.InfoContext(ctx, "tool call has its executor", "call_id", c.ID, "tool", c.Tool, "session_id", r.id(),
			"submission_id", r.sub.ID, "executor_id", e.ID, "waited", time.Since(c.CreatedAt))
	}
	*c = next
	delete(r.live, c.ID) // it runs anew, and so does its output
	r.inbox.expect(r.calls)
	r.order(ctx, c)
	return nil
}
