package runner

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/ask"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

const (
	// lookEvery is how often the root looks at what posts no mail to the run: runs that somebody else has started.
	lookEvery = 5 * time.Second
	// endsWithin is how long a step that is to end waits for the end of what it has started.
	endsWithin = 30 * time.Second
	// maxNested is how deep runs start runs.
	maxNested = 16
)

var errNested = errs.New(errs.FailedPrecondition, "RUNS_NESTED",
	fmt.Sprintf("runs have started one another %d deep, and no deeper is possible", maxNested))

// wait is a step that waits for somebody else: a signal, another run, a submission.
type wait struct {
	do        drive.Do
	request   any // of package drive
	began     time.Time
	ref       string    // the run, or the submission, that it has started; "" before that
	foreign   bool      // somebody else has started that: its end posts no mail
	cancelled time.Time // when it was to end, zero while it goes on
	asked     bool      // that what it has started was asked to end
}

// look looks at all that the run waits for, and ends the steps whose wait is over. again is when to look at the latest,
// though nothing comes; zero is never. The mutex is held.
func (r *root) look(ctx context.Context) (again time.Time, err error) {
	var signals []step.Signal
	read := false
	for {
		w, o, taken, err := r.first(ctx, func() ([]step.Signal, error) {
			if !read {
				if signals, err = r.Store.Untaken(ctx, r.attempt.run.ID); err != nil {
					return nil, fmt.Errorf("reading signals: %w", err)
				}
				read = true
			}
			return signals, nil
		})
		if err != nil || w == nil {
			return r.lookAgain(), err
		}
		s := lane.Step{}
		if taken != nil {
			s.Taken = append(s.Taken, step.Taken{Seq: taken.Seq, Path: w.do.Path})
			signals = slices.DeleteFunc(signals, func(one step.Signal) bool { return one.Seq == taken.Seq })
		}
		o.Took = time.Since(w.began)
		delete(r.waits, w.do.Path)
		r.machine.Ended(w.do.Path, *o)
		if err := r.advance(r.Strand, s); err != nil {
			return again, err
		}
	}
}

// first is the first step, in the order in which they began, whose wait is over, and the signal that it takes.
func (r *root) first(ctx context.Context, signals func() ([]step.Signal, error)) (
	w *wait, o *drive.Outcome, taken *step.Signal, err error,
) {
	all := make([]*wait, 0, len(r.waits))
	for _, w := range r.waits {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *wait) int { return a.do.Ord - b.do.Ord })
	for _, w := range all {
		switch q := w.request.(type) {
		case drive.Signal:
			o, taken, err = r.signal(w, q, signals)
		case drive.Workflow:
			o, err = r.child(ctx, w, q)
		case drive.Dispatch:
			o, err = r.dispatch(ctx, w, q)
		}
		if o != nil || err != nil {
			return w, o, taken, err
		}
	}
	return nil, nil, nil, nil
}

// lookAgain is when to look again at what posts no mail.
func (r *root) lookAgain() (at time.Time) {
	for _, w := range r.waits {
		switch {
		case w.foreign, !w.cancelled.IsZero():
			at = earlier(at, time.Now().Add(lookEvery))
		}
	}
	return at
}

// signal is what a step comes to that waits for a signal.
func (r *root) signal(w *wait, q drive.Signal, signals func() ([]step.Signal, error)) (
	*drive.Outcome, *step.Signal, error,
) {
	if !w.cancelled.IsZero() {
		o := stopped()
		o.Output = map[string]any{"at": time.Now().UTC().Format(time.RFC3339Nano)} // of the timeout
		return &o, nil, nil
	}
	all, err := signals()
	if err != nil {
		return nil, nil, err
	}
	for i := range all {
		if all[i].Name == q.Step.Name {
			o := drive.Received(q.Step, all[i])
			return &o, &all[i], nil
		}
	}
	return nil, nil, nil
}

// child is what a step comes to that runs another workflow.
func (r *root) child(ctx context.Context, w *wait, q drive.Workflow) (*drive.Outcome, error) {
	if w.ref == "" {
		if !w.cancelled.IsZero() && !w.do.Again {
			o := stopped()
			return &o, nil
		}
		if o, err := r.startChild(ctx, w, q); o != nil || err != nil {
			return o, err
		}
	}
	if !q.Step.Wait {
		o := ask.Answered(q, ask.Worked{ID: w.ref})
		return &o, nil
	}
	got, err := r.runs.Get(ctx, r.row.Key.Tenant, w.ref)
	if e, answered := errs.Public(err); answered && !lane.Outage(err) {
		return &drive.Outcome{State: step.Unknown, Failed: &step.Failure{
			Reason: drive.ReasonUnknown, Message: "the run that the step waits for cannot be read: " + e.Error(),
		}}, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading run %s: %w", w.ref, err)
	}
	if got.Status.Ended() {
		o := ask.Answered(q, ask.Worked{
			ID: got.ID, Outcome: outcomeOf(got.Status), Data: got.Output, Usage: got.Usage, Reason: got.Reason,
			Message: fmt.Sprintf("run %s of workflow %s: %s", got.ID, got.Workflow, cmp.Or(got.Message, got.Reason)),
		})
		return &o, nil
	}
	return r.leave(w, q.Step.OnCancel == workflow.LeaveChild, "run "+w.ref, func() error {
		_, err := r.runs.Cancel(ctx, r.row.Key.Tenant, w.ref)
		return err
	})
}

