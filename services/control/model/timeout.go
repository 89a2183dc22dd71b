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
	First   time.Duration // of silence until the first event, default 5 min: bytes of any kind end a silence
	Between time.Duration // from one event to the next, default 60 s: a comment and a ping are no events
	Call    time.Duration // for the whole call, default 30 min
}

func (p TimeoutPolicy) withDefaults() TimeoutPolicy {
	return TimeoutPolicy{
		First: or(p.First, 5*time.Minute), Between: or(p.Between, time.Minute), Call: or(p.Call, 30*time.Minute),
	}
}

var (
	errStalled  = errors.New("stalled")
	errDeadline = errors.New("deadline")
)

// Timeouts ends a call of m that falls silent, with KindStalled, or takes too long, with KindDeadline. The time that
// the consumer takes for a part does not count as silence.
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
		limit, began := t.policy.First, false
		waiting := func() bool {
			w := &Waiting{Reason: WaitFirstToken, Until: time.Now().Add(limit)}
			return yield(Part{Type: PartWaiting, Waiting: w}, nil)
		}
		if !waiting() {
			return
		}
		silence := time.AfterFunc(limit, func() { cancel(errStalled) })
		defer silence.Stop()
		event := time.Now() // when the last one came, without the time that the consumer took
		for p, err := range t.Model.Stream(ctx, req) {
			silence.Stop()
			if err != nil {
				yield(Part{}, t.translate(ctx, limit, err))
				return
			}
			switch p.Type {
			case PartAlive:
				if began {
					silence.Reset(limit - time.Since(event))
					continue
				}
				if !waiting() {
					return
				}
			case PartPaused:
				if began, limit = false, t.policy.First; !waiting() {
					return
				}
			case PartProgress:
				began = true
			case PartUsage:
				if !yield(p, nil) {
					return
				}
			default:
				began = p.Type != PartRestart
				if !yield(p, nil) {
					return
				}
			}
			if limit = t.policy.First; began {
				limit = t.policy.Between
			}
			event = time.Now()
			silence.Reset(limit)
		}
	}
}

// translate says which of our limits ended the call. An error that is not about the context is the provider's, and is
// the better one.
func (t *timeouts) translate(ctx context.Context, limit time.Duration, err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch context.Cause(ctx) {
	case errStalled:
		return &Error{Kind: KindStalled, Retryable: true, Text: fmt.Sprintf("%s sent nothing for %s", t.Ref(), limit)}
	case errDeadline:
		return &Error{Kind: KindDeadline, Text: fmt.Sprintf("the call of %s took longer than %s", t.Ref(),
			t.policy.Call)}
	default:
		return err
	}
}
