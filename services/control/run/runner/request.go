package runner

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/run/fetch"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// fetch makes the request of a step. A replica that is to end waits for one that must not be repeated, as long as it
// waits for anything.
func (w *work) fetch(ctx context.Context, q drive.HTTP) (drive.Outcome, error) {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	r := fetch.Request{
		HTTP: q, Key: fetch.Key(w.attempt.run.ID, w.attempt.run.Attempt, w.do.Path), Secrets: w.kit.Secrets,
		Again: w.do.Again,
	}
	leave := w.Leave()
	if fetch.Safety(q.Step) == workflow.AtMostOnce {
		leave = w.Cut()
	}
	done := make(chan drive.Outcome, 1)
	go func() { done <- w.HTTP.Do(within, r) }()
	leaving := false
	select {
	case o := <-done:
		return o, nil
	case <-w.above:
	case <-leave:
		leaving = true
	case <-ctx.Done():
	}
	cancel()
	o := <-done
	switch {
	case ctx.Err() != nil:
		return o, ctx.Err()
	case leaving && o.State == step.Cancelled: // whoever goes on with the run makes the request
		return o, turn.ErrLeft
	}
	return o, nil
}