// startChild starts the other run, once: its idempotency key is that of the try, unless the step has one.
func (r *root) startChild(ctx context.Context, w *wait, q drive.Workflow) (*drive.Outcome, error) {
	input, err := rawjson.Encode(q.With)
	if q.With == nil {
		input, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("encoding the input of a run: %w", err)
	}
	in := run.Input{
		Tenant: r.row.Key.Tenant, Workflow: q.Step.Name, Input: input, IdempotencyKey: cmp.Or(q.Key, r.once(w)),
		Parent: &run.Parent{RunID: r.attempt.run.ID, Path: w.do.Path, Keep: q.Step.OnCancel == workflow.LeaveChild},
	}
	if q.Step.Wait {
		in.Wakes = r.row.LaneID
	}
	if err := r.nested(ctx); err != nil {
		return refusal(err)
	}
	got, err := r.runs.Start(ctx, in)
	if err != nil {
		return refusal(err)
	}
	p := got.Run.Parent
	w.ref, w.foreign = got.Run.ID, got.Replayed && (p == nil || p.RunID != r.attempt.run.ID)
	return nil, r.refer(w)
}

// nested refuses another run below too many: workflows that start themselves end so.
func (r *root) nested(ctx context.Context) error {
	above := r.attempt.run.Parent
	for range maxNested {
		if above == nil {
			return nil
		}
		up, err := r.runs.Get(ctx, r.row.Key.Tenant, above.RunID)
		if errors.Is(err, run.ErrNotFound) {
			return nil // it was deleted, and all above it
		} else if err != nil {
			return fmt.Errorf("reading the run above: %w", err)
		}
		above = up.Parent
	}
	return errNested
}

// dispatch is what a step comes to that gives an agent's session a message.
func (r *root) dispatch(ctx context.Context, w *wait, q drive.Dispatch) (*drive.Outcome, error) {
	if w.ref == "" {
		if !w.cancelled.IsZero() && !w.do.Again {
			o := stopped()
			return &o, nil
		}
		in := ask.Dispatch(q, r.row.Key.Tenant, r.attempt.run.ID)
		in.IdempotencyKey = r.once(w)
		if q.Step.Wait {
			in.Wakes = r.row.LaneID
		}
		got, err := r.submissions.Submit(ctx, in)
		if err != nil {
			return refusal(err)
		}
		w.ref = got.Submission.ID
		if err := r.refer(w); err != nil {
			return nil, err
		}
	}
	if !q.Step.Wait {
		o := ask.Answered(q, ask.Worked{ID: w.ref})
		return &o, nil
	}
	sub, err := r.submissions.Get(ctx, r.row.Key.Tenant, w.ref)
	if e, answered := errs.Public(err); answered && !lane.Outage(err) {
		return &drive.Outcome{State: step.Unknown, Failed: &step.Failure{
			Reason: drive.ReasonUnknown, Message: "what the step waits for cannot be read: " + e.Error(),
		}}, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading submission %s: %w", w.ref, err)
	}
	if sub.Status == submission.SettledStatus {
		o := ask.Answered(q, ask.Worked{
			ID: sub.ID, Outcome: sub.Outcome, Text: sub.Text, Data: sub.Data, Session: sub.Key.Name, Usage: sub.Usage,
			Reason: sub.Reason, Message: sub.Message, Cancellation: sub.Cancellation,
		})
		return &o, nil
	}
	return r.leave(w, false, "submission "+w.ref, func() error {
		_, err := r.submissions.Abort(ctx, r.row.Key.Tenant, w.ref)
		return err
	})
}

// leave is what a step comes to whose other work goes on: nothing while the step waits for that. A step that is to end
// asks the other to end, and waits for its end for a while.
func (r *root) leave(w *wait, keep bool, what string, end func() error) (*drive.Outcome, error) {
	switch {
	case w.cancelled.IsZero():
		return nil, nil
	case keep:
		o := stopped()
		return &o, nil
	case !w.asked:
		if err := end(); lane.Outage(err) {
			return nil, fmt.Errorf("asking %s to end: %w", what, err)
		} else if err != nil { // it may end all the same
			r.log().Warn("what a step has started cannot be asked to end", "run_id", r.row.LaneID, "step", w.do.Path,
				"error", err)
		}
		w.asked = true
		return nil, nil
	case time.Since(w.cancelled) < endsWithin:
		return nil, nil
	}
	return &drive.Outcome{State: step.Cancelled, Failed: &step.Failure{
		Reason: drive.ReasonUnconfirmed, Message: what + " was asked to end, and has not ended yet",
	}}, nil
}

// refer records what carries a step out.
func (r *root) refer(w *wait) error {
	rec := r.machine.Refer(w.do.Path, w.ref)
	rec.Wait, rec.At = step.Never, time.Time{}
	if at, ok := r.times[w.do.Path]; ok {
		rec.Wait = time.Until(at)
	}
	return r.Commit(lane.Step{
		Records: []step.Record{rec}, Events: []event.Event{r.event(event.StepWaits(rec))},
	}, lane.With{})
}

// once is the idempotency key of a try of a step.
func (r *root) once(w *wait) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", r.row.ID, w.do.Path, w.do.Try))
	return "run:" + r.attempt.run.ID + ":" + hex.EncodeToString(sum[:16])
}

// refusal is the outcome of a step that somebody refuses, or the error of one that is tried again.
func refusal(err error) (*drive.Outcome, error) {
	if o, ok := ask.Failed(err); ok && !lane.Outage(err) {
		return &o, nil
	}
	return nil, err
}

// outcomeOf is how the present attempt of a run has ended.
func outcomeOf(s run.Status) lane.Outcome {
	switch s {
	case run.Completed:
		return lane.Completed
	case run.Cancelled:
		return lane.Aborted
	case run.Expired:
		return lane.Expired
	case run.Interrupted:
		return lane.Interrupted
	case run.Failed, run.Queued, run.Active:
	}
	return lane.Failed
}
