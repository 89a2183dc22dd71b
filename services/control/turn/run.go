package turn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// fairShare is how many submissions of one session a run takes before others get its slot.
const fairShare = 16

// releaseLimit bounds one attempt to hand a lane back.
const releaseLimit = 5 * time.Second

// errHandedOver ends a run whose lane was handed back.
var errHandedOver = errors.New("the lane was handed back")

// run is one leased lane. Only its own goroutine touches it, but for inbox and aborted.
type run struct {
	deps    *Deps
	worker  *Worker
	inbox   *mailbox
	aborted atomic.Value // id of the submission whose abort was requested, if any
	fence   submission.Fence
	key     session.Key

	sub          submission.Submission
	def          agent.Definition
	values       agent.Values
	tools        tool.Set     // that are offered
	asked        []tool.Asked // by the answer of the turn, once there is one
	conversation *conversation
	eventHead    int64
	executor     string // that the workspace is bound to
	calls        []call.Call
	live         map[string]*liveCall
	stop         *Stop
	stopped      time.Time // since when it is to end
	forced       bool      // the owner before did not end it in time
	cancel       context.CancelFunc
	next         *submission.Lease
	settled      bool
	leaseHead    int64     // entry head that the lease came with
	fresh        bool      // admission started the submission in the same transaction; nobody was told yet
	share        int       // submissions taken in a row
	begun        time.Time // when this run took the submission
	drain        <-chan struct{}
	deadline     *time.Timer

	outbox
}

func newRun(w *Worker, l submission.Lease, fresh bool) *run {
	r := &run{deps: &w.deps, worker: w, inbox: newMailbox(), key: l.Submission.Key, fresh: fresh}
	r.take(l)
	return r
}

// take makes a lease the run's work.
func (r *run) take(l submission.Lease) {
	r.fence, r.sub, r.leaseHead, r.eventHead, r.executor = l.Fence, l.Submission, l.EntryHead, l.EventHead, l.Executor
	r.calls, r.live, r.stop, r.next, r.settled = nil, map[string]*liveCall{}, nil, nil, false
	r.stopped, r.forced, r.begun = time.Time{}, l.Forced, time.Now()
	r.outbox = outbox{}
	if l.Submission.AbortRequested {
		r.aborted.Store(r.sub.ID)
	}
	if r.conversation == nil {
		r.conversation = r.worker.cache.take(l.Fence.SessionID)
	}
}

func (r *run) id() string { return r.fence.SessionID }

// drive runs the lane's submissions until it is idle, handed back or lost.
func (r *run) drive(ctx context.Context, drain <-chan struct{}) error {
	r.drain = drain
	for {
		r.share++
		if err := r.submission(ctx); err != nil {
			if errors.Is(err, errHandedOver) {
				return nil
			}
			return err
		}
		if r.next == nil {
			r.worker.cache.put(r.id(), r.conversation)
			return nil
		}
		r.take(*r.next)
	}
}

