// Package contain keeps a panic from ending the process: it becomes an error of the call, the run or the connection in
// which it happened.
//
//	Do(f) ──▶ f's error, or a Panic ──▶ whoever handles errors logs it once, with its stack
//
// A goroutine that is started without Do ends the process when it panics. Locks that f takes must be released by defer.
package contain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Panic is a panic as an error. Its text has the stack, so it is for the log only.
type Panic struct {
	Value any
	Stack []byte
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.Value, p.Stack) }

// Is reports whether a panic is behind err.
func Is(err error) bool {
	var p *Panic
	return errors.As(err, &p)
}

// Do calls f and returns its error, or the panic that ended it.
func Do(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &Panic{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

// Run is Do for what has no error: a panic is logged with what was being done.
func Run(log *slog.Logger, doing string, f func()) {
	if err := Do(func() error { f(); return nil }); err != nil {
		log.Error("a panic was contained", "doing", doing, "error", err)
	}
}

const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// Loop calls f until it returns without a panic, or ctx ends; f's error is returned. A panic is logged, and f is called
// again after a pause, which grows: a loop of the process's housekeeping is needed for as long as the process lives.
func Loop(ctx context.Context, log *slog.Logger, doing string, f func(context.Context) error) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := Do(func() error { return f(ctx) })
		if !Is(err) {
			return err
		}
		log.ErrorContext(ctx, "a panic was contained, starting over", "doing", doing, "pause", pause, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
