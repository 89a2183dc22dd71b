package lane

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
)

// Runner carries out the heads of one kind of lane.
type Runner interface {
	// Begin makes the run of a lane that this process owns from now on. fresh says that the admission which made the
	// head has started it too, in the same transaction: nobody has published its event yet.
	Begin(o *Owner, fresh bool) Run
}

// Run is an owned lane at work.
type Run interface {
	// Drive works until the lane is idle, rests or is handed back. An error hands the lane back; one that is neither
	// ErrFenced nor an outage of the database is charged: to a LoopError's loop, or to the head. One that claims to be
	// an outage is charged, too, when it comes again and again while the database answers all else.
	Drive(ctx context.Context) error
	// Deliver takes an executor's report; false when the run does not wait for that call. It never blocks.
	Deliver(r call.Report) bool
	// Drain says that the process wants to end: hand the lane back at the next safe point. It never blocks.
	Drain()
	// Nudge says that something outside has changed: mail came, an executor came or went, rows of the lane changed. It
	// never blocks.
	Nudge()
}

// LoopError is an error that is one loop's.
type LoopError struct {
	LoopID string
	Err    error
}

// Error implements error.
func (e *LoopError) Error() string { return fmt.Sprintf("loop %s: %v", e.LoopID, e.Err) }

// Unwrap returns the error of the loop.
func (e *LoopError) Unwrap() error { return e.Err }
