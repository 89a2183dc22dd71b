package turn

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const (
	flushWatched   = 50 * time.Millisecond
	flushUnwatched = 500 * time.Millisecond
	flushBytes     = 16 << 10
)

// outbox is what waits for the next commit.
type outbox struct {
	pending   []event.Event // deltas and output, in order
	growing   growingDelta  // the last of them, which may grow
	bytes     int
	since     time.Time      // of the oldest pending event
	outcomes  []call.Outcome // the last ended call of the turn, whose entries are about to be committed
	undecided call.Call      // that call as it was before
	results   []ack          // to acknowledge after the commit
	output    map[outputKey]ack
}

// ack is an acknowledgement that a commit allows.
type ack struct {
	executor string
	message  call.Message
}

type outputKey struct {
	callID string
	stderr bool
}

// event fills in what all events of the submission have in common.
func (r *run) event(e event.Event) event.Event {
	e.Time, e.SubmissionID, e.Turn = time.Now(), r.sub.ID, r.sub.Turn
	return e
}

func (r *run) push(e event.Event) {
	if !r.hasPending() {
		r.since = time.Now()
	}
	r.closeDelta()
	r.pending = append(r.pending, e)
}

// hasPending reports whether there is something to commit.
func (r *run) hasPending() bool { return len(r.pending) > 0 || len(r.growing.text) > 0 }

// flushDue is when what waits has to be committed; ok is false when nothing waits.
func (r *run) flushDue() (in time.Duration, ok bool) {
	if !r.hasPending() {
		return 0, false
	}
	if r.bytes >= flushBytes {
		return 0, true
	}
	limit := flushUnwatched
	if r.deps.Events.Watched(r.key) {
		limit = flushWatched
	}
	return time.Until(r.since.Add(limit)), true
}

// flush commits what waits.
func (r *run) flush(ctx context.Context) error {
	if !r.hasPending() {
		return nil
	}
	return r.commit(ctx, submission.Commit{})
}

// dropText forgets deltas that need not be stored, because they are void, or because the coming entry holds them in
// full and nobody watches.
func (r *run) dropText() {
	r.growing.clear()
	keep := r.pending[:0]
	for _, e := range r.pending {
		if e.Type != event.Text && e.Type != event.Thinking {
			keep = append(keep, e)
		}
	}
	r.pending = keep
	r.bytes = 0
}

// entry makes the next entry of the commit that c will be.
func (r *run) entry(c *submission.Commit, kind session.Kind, m model.Message) session.Entry {
	e := session.Entry{
		Seq: r.conversation.head + int64(len(c.Entries)) + 1, SubmissionID: r.sub.ID, Kind: kind, Message: m,
		// as the stores keep it: live watchers see what later ones read
		CreatedAt: time.Now().Truncate(time.Microsecond),
	}
	c.Entries = append(c.Entries, e)
	t := event.EntryAdded
	if kind == session.Input {
		t = event.Started
	}
	c.Events = append(c.Events, r.event(event.Event{Type: t, EntrySeq: e.Seq, Entry: &e}))
	return e
}

// commit writes one step with everything that waits, publishes its events and sends the acknowledgements that it
// allows. It tries again while the database is away: the lane stays ours, and a step that was written without our
// hearing of it is recognised.
func (r *run) commit(ctx context.Context, c submission.Commit) error {
	c.Fence, c.SubmissionSeq, c.EntryHead, c.EventHead = r.fence, r.sub.Seq, r.conversation.head, r.eventHead
	r.closeDelta()
	c.Events = append(r.pending, c.Events...)
	for i := range c.Events {
		c.Events[i].Seq = r.eventHead + int64(i) + 1
	}
	done, err := backoff.Retry(ctx, func() (submission.Committed, error) { return r.try(ctx, c) },
		backoff.WithBackOff(&backoff.ExponentialBackOff{
			InitialInterval:     50 * time.Millisecond,
			RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 5 * time.Second,
		}),
		backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	r.applied(c, done)
	r.deps.Events.Publish(r.key, c.Events)
	r.log(ctx, c)
	r.acknowledge(ctx)
	return nil
}

func (r *run) try(ctx context.Context, c submission.Commit) (submission.Committed, error) {
	done, err := r.deps.Store.Commit(ctx, c)
	if err == nil {
		return done, nil
	}
	if !outage(err) || ctx.Err() != nil {
		return done, backoff.Permanent(err)
	}
	r.deps.Log.Warn("committing a step failed, trying again", "session_id", r.id(), "submission_id", r.sub.ID, "error",
		err)
	return done, err
}

// applied brings the run up to its commit.
func (r *run) applied(c submission.Commit, done submission.Committed) {
	for _, e := range c.Entries {
		r.conversation.add(e)
	}
	if len(c.Entries) > 0 || c.Progress != nil {
		r.sub.Stalls = 0
	}
	r.eventHead += int64(len(c.Events))
	r.pending, r.bytes = nil, 0
	if len(c.Outcomes) > 0 {
		r.outcomes = nil
	}
	if p := c.Progress; p != nil {
		r.sub.Phase, r.sub.Turn, r.sub.Usage = p.Phase, p.Turn, p.Usage
		if p.InputEntry > 0 {
			r.sub.InputEntry, r.sub.Input = p.InputEntry, nil
		}
	}
	if c.Executor != "" {
		r.executor = c.Executor
	}
	if done.AbortRequested {
		r.aborted.Store(r.sub.ID)
	}
	if c.Settle == nil {
		return
	}
	r.settled, r.next = true, done.Next
	if done.Ready {
		r.worker.Wake()
	}
	r.deps.Hints.Notify(r.id())
}

// acknowledge tells executors what is durable. An acknowledgement that gets lost is repeated when the executor repeats
// its news.
func (r *run) acknowledge(ctx context.Context) {
	for _, a := range r.output {
		r.send(ctx, a.executor, a.message)
	}
	r.output = nil
	if len(r.outcomes) > 0 {
		return // a result is acknowledged after the commit that has it (C2)
	}
	for _, a := range r.results {
		r.send(ctx, a.executor, a.message)
	}
	r.results = nil
}

func (r *run) send(ctx context.Context, executor string, m call.Message) bool {
	err := r.deps.Executors.Send(ctx, executor, m)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.deps.Log.Debug("sending to an executor failed", "executor_id", executor, "error", err)
	}
	return err == nil
}
