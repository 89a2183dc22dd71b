package runner

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/run/fetch"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// errGivenUp is why calls of a step cannot be made anew that nobody goes on with.
var errGivenUp = errors.New("the step cannot be gone on with")

// givenUp makes what ends a step that an owner before has begun, and that this one cannot go on with: a secret, an
// agent or a tool is gone. why is what a step comes to that has not begun. The mutex is held.
func (a *attempt) givenUp(do drive.Do, why drive.Outcome) *work {
	w := &work{attempt: a, do: do, above: make(chan struct{}), began: time.Now()}
	w.carry = func(ctx context.Context) (drive.Outcome, error) { return w.giveUp(ctx, why) }
	return a.add(w)
}

// giveUp ends the call of the present try. Nobody knows what has come of one that must not be repeated, unless it never
// ran.
func (w *work) giveUp(ctx context.Context, why drive.Outcome) (drive.Outcome, error) {
	once := false
	if q, ok := w.do.Step.Do.(*workflow.HTTP); ok {
		once = fetch.Safety(q) == workflow.AtMostOnce
	} else if w.present() != nil {
		w.Stop()
		if err := w.ended(ctx); err != nil {
			return why, err
		}
		c := w.present()
		f, failed := c.Result().(tool.Failure)
		once = c.Safety == tool.AtMostOnce && (!failed || f.Reason == tool.ReasonInterrupted)
	}
	if !once || why.Failed == nil {
		return why, nil
	}
	return drive.Outcome{State: step.Unknown, Failed: &step.Failure{
		Reason: drive.ReasonUnknown, Message: "the step had begun, and could not be gone on with: " +
			why.Failed.Message,
	}}, nil
}
