package model

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// TimeoutPolicy bounds one call. Zero fields have defaults.
type TimeoutPolicy struct {
	Idle time.Duration // between two events of the provider, default 60 s; pings are not events
	Call time.Duration // for the whole call, default 30 min
}

func (p TimeoutPolicy) withDefaults() TimeoutPolicy {
	if p.Idle <= 0 {
		p.Idle = time.Minute
	}
	if p.Call <= 0 {
		p.Call = 30 * time.Minute
	}
	return p
}

var (
	errStalled  = errors.New("stalled")
	errDeadline = errors.New("deadline")
)

// Timeouts ends a call of m that falls silent, with KindStalled, or takes too long, with KindDeadline. The time that the consumer
// takes for a part does not count as silence.
func Timeouts(m Model, p TimeoutPolicy) Model {
	return &timeouts{Model: m, policy: p.withDefaults()}
}

type timeouts struct {
	Model
	policy TimeoutPolicy
}

// Stream implements Model.
func (t *timeouts) Stream(parent context.Context, req Request) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		ctx, stop := context.WithTimeoutCause(parent, t.policy.Call, errDeadline)
		defer stop()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		idle := time.AfterFunc(t.policy.Idle, func() { cancel(errStalled) })
		defer idle.Stop()
		for p, err := range t.Model.Stream(ctx, req) {
			idle.Stop()
			if err != nil {
				yield(Part{}, t.translate(ctx, err))
				return
			}
			if p.Type != PartProgress && !yield(p, nil) {
				return
			}
			idle.Reset(t.policy.Idle)
		}
	}
}

// translate says which of our limits ended the call. An error that is not about the context is the provider's, and is the better one.
func (t *timeouts) translate(ctx context.Context, err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch context.Cause(ctx) {
	case errStalled:
		return &Error{Kind: KindStalled, Retryable: true, Text: fmt.Sprintf("%s sent nothing for %s", t.Ref(), t.policy.Idle)}
	case errDeadline:
		return &Error{Kind: KindDeadline, Text: fmt.Sprintf("the call of %s took longer than %s", t.Ref(), t.policy.Call)}
	default:
		return err
	}
}
