package turn

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
)

const (
	flushWatched   = 50 * time.Millisecond
	flushUnwatched = 500 * time.Millisecond
	flushBytes     = 16 << 10
)

// outbox is what waits for the strand's next step.
type outbox struct {
	pending []event.Event // deltas and output, in order
	growing growingDelta  // the last of them, which may grow
	bytes   int
	since   time.Time // of the oldest pending event
	results []ack     // to acknowledge after the commit
	notes   []approval.Note
	output  map[outputKey]ack
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

// Event fills in what all events of the strand have in common.
func (t *Strand) Event(e event.Event) event.Event {
	e.Time, e.SubmissionID, e.Turn, e.Loop = time.Now(), t.who.LoopID, t.user.Turn(), t.who.Task
	return e
}

// Push has an event written with the next step, or soon.
func (t *Strand) Push(e event.Event) {
	if !t.hasPending() {
		t.out.since = time.Now()
	}
	t.closeDelta()
	t.out.pending = append(t.out.pending, e)
}

// hasPending reports whether there is something to commit.
func (t *Strand) hasPending() bool { return len(t.out.pending) > 0 || len(t.out.growing.text) > 0 }

// Watched reports whether somebody wants the strand's deltas as they come.
func (t *Strand) Watched() bool {
	if t.who.Task == nil {
		return t.lane.deps.Watchers.Watched(t.lane.key)
	}
	return t.lane.deps.Watchers.WatchedTask(t.lane.key, t.who.Task.Task)
}

// FlushDue is when what waits has to be committed; ok is false when nothing waits.
func (t *Strand) FlushDue() (in time.Duration, ok bool) {
	if !t.hasPending() {
		return 0, false
	}
	if t.out.bytes >= flushBytes {
		return 0, true
	}
	limit := flushUnwatched
	if t.Watched() {
		limit = flushWatched
	}
	return time.Until(t.out.since.Add(limit)), true
}

// Flush commits what waits.
func (t *Strand) Flush() error {
	if !t.hasPending() {
		return nil
	}
	return t.Commit(lane.Step{}, lane.With{})
}

// Commit writes a step with everything that waits, and sends the acknowledgements that it allows. call.ErrEnded: see
// Reconsider.
func (t *Strand) Commit(s lane.Step, with lane.With) error {
	_, err := t.commitWith(s, with)
	return err
}

// commitWith is Commit, and tells what became of the lane.
func (t *Strand) commitWith(s lane.Step, with lane.With) (lane.Committed, error) {
	t.user.Sign(&s)
	t.closeDelta()
	own := s
	s = t.outgoing(own)
	done, err := t.lane.owner.CommitWith(s, with)
	for errors.Is(err, approval.ErrDecided) {
		if err = t.decidedMeanwhile(t.lane.head.ctx); err == nil {
			s = t.outgoing(own)
			done, err = t.lane.owner.CommitWith(s, with)
		}
	}
	if err != nil {
		return done, err
	}
	t.out.pending, t.out.bytes, t.out.notes = nil, 0, nil
	if len(s.Outcomes) > 0 {
		t.turn.last = nil
	}
	t.log(s)
	if err := t.user.Wrote(s, done); err != nil {
		return done, err
	}
	t.acknowledge()
	t.lane.hear(done.Mail)
	return done, nil
}

// outgoing is a step with everything that waits.
func (t *Strand) outgoing(s lane.Step) lane.Step {
	s.Events = append(t.out.pending, s.Events...)
	s.Noted = t.out.notes
	t.showing(&s)
	return s
}

// acknowledge tells executors what is durable. An acknowledgement that gets lost is repeated when the executor repeats
// its news.
func (t *Strand) acknowledge() {
	for _, a := range t.out.output {
		t.send(a.executor, a.message)
	}
	t.out.output = nil
	if t.turn.last != nil {
		return // a result is acknowledged after the commit that has it (C2)
	}
	for _, a := range t.out.results {
		t.send(a.executor, a.message)
	}
	t.out.results = nil
}

func (t *Strand) send(executor string, m call.Message) bool {
	err := t.lane.deps.Executors.Send(t.lane.head.ctx, executor, m)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.lane.deps.Log.Debug("sending to an executor failed", "executor_id", executor, "error", err)
	}
	return err == nil
}
