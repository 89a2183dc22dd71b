package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run/ask"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// work is a step in flight that a strand carries out: with calls, of which each try of the step makes its own, or with
// a request. What the step asks for is the same for each owner.
type work struct {
	*turn.Strand
	*attempt
	do      drive.Do
	request any // of package drive
	kit     turn.Kit
	asked   tool.Asked         // the call of the step; that of a prompt is made by prompt.go
	before  []tool.Asked       // calls that come before it
	vars    map[string]*string // of the commands of that call
	agent   ask.Work           // of a step that an agent carries out
	carry   func(ctx context.Context) (drive.Outcome, error)
	above   chan struct{} // closed when the step is to end
	began   time.Time
}

// take makes what carries out a step: a strand, which the caller adds and sets to work, or, when that is nil, the root
// waits for what ends the step. failed is what the step comes to if it cannot be carried out. The mutex is held.
func (a *attempt) take(do drive.Do) (w *work, failed *drive.Outcome, err error) {
	request, err := a.machine.Request(do.Path, a.secrets)
	if err != nil {
		return nil, a.refused(err), nil
	}
	switch request.(type) {
	case drive.Signal, drive.Workflow, drive.Dispatch:
		w := &wait{do: do, request: request, began: time.Now(), ref: a.machine.Ref(do.Path)}
		if q, ok := request.(drive.Workflow); ok {
			w.foreign = w.ref != "" && q.Key != "" // it may be
		}
		a.waits[do.Path] = w
		return nil, nil, nil
	}
	w = &work{attempt: a, do: do, request: request, above: make(chan struct{}), began: time.Now()}
	switch q := request.(type) {
	case drive.HTTP:
		w.carry = func(ctx context.Context) (drive.Outcome, error) { return w.fetch(ctx, q) }
	case drive.Approve:
		w.carry, err = w.decided, w.approval(q)
	case drive.Prompt, drive.Skill:
		w.carry, err = w.answered, w.prompt()
	default:
		w.carry, err = w.called, w.call()
	}
	if err != nil {
		if failed, ok := ask.Failed(err); ok {
			return nil, &failed, nil
		}
		return nil, nil, fmt.Errorf("step %s: %w", do.Path, err)
	}
	return a.add(w), nil, nil
}

// add gives a step in flight its strand.
func (a *attempt) add(w *work) *work {
	w.kit.Secrets = a.hidden
	w.kit.Env = func(*tool.Tool) map[string]*string { return w.vars }
	w.Strand = turn.NewStrand(a.Lane, w, turn.Who{
		LoopID: a.row.ID, SessionID: a.row.SessionID, Parent: a.root.Strand, Above: w.above, Late: true,
	}, &w.kit)
	a.works[w.do.Path] = w
	return w
}

// refused is the outcome of a step whose expressions cannot be evaluated. What these say may be of secrets.
func (a *attempt) refused(err error) *drive.Outcome {
	clean := tool.NewCleaner(a.hidden)
	f := &step.Failure{Reason: drive.ReasonExpression, Message: clean.Text(err.Error())}
	for _, name := range a.missing {
		f.Message += fmt.Sprintf(" (secrets.%s has no value: the control plane has no variable %[1]s)", name)
	}
	return &drive.Outcome{State: step.Failed, Failed: f}
}

// job is the work of the strand.
func (w *work) job() turn.Job { return turn.Job{Strand: w.Strand, Work: w.work} }

// work carries the step out and has the run go on.
func (w *work) work(ctx context.Context) error {
	o, err := w.carry(ctx)
	if err != nil {
		return err
	}
	return w.finish(o)
}

// cancel has the step end. The mutex is held.
func (w *work) cancel() {
	if !turn.Closed(w.above) {
		close(w.above)
	}
}