// submission runs one submission to its settlement.
func (r *run) submission(ctx context.Context) error {
	if r.sub.Stalls >= maxStalls+stallsToStop {
		return r.giveUp(ctx)
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if r.deadline != nil {
		defer r.deadline.Stop()
	}
	for !r.settled {
		if r.draining() && len(r.outcomes) == 0 {
			return r.handBack(ctx)
		}
		r.checkStop()
		var err error
		switch e := Next(State{Submission: r.sub, Limits: r.def.Limits, Calls: r.calls, Stop: r.stop}).(type) {
		case Begin:
			err = r.begin(ctx)
		case AskModel:
			err = r.ask(ctx)
		case AwaitCalls:
			if e.Stop != nil {
				r.halt(*e.Stop)
			}
			err = r.await(ctx)
		case AppendResults:
			err = r.appendResults(ctx, e.Settle)
		case Settle:
			err = r.settle(ctx, e.Stop)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// giveUp settles a submission of which neither running it nor stopping it works, without looking at anything of it.
func (r *run) giveUp(ctx context.Context) error {
	r.conversation = &conversation{head: r.leaseHead}
	s := stalled(r.sub.Stalls)
	c := submission.Commit{Settle: &submission.Settlement{
		Outcome: s.Outcome, Reason: s.Reason, Message: s.Message,
		Usage: r.sub.Usage,
	}}
	c.Events = []event.Event{r.event(event.Event{Type: event.Settled, Settlement: &event.Settlement{
		Outcome: string(s.Outcome), Reason: s.Reason, Message: s.Message, Usage: r.sub.Usage, Turn: r.sub.Turn,
	}})}
	r.share = fairShare // whatever comes next in the lane begins with a run of its own
	return r.commit(ctx, c)
}

// prepare gathers what the submission runs with: its definition, the conversation, the calls of a turn under way.
func (r *run) prepare(ctx context.Context) error {
	def, err := r.deps.Definitions.Definition(ctx, r.sub.AgentDigest)
	if err == nil {
		r.values, err = def.Env.Expand(r.deps.Lookup)
	}
	if e, answered := errs.Public(err); answered && !outage(err) {
		r.stop = &Stop{submission.Failed, e.Reason(), e.Error()}
	} else if err != nil {
		return fmt.Errorf("reading the agent's definition: %w", err)
	}
	r.def = def
	r.tools = r.deps.Tools.Offer(def.Tools, def.Limits.CallsOfTurn())
	if err := r.conversation.catchUp(ctx, r.deps.Store, r.id(), r.leaseHead); err != nil {
		return err
	}
	r.deadline = nil
	if !r.sub.Deadline.IsZero() {
		r.deadline = time.NewTimer(time.Until(r.sub.Deadline))
	}
	switch {
	case r.sub.Phase == submission.PhaseTools:
		if r.calls, err = r.deps.Store.TurnCalls(ctx, r.id(), r.sub.Seq, r.sub.Turn); err != nil {
			return fmt.Errorf("reading the calls of turn %d: %w", r.sub.Turn, err)
		}
		r.asked = r.tools.Read(r.conversation.answer())
		if err := r.readShown(ctx); err != nil {
			return err
		}
	case r.sub.Phase == submission.PhaseModel && r.sub.Attempts > 0 && !r.forced:
		r.push(r.ownerChanged())
	case r.fresh:
		r.fresh = false
		r.publishStart()
	}
	return nil
}

// ownerChanged says that what was streamed of an answer is void, because its owner did not live, or stay, to end it.
func (r *run) ownerChanged() event.Event {
	return r.event(event.Event{
		Type: event.Restarted, Reason: "owner_changed", Text: "another replica goes on with the submission",
	})
}

// checkStop turns an abort request or a passed deadline into a stop. Whether the deadline of a forced lease has passed
// was for the database's clock to say.
func (r *run) checkStop() {
	switch {
	case r.stop != nil:
	case r.aborted.Load() == r.sub.ID:
		r.halt(*abortStop())
	case r.forced || !r.sub.Deadline.IsZero() && !time.Now().Before(r.sub.Deadline):
		r.halt(*deadlineStop(r.sub.Timeout))
	}
}

// halt makes the submission end, for the first reason that is given.
func (r *run) halt(s Stop) {
	if r.stop == nil {
		if r.forced {
			s.Message += "; the replica that ran it did not end it in time"
		}
		r.stop = &s
	}
	if r.stopped.IsZero() {
		r.stopped = time.Now()
	}
}

// expired is the channel of the deadline's timer; nil blocks for ever.
func (r *run) expired() <-chan time.Time {
	if r.deadline == nil || r.stop != nil {
		return nil
	}
	return r.deadline.C
}

func (r *run) draining() bool {
	select {
	case <-r.drain:
		return true
	default:
		return false
	}
}

// handBack releases the lane with the submission as far as it is; nothing is charged.
func (r *run) handBack(ctx context.Context) error {
	if err := r.flush(ctx); err != nil {
		return err
	}
	r.release(ctx)
	return errHandedOver
}

// release gives the lane back. Failing to is no loss: it goes with this process, or the worker finds that it has no
// run.
func (r *run) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	if err := r.deps.Store.Release(ctx, r.fence); err != nil && !errors.Is(err, submission.ErrFenced) {
		r.deps.Log.Warn("handing a lane back failed", "session_id", r.id(), "error", err)
		return
	}
	r.deps.Hints.Notify(r.id())
}

// outage reports whether err says that the database could not answer, rather than what it answered. Stores mark such
// errors as temporary.
func outage(err error) bool { return errs.Temporary(err) || errors.Is(err, context.DeadlineExceeded) }

// abandon gives the lane back after the run has met err, until it is given back or lost: a lane whose owner lives and
// has no run for it would stay so. For whom the lane is lost, this is without effect.
func (r *run) abandon(ctx context.Context, err error) {
	give := r.deps.Store.Release
	wait := retryAfter
	if !outage(err) && !errors.Is(err, submission.ErrFenced) {
		// The next owner may meet the same error each time: a panic, a row that cannot be read, an executor that
		// refuses.
		give = r.deps.Store.ReleaseStalled
		wait <<= min(r.sub.Stalls, maxStallShift)
	}
	for ctx.Err() == nil {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = retryAfter
		attempt, cancel := context.WithTimeout(ctx, releaseLimit)
		err := contain.Do(func() error { return give(attempt, r.fence) })
		cancel()
		if err == nil || errors.Is(err, submission.ErrFenced) {
			r.deps.Hints.Notify(r.id())
			r.worker.Wake()
			return
		}
		r.deps.Log.Warn("handing a lane back failed, trying again", "session_id", r.id(), "error", err)
	}
}
