package model

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstPause = time.Second // after a 429 that does not say how long
	maxStrikes = 5           // firstPause doubles so often
	minSpread  = 100 * time.Millisecond
	maxSpread  = 5 * time.Second
)

// Limiter is the pause that all callers of one model with one key share: what one is told by a 429, all heed. Calls
// that have begun go on. After the pause the callers start spread over a moment, not all at once. The zero value is
// ready. Safe for concurrent use.
type Limiter struct {
	mu      sync.Mutex
	began   time.Time     // when the pause did
	until   time.Time     // of the pause
	cause   *Error        // of the pause
	spread  time.Duration // over which callers start after it
	strikes int           // rate limits without an answer between them
	peers   peers
}

// pause is the pause that is on; until is zero when there is none.
func (l *Limiter) pause() (until time.Time, spread time.Duration, cause *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.until.After(time.Now()) {
		return time.Time{}, 0, nil
	}
	return l.until, l.spread, l.cause
}

// Heed makes everyone wait because of e, unless a longer pause is on: for as long as the provider asked, or for a
// while that grows when it did not say. A pause that is longer than any call waits pauses nobody: everyone who asks
// is told the provider's own words and time.
func (l *Limiter) Heed(e *Error) { l.heed(e, time.Now()) }

// heed is Heed for a call that asked then. Of calls that were under way together the first makes the pause grow: that
// the others are refused too says nothing more.
func (l *Limiter) heed(e *Error, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := e.RetryAfter
	if d <= 0 {
		if asked.Before(l.began) {
			return
		}
		d = firstPause << l.strikes
		l.strikes = min(l.strikes+1, maxStrikes)
	}
	if until := time.Now().Add(d); d <= MaxPause && until.After(l.until) {
		l.begin(until, d, e)
	}
}

// begin makes the pause end at until, after d. The caller holds mu.
func (l *Limiter) begin(until time.Time, d time.Duration, cause *Error) {
	l.began, l.until, l.cause = time.Now(), until, cause
	l.spread = min(max(d/4, minSpread), maxSpread)
}

// answered forgets the strikes.
func (l *Limiter) answered() {
	l.mu.Lock()
	l.strikes = 0
	l.mu.Unlock()
}

// idle reports that nothing would be forgotten with l.
func (l *Limiter) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.strikes == 0 && !l.until.After(time.Now())
}

// Limited makes the calls of m wait for l, and a rate limit that they meet start a pause for all. A call that would
// wait for more than 5 minutes fails with the cause of the pause and the time of its end.
func Limited(m Model, l *Limiter) Model { return &limited{Model: m, limiter: l} }

type limited struct {
	Model
	limiter *Limiter
}

// Stream implements Model.
func (m *limited) Stream(ctx context.Context, req Request) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		if proceed, err := m.wait(ctx, yield); !proceed {
			if err != nil {
				yield(Part{}, err)
			}
			return
		}
		asked := time.Now()
		for p, err := range m.Model.Stream(ctx, req) {
			if err != nil {
				m.heed(ctx, err, asked)
			} else if p.Type == PartFinish {
				m.limiter.answered()
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// wait returns when no pause is on. It does not proceed when the consumer has left, or with an error.
func (m *limited) wait(ctx context.Context, yield func(Part, error) bool) (proceed bool, err error) {
	patience := time.Now().Add(MaxPause)
	for {
		m.limiter.look(ctx)
		until, spread, cause := m.limiter.pause()
		switch {
		case until.IsZero():
			return true, nil
		case until.After(patience):
			return false, cause.unavailableUntil(until)
		}
		m.limiter.publish(ctx) // should that have failed
		if !yield(Part{Type: PartWaiting, Waiting: &Waiting{Reason: WaitRateLimit, Until: until, Err: cause}}, nil) {
			return false, nil
		}
		if err := sleep(ctx, time.Until(until)+rand.N(spread)); err != nil {
			return false, err
		}
	}
}

// heed pauses everyone for an error that is about everyone. An overloaded provider is one only if it says for how long.
func (m *limited) heed(ctx context.Context, err error, asked time.Time) {
	e, ok := AsError(err)
	if ok && (e.Kind == KindRateLimited || e.Kind == KindOverloaded && e.RetryAfter > 0) {
		m.limiter.heed(e, asked)
		m.limiter.publish(ctx)
	}
}