// finish tells what the step has come to, in the commit that has the outcome of its call.
func (w *work) finish(o drive.Outcome) error {
	switch c := w.present(); {
	case o.Took != 0:
	case c != nil: // an owner before may have made it
		o.Took = time.Since(c.Made())
	default:
		o.Took = time.Since(w.began)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := lane.Step{}
	last := w.Last()
	if last != nil {
		// The record of a step that has completed holds all of it.
		s.ForgetReplies = o.State == step.Completed
		w.AddLast(&s, o.State != step.Completed)
		if s.ForgetReplies && last.Kind == uint8(tool.KindExecutor) {
			s.Shown = append(s.Shown, call.Shown{CallID: last.ID, Stdout: call.Told, Stderr: call.Told})
		}
		s.ForgetReplies = false
	}
	if c := w.present(); c != nil && c.Usage() != (model.Usage{}) {
		w.usage = w.usage.Add(c.Usage())
		s.Progress = w.progress()
	}
	delete(w.works, w.do.Path)
	w.machine.Ended(w.do.Path, o)
	if err := w.advance(w.Strand, s); err != nil {
		return err
	}
	w.Finish(last)
	return nil
}

// present is the call of the step's present try; nil for none.
func (w *work) present() *turn.Call {
	calls := w.Calls()
	if n := len(calls); n > 0 && calls[n-1].Index == w.index() {
		return calls[n-1]
	}
	return nil
}

// index is that of the call of the present try among all calls of the step.
func (w *work) index() int { return w.do.Try*(len(w.before)+1) - 1 }

// calling makes the call of the present try, unless an owner before has, and waits until it has ended: nil if the step
// was to end before it was made. approve completes the step that makes it.
func (w *work) calling(ctx context.Context, approve func(c *call.Call, s *lane.Step) error) (*turn.Call, error) {
	if w.present() == nil {
		if w.Ends() {
			return nil, nil
		}
		if w.Leaving() {
			return nil, turn.ErrLeft
		}
		c, err := w.Make(w.index(), w.asked, 0)
		if err != nil {
			return nil, err
		}
		s := lane.Step{}
		if approve != nil {
			if err := approve(&c, &s); err != nil {
				return nil, err
			}
		}
		s.Calls = append(s.Calls, c)
		if err := w.Start(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := w.ended(ctx); err != nil {
		return nil, err
	}
	return w.present(), nil
}

// ended waits until all calls of the turn have ended. What is said to be lost may be known elsewhere by then: that
// counts, and is asked for before anything follows.
func (w *work) ended(ctx context.Context) error {
	for {
		if err := w.await(ctx); err != nil {
			return err
		}
		if last := w.Last(); last == nil || last.State != call.Lost {
			return nil
		}
		s := lane.Step{}
		w.AddLast(&s, true)
		switch err := w.Commit(s, lane.With{}); {
		case err == nil:
			return nil
		case !errors.Is(err, call.ErrEnded):
			return err
		}
		if err := w.Reconsider(ctx); err != nil {
			return err
		}
	}
}

// await waits until all calls of the turn have ended.
func (w *work) await(ctx context.Context) error {
	for w.Open() > 0 {
		if err := w.Await(ctx); err != nil {
			return err
		}
		switch {
		case w.Open() == 0:
		case w.Leaving():
			if err := w.Flush(); err != nil {
				return err
			}
			return turn.ErrLeft
		case w.Ends():
			w.Stop()
		}
	}
	return nil
}

// stopped is the outcome of a step that was to end before it had begun.
func stopped() drive.Outcome { return ask.Stopped(nil) }

// Turn implements turn.User, as do the methods that follow.
func (w *work) Turn() int { return w.do.Ord }

func (w *work) Sign(s *lane.Step) { w.sign(s) }

func (w *work) Wrote(lane.Step, lane.Committed) error { return nil }

func (w *work) Stalled() *lane.Progress { return w.stalled() }

func (w *work) Read(context.Context) error { return nil }

// Request is the same for each owner.
func (w *work) Request(_ context.Context, c *turn.Call) (tool.Asked, error) {
	if w.request == nil {
		return tool.Asked{}, errGivenUp
	}
	if i := c.Index % (len(w.before) + 1); i < len(w.before) {
		return w.before[i], nil
	}
	return w.asked, nil
}

func (w *work) Recall(context.Context) error { return nil }

func (w *work) Unreadable(error) bool { return false }

func (w *work) TaskEnded() {}
