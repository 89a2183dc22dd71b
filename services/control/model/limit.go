package model

import (
	"context"
	"iter"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstPause = time.Second     // after a 429 that does not say how long
	maxStrikes = 5               // firstPause doubles so often
	maxPause   = 5 * time.Minute // whatever the provider says
	minSpread  = 100 * time.Millisecond
	maxSpread  = 5 * time.Second
)

// Limiter is the pause that all callers of one provider and key share: what one is told by a 429, all heed. Calls that have begun
// go on. After the pause the callers start spread over a moment, not all at once. The zero value is ready.
type Limiter struct {
	mu      sync.Mutex
	until   time.Time     // of the pause
	spread  time.Duration // over which callers start after it
	strikes int           // rate limits without an answer between them
}

// Wait returns when no pause is on, or with the context's error.
func (l *Limiter) Wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		left, spread := time.Until(l.until), l.spread
		l.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, left+rand.N(spread)); err != nil {
			return err
		}
	}
}

// Pause makes everyone wait for d, or for longer if a longer pause is on. 0 means that the provider did not say.
func (l *Limiter) Pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d <= 0 {
		d = firstPause << l.strikes
		l.strikes = min(l.strikes+1, maxStrikes)
	}
	d = min(d, maxPause)
	if until := time.Now().Add(d); until.After(l.until) {
		l.until = until
		l.spread = min(max(d/4, minSpread), maxSpread)
	}
}

// answered forgets the strikes.
func (l *Limiter) answered() {
	l.mu.Lock()
	l.strikes = 0
	l.mu.Unlock()
}

// Limited makes the calls of m wait for l, and a rate limit that they meet start a pause for all.
func Limited(m Model, l *Limiter) Model { return &limited{Model: m, limiter: l} }

type limited struct {
	Model
	limiter *Limiter
}

// Stream implements Model.
func (m *limited) Stream(ctx context.Context, req Request) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		if err := m.limiter.Wait(ctx); err != nil {
			yield(Part{}, err)
			return
		}
		for p, err := range m.Model.Stream(ctx, req) {
			if err != nil {
				m.heed(err)
			} else if p.Type == PartFinish {
				m.limiter.answered()
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// heed pauses everyone for an error that is about everyone. An overloaded provider is one only if it says for how long.
func (m *limited) heed(err error) {
	e, ok := AsError(err)
	if ok && (e.Kind == KindRateLimited || e.Kind == KindOverloaded && e.RetryAfter > 0) {
		m.limiter.Pause(e.RetryAfter)
	}
}
