package loop

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	flushWatched   = 50 * time.Millisecond
	flushUnwatched = 500 * time.Millisecond
	flushBytes     = 16 << 10
)

// outbox is what waits for the loop's next step.
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

// event fills in what all events of the loop have in common.
func (l *loop) event(e event.Event) event.Event {
	e.Time, e.SubmissionID, e.Turn, e.Loop = time.Now(), l.row.ID, l.row.Turn, l.origin.task
	return e
}

func (l *loop) push(e event.Event) {
	if !l.hasPending() {
		l.out.since = time.Now()
	}
	l.closeDelta()
	l.out.pending = append(l.out.pending, e)
}

// hasPending reports whether there is something to commit.
func (l *loop) hasPending() bool { return len(l.out.pending) > 0 || len(l.out.growing.text) > 0 }

// watched reports whether somebody wants the loop's deltas as they come.
func (l *loop) watched() bool {
	if l.root() {
		return l.tree.deps.Events.Watched(l.tree.key)
	}
	return l.tree.deps.Events.WatchedTask(l.tree.key, l.origin.task.Task)
}

// flushDue is when what waits has to be committed; ok is false when nothing waits.
func (l *loop) flushDue() (in time.Duration, ok bool) {
	if !l.hasPending() {
		return 0, false
	}
	if l.out.bytes >= flushBytes {
		return 0, true
	}
	limit := flushUnwatched
	if l.watched() {
		limit = flushWatched
	}
	return time.Until(l.out.since.Add(limit)), true
}

// flush commits what waits.
func (l *loop) flush() error {
	if !l.hasPending() {
		return nil
	}
	return l.commit(lane.Step{}, lane.With{})
}

// dropText forgets deltas that need not be stored, because they are void, or because the coming entry holds them in
// full and nobody watches.
func (l *loop) dropText() {
	l.out.growing.clear()
	keep := l.out.pending[:0]
	for _, e := range l.out.pending {
		if e.Type != event.Text && e.Type != event.Thinking {
			keep = append(keep, e)
		}
	}
	l.out.pending = keep
	l.out.bytes = 0
}

// entry adds the next entry to a step, and its event.
func (l *loop) entry(s *lane.Step, kind session.Kind, m model.Message) session.Entry {
	m, images := session.Detach(m)
	e := session.Entry{
		Seq: l.row.EntryHead + int64(len(s.Entries)) + 1, SubmissionID: l.row.ID, Kind: kind, Message: m,
		// as the stores keep it: live watchers see what later ones read
		CreatedAt: time.Now().Truncate(time.Microsecond),
	}
	e.Message.Keep = kind == session.Workspace || len(activations(e)) > 0
	stored := e
	stored.Images = images // watchers hold the entry for as long as they like
	s.Entries = append(s.Entries, stored)
	t := event.EntryAdded
	if kind == session.Input {
		t = event.Started
	}
	s.Events = append(s.Events, l.event(event.Event{Type: t, EntrySeq: e.Seq, Entry: &e}))
	l.announce(s, e)
	return e
}

// commit writes a step with everything that waits, and sends the acknowledgements that it allows.
func (l *loop) commit(s lane.Step, with lane.With) error {
	_, err := l.commitWith(s, with)
	return err
}

// commitWith is commit, and tells what became of the lane.
func (l *loop) commitWith(s lane.Step, with lane.With) (lane.Committed, error) {
	s.LoopID, s.SessionID, s.EntryHead = l.row.ID, l.row.SessionID, l.row.EntryHead
	l.closeDelta()
	own := s
	s = l.outgoing(own)
	done, err := l.tree.owner.CommitWith(s, with)
	for errors.Is(err, approval.ErrDecided) {
		if err = l.decidedMeanwhile(l.tree.head.ctx); err == nil {
			s = l.outgoing(own)
			done, err = l.tree.owner.CommitWith(s, with)
		}
	}
	if err != nil {
		return done, err
	}
	if err := l.applied(s, with, done); err != nil {
		return done, err
	}
	l.tree.prefixes.keep(s.Turn)
	l.log(s)
	l.acknowledge()
	l.tree.hear(done.Mail)
	return done, nil
}

// outgoing is a step with everything that waits.
func (l *loop) outgoing(s lane.Step) lane.Step {
	s.Events = append(l.out.pending, s.Events...)
	s.Noted = l.out.notes
	l.showing(&s)
	return s
}

// applied brings the loop up to its step.
func (l *loop) applied(s lane.Step, with lane.With, done lane.Committed) error {
	for _, e := range s.Entries {
		if l.conversation.head != e.Seq-1 {
			break // it is read when it is needed
		}
		if err := l.conversation.add(e); err != nil {
			return err
		}
	}
	l.row.EntryHead += int64(len(s.Entries))
	if l.structured() {
		l.ending.count(s.Entries)
	}
	if len(s.Entries) > 0 || s.Progress != nil || len(s.Outcomes) > 0 {
		l.row.Stalls, l.row.StallCause = 0, ""
	}
	l.out.pending, l.out.bytes, l.out.notes = nil, 0, nil
	if len(s.Outcomes) > 0 {
		l.turn.last = nil
	}
	if p := s.Progress; p != nil {
		l.row.Phase, l.row.Turn, l.row.Usage = p.Phase, p.Turn, p.Usage
		if p.InputEntry > 0 {
			l.row.InputEntry, l.row.Input = p.InputEntry, nil
		}
	}
	if s.Spent != nil {
		l.row.Usage = *s.Spent
	}
	if s.Model != "" {
		l.row.Model = s.Model
	}
	if s.End != nil {
		l.settled = true
		if l.root() {
			l.tree.rest(l, done.Next != nil)
		}
	}
	return nil
}

// acknowledge tells executors what is durable. An acknowledgement that gets lost is repeated when the executor repeats
// its news.
func (l *loop) acknowledge() {
	for _, a := range l.out.output {
		l.send(a.executor, a.message)
	}
	l.out.output = nil
	if l.turn.last != nil {
		return // a result is acknowledged after the commit that has it (C2)
	}
	for _, a := range l.out.results {
		l.send(a.executor, a.message)
	}
	l.out.results = nil
}

func (l *loop) send(executor string, m call.Message) bool {
	err := l.tree.deps.Executors.Send(l.tree.head.ctx, executor, m)
	if err != nil && !errors.Is(err, context.Canceled) {
		l.tree.deps.Log.Debug("sending to an executor failed", "executor_id", executor, "error", err)
	}
	return err == nil
}
