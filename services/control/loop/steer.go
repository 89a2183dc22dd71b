package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	// steersPage is how many inputs that wait to join are read at once: each may have megabytes.
	steersPage = 4
	// maxSteers is how many join between two calls of the model, so that whoever sends many does not keep it from being
	// asked.
	maxSteers = 16
)

// neverLooked is no number of mail.
const neverLooked = -1

// unsteered is the mail of the lane by which nobody can have steered the root: one that begins now has been no running
// head before.
func unsteered(t *tree, row *lane.Loop) int64 {
	if row.Root() && (t.fresh || row.Phase == lane.PhaseAccepted) {
		return t.Head().Mail
	}
	return neverLooked
}

// steers reads inputs that wait to join the submission, if any can have come since the last look. The mail of the lane
// tells that: the owner knows it as of its last commit, or later.
func (l *loop) steers(ctx context.Context, after int64) ([]lane.Steer, error) {
	mail := l.tree.Owner().Mail()
	if !l.root() || l.end.stop != nil || mail == l.steered {
		return nil, nil
	}
	found, err := l.tree.deps.Store.Steers(ctx, l.row.ID, after, steersPage)
	if err != nil {
		return nil, fmt.Errorf("reading the inputs that wait to join the submission: %w", err)
	}
	if len(found) == 0 {
		l.steered = mail
	}
	return found, nil
}

// join appends the inputs that wait to join the submission, between its turns. What joins before the first answer would
// be a second input in a row.
func (l *loop) join(ctx context.Context) error {
	if l.row.Turn < 2 {
		return nil
	}
	after := int64(0)
	for n := 0; n < maxSteers; {
		found, err := l.steers(ctx, after)
		if err != nil || len(found) == 0 {
			return err
		}
		s := lane.Step{}
		for _, one := range found {
			l.steer(&s, one)
		}
		if n, after = n+len(found), found[len(found)-1].Seq; len(s.Joins) == 0 {
			continue
		}
		if err := l.Commit(s, lane.With{}); errors.Is(err, lane.ErrNotQueued) {
			after = 0 // one was withdrawn meanwhile
		} else if err != nil {
			return err
		}
	}
	return nil
}

// inputOf is an input that waits to join. One that cannot be read is left in the queue, where it will fail by itself.
func (l *loop) inputOf(one lane.Steer) (input model.Message, ok bool) {
	if err := json.Unmarshal(one.Input, &input); err != nil {
		l.tree.deps.Log.Warn("an input that waits to join a submission cannot be read", "submission_id", one.ID,
			"error", err)
		return input, false
	}
	return input, true
}

// steer makes an input part of a step, if it can be read.
func (l *loop) steer(s *lane.Step, one lane.Steer) {
	input, ok := l.inputOf(one)
	if !ok {
		return
	}
	e := l.entry(s, session.Input, input)
	n := len(s.Entries) - 1
	s.Entries[n].SubmissionID = one.ID
	s.Events[n] = l.Event(event.Event{
		Type: event.Steered, EntrySeq: e.Seq, Entry: &s.Entries[n], Joined: one.ID,
	})
	s.Joins = append(s.Joins, lane.Join{SubmissionID: one.ID, InputEntry: e.Seq})
}

// goesOn reports whether an answer that asks for no calls is not the last one: somebody has steered the submission, and
// it may ask its model once more. What cannot be read now stays in the queue, and runs by itself.
func (l *loop) goesOn(ctx context.Context) bool {
	next := l.state()
	if next.Loop.Turn++; limit(next) != nil {
		return false
	}
	found, err := l.steers(ctx, 0)
	if err != nil {
		l.tree.deps.Log.Warn("looking for inputs that wait to join a submission failed, leaving them in the queue",
			"submission_id", l.row.ID, "error", err)
	}
	return slices.ContainsFunc(found, func(one lane.Steer) bool {
		_, ok := l.inputOf(one)
		return ok
	})
}

// withdrawn ends a loop that goes on for an input which was withdrawn before it joined: the answer before that is the
// last one. It reports false when there is something to ask the model.
func (l *loop) withdrawn(ctx context.Context) (ended bool, err error) {
	last := l.conversation.last
	if !l.root() || last.Kind != session.Assistant || last.SubmissionID != l.row.ID {
		return false, nil
	}
	if l.structured() {
		return true, l.insist(ctx, lane.Step{Progress: &lane.Progress{Usage: l.row.Usage}}, last)
	}
	l.ending.answer = &answered{entry: last.Seq, text: last.Text()}
	return true, l.finish(lane.Step{}, Stop{Outcome: lane.Completed}, nil)
}
