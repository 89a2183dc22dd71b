// Package await has the ways to wait that are needed everywhere: for a signal, and for a time, once or again and again.
package await

import (
	"context"
	"iter"
	"time"
)

// Signal wakes one goroutine, which receives from it. It holds one wake-up: those that come before that is received
// are the same one.
type Signal chan struct{}

// NewSignal makes a Signal that is not set.
func NewSignal() Signal { return make(Signal, 1) }

// Set wakes whoever receives, now or next. It never blocks.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// Sleep returns nil after d, or ctx's error when that ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ticks yields 1, 2, 3 and so on, one each time that the interval has passed, until ctx ends. Ticks that come while the
// consumer is at work are one.
func Ticks(ctx context.Context, every time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !yield(n) {
				return
			}
		}
	}
}

// Repeat calls f in a goroutine of its own when the interval has passed, and again each time that it has passed since f
// returned true, until stop is called. stop waits for a call that is under way; f must not call it. Between the calls
// there is no goroutine: for what many idle connections have each.
func Repeat(every time.Duration, f func() bool) (stop func()) {
	busy := make(chan struct{}, 1) // a lock on which tests on fake time can wait; it guards what follows
	var timer *time.Timer
	ended := false
	busy <- struct{}{}
	timer = time.AfterFunc(every, func() {
		busy <- struct{}{}
		defer func() { <-busy }()
		if !ended && f() {
			timer.Reset(every)
		}
	})
	<-busy
	return func() {
		timer.Stop()
		busy <- struct{}{}
		defer func() { <-busy }()
		ended = true
		timer.Stop()
	}
}
