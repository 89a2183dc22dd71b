package runner

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// cleanUp is how long what is left after a run has to end may take, before it is made to end itself: the rest of
// lane.RunGrace is for that.
const cleanUp = lane.RunGrace - time.Minute

// root is the strand that waits for all that no other strand waits for, and ends the run.
type root struct {
	*turn.Strand
	*attempt
	kit     turn.Kit
	effects []drive.Effect // that were there when the run was taken
}

func newRoot(a *attempt) *root {
	r := &root{attempt: a}
	r.kit.Env = func(*tool.Tool) map[string]*string { return nil }
	r.Strand = turn.NewStrand(a.Lane, r, turn.Who{LoopID: a.row.ID, SessionID: a.row.SessionID}, &r.kit)
	return r
}

// work goes on until the run has ended, or its lane rests or is left.
func (r *root) work(ctx context.Context) error {
	if r.broken != nil {
		return r.conclude(ctx, *r.broken)
	}
	if err := r.open(); err != nil {
		return err
	}
	for !r.Leaving() {
		r.Look()
		until, waits, err := r.round(ctx)
		if err != nil {
			return err
		}
		switch end, settled := r.over(); {
		case settled:
			return nil
		case end != nil:
			return r.conclude(ctx, *end)
		}
		if err := r.Idle(ctx, until, waits); err != nil {
			return err
		}
	}
	if _, settled := r.over(); settled {
		return nil
	}
	if err := r.Flush(); err != nil {
		return err
	}
	return turn.ErrLeft
}

// open does what the machine wants from its beginning.
func (r *root) open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := lane.Step{}
	if r.opened && r.Head().TakenOver {
		s.Events = append(s.Events, r.event(event.RunResumes(r.attempt.run.Workflow, r.attempt.run.Digest,
			r.attempt.run.Attempt)))
	}
	return r.advanceWith(r.Strand, s, r.effects)
}

// round looks at all that the run waits for. until is when the next look is due at the latest, zero for never; waits is
// what is told when the lane rests until then.
func (r *root) round(ctx context.Context) (until time.Time, waits event.Event, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil || r.ahead != nil {
		return until, waits, r.ahead
	}
	if err := r.stop(); err != nil {
		return until, waits, err
	}
	if err := r.due(); err != nil {
		return until, waits, err
	}
	again, err := r.look(ctx)
	if err != nil {
		return until, waits, err
	}
	until = earlier(again, r.nextStop())
	for _, at := range r.times {
		until = earlier(until, at)
	}
	return until, r.event(r.rests()), nil
}

// over is what the run has come to, nil while it goes on, and whether that is committed.
func (r *root) over() (end *ended, settled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end, r.settled
}

// stop tells the machine that the run has to end, and that what is left then takes too long.
func (r *root) stop() error {
	if r.stops == 0 && turn.Closed(r.Lane.Over()) || r.stops == 1 && !r.nextStop().After(time.Now()) {
		r.stops++
		r.Late()
		r.machine.Stop(r.why())
		return r.advance(r.Strand, lane.Step{})
	}
	return nil
}

// nextStop is when the machine is to be told again, zero for never. The end of the head is heard of by itself.
func (r *root) nextStop() (at time.Time) {
	if r.stops == 1 {
		at = time.Now().Add(r.Owner().Ends().In + cleanUp)
	}
	return at
}

// due tells the machine of the times that have come.
func (r *root) due() error {
	for {
		now := time.Now()
		path := ""
		for one, at := range r.times {
			if !at.After(now) && (path == "" || at.Before(r.times[path]) || at.Equal(r.times[path]) && one < path) {
				path = one
			}
		}
		if path == "" {
			return nil
		}
		delete(r.times, path)
		r.machine.Due(path, now)
		if err := r.advance(r.Strand, lane.Step{}); err != nil {
			return err
		}
	}
}

// rests is what is told of a run whose steps all wait: the one of them that began first.
func (r *root) rests() event.Event {
	rec := step.Record{State: step.Started, Wait: step.Never}
	for _, w := range r.waits {
		if rec.Ord == 0 || w.do.Ord < rec.Ord {
			rec = step.Record{
				Ord: w.do.Ord, Path: w.do.Path, Kind: w.do.Step.Kind, Try: w.do.Try, Ref: w.ref, State: step.Started,
				Wait: step.Never,
			}
		}
	}
	var first time.Time
	for path, at := range r.times {
		if path == rec.Path || rec.Ord == 0 && (first.IsZero() || at.Before(first)) {
			first, rec.Path, rec.Wait = at, path, time.Until(at)
		}
	}
	return event.StepWaits(rec)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// sign says whose steps are: all strands of the run write for the attempt, whose conversation has no entries.
func (a *attempt) sign(s *lane.Step) {
	s.LoopID, s.SessionID, s.EntryHead = a.row.ID, a.row.SessionID, a.row.EntryHead
}

// stalled clears the stalls of the attempt.
func (a *attempt) stalled() *lane.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.row.Stalls == 0 {
		return nil
	}
	a.row.Stalls = 0
	return a.progress()
}

// Turn implements turn.User, as do the methods that follow. The root makes no calls.
func (r *root) Turn() int { return 0 }

func (r *root) Sign(s *lane.Step) { r.sign(s) }

func (r *root) Wrote(lane.Step, lane.Committed) error { return nil }

func (r *root) Stalled() *lane.Progress { return nil }

func (r *root) Read(context.Context) error { return nil }

func (r *root) Request(context.Context, *turn.Call) (tool.Asked, error) {
	return tool.Asked{}, errNoCalls
}

func (r *root) Recall(context.Context) error { return nil }

func (r *root) Unreadable(error) bool { return false }

func (r *root) TaskEnded() {}

func (r *root) Begin(context.Context, *turn.Call, tool.Asked) (time.Time, tool.Reply, error) {
	return time.Time{}, nil, errNoCalls
}

var errNoCalls = errors.New("a run itself makes no calls")
