package model

import (
	"context"
	"fmt"
	"iter"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pawl-dev/pawl/internal/await"
)

// RetryPolicy says how often a failed call is made again. Zero fields have defaults.
type RetryPolicy struct {
	Attempts int           // calls in all, default 5
	First    time.Duration // the first delay is random below it, default 2 s; it doubles each time
	Max      time.Duration // no delay is longer, unless the provider asks for it; default 60 s
	Total    time.Duration // no attempt starts later than this after the first, default 10 min
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	return RetryPolicy{
		Attempts: or(p.Attempts, 5), First: or(p.First, 2*time.Second), Max: or(p.Max, time.Minute),
		Total: or(p.Total, 10*time.Minute),
	}
}

// or is v, or the default when v is not positive.
func or[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// Retrying makes a failed call of m again if the error is retryable; one whose answer was not understood once only.
// Deltas may have been streamed by then: a PartRestart, sent before the delay, tells the consumer to forget them. A
// delay has full jitter, and comes on top of what the provider asked for. When the provider asks to wait for more
// than 5 minutes, or for more than is left of the policy's total, the call fails at once with an error that says when
// it can be asked again.
func Retrying(m Model, p RetryPolicy) Model {
	return &retrying{Model: m, policy: p.withDefaults()}
}

type retrying struct {
	Model
	policy RetryPolicy
}

// Stream implements Model.
func (r *retrying) Stream(ctx context.Context, req Request) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		attempts := &attempts{policy: r.policy, start: time.Now(), delays: r.policy.delays()}
		for attempt := 1; ; attempt++ {
			err := attemptOnce(r.Model.Stream(ctx, req), yield)
			if err == nil {
				return
			}
			e, ours := AsError(err)
			if ctx.Err() != nil || !ours {
				yield(Part{}, err)
				return
			}
			delay, again := attempts.next(attempt, e)
			if !again {
				if e.RetryAfter > 0 {
					e = e.unavailableUntil(time.Now().Add(e.RetryAfter))
				}
				yield(Part{}, e)
				return
			}
			if !yield(Part{Type: PartRestart, Restart: &Restart{Attempt: attempt + 1, Delay: delay, Err: e}}, nil) ||
				!yield(Part{Type: PartWaiting, Waiting: waitAfter(e, delay)}, nil) {
				return
			}
			if err := sleep(ctx, delay); err != nil {
				yield(Part{}, err)
				return
			}
		}
	}
}

// attempts are those of one call.
type attempts struct {
	policy RetryPolicy
	start  time.Time
	delays *backoff.ExponentialBackOff
	once   bool // an answer could not be understood: it was paid for, and the next is not likely to be better
}

// next is how long to wait before the next attempt, after the last one has failed with e.
func (a *attempts) next(made int, e *Error) (delay time.Duration, again bool) {
	once := e.Once || e.Kind == KindProtocol
	if !e.Retryable || made >= a.policy.Attempts || e.RetryAfter > MaxPause || once && a.once {
		return 0, false
	}
	a.once = a.once || once
	delay = e.RetryAfter + a.delays.NextBackOff()
	return delay, time.Since(a.start)+delay <= a.policy.Total
}

// waitAfter is the wait for the next attempt after e.
func waitAfter(e *Error, delay time.Duration) *Waiting {
	w := &Waiting{Reason: WaitRetry, Until: time.Now().Add(delay), Err: e}
	if e.Kind == KindRateLimited || e.RetryAfter > 0 {
		w.Reason = WaitRateLimit
	}
	return w
}

// delays is the full jitter: uniform between 0 and twice the interval, which doubles.
func (p RetryPolicy) delays() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval:     p.First / 2,
		RandomizationFactor: 1,
		Multiplier:          2,
		MaxInterval:         p.Max / 2,
	}
}

// attemptOnce passes one attempt on. It returns nil when the call is over, by a finish or because the consumer has
// left.
func attemptOnce(stream iter.Seq2[Part, error], yield func(Part, error) bool) error {
	for p, err := range stream {
		if err != nil {
			return err
		}
		if !yield(p, nil) || p.Type == PartFinish {
			return nil
		}
	}
	return errCut()
}

// errCut is for a stream that ends with neither a finish nor an error, which a Model must not do.
func errCut() *Error {
	return &Error{Kind: KindCut, Retryable: true, Text: "the model's stream ended before its end"}
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if err := await.Sleep(ctx, d); err != nil {
		return fmt.Errorf("waiting to call the model: %w", err)
	}
	return nil
}

// RetryAfter is how long an answer with these headers asks to wait; 0 when it does not say. A date is compared with the
// answer's own Date, because the provider's clock need not agree with ours; without a Date it says nothing.
func RetryAfter(h http.Header) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if wait := seconds(h.Get(name), time.Millisecond); wait > 0 {
			return wait
		}
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if wait := seconds(value, time.Second); wait > 0 {
		return wait
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}

// seconds reads a positive number of units; 0 for anything else.
func seconds(value string, unit time.Duration) time.Duration {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || math.IsNaN(n) || n <= 0 {
		return 0
	}
	const longest = 365 * 24 * time.Hour
	return time.Duration(min(n*float64(unit), float64(longest)))
}
