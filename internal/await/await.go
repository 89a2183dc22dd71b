// Package await has the two ways to wait that are needed everywhere: for a signal, and for a time.
package await

import (
	"context"
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
