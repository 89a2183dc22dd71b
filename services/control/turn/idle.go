package turn

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
)

// Look is called before the user reads what it rests on without calls, such as signals: what comes after it keeps the
// lane from resting, see Idle.
func (t *Strand) Look() { t.looked = t.lane.owner.Mail() }

// Idle waits without calls, until a time (zero: none), a Nudge, an end (see Ends) or the lane is left. The lane rests
// when no strand of it has anything to do; told is the event that says so then, if it is this one that rests it. Its
// error is the work's: ErrParked, or one that ends it.
func (t *Strand) Idle(ctx context.Context, until time.Time, told event.Event) error {
	t.lane.gates.Add(1)
	defer t.lane.gates.Add(-1)
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	for !t.Ends() && !t.lane.Leaving() && (until.IsZero() || time.Until(until) > 0) {
		at := rested{mail: t.looked, until: earlier(until, t.ends), has: t.hasPending()}
		if parked, err := t.restWith(at, func() { t.Push(told) }); err != nil {
			return err
		} else if parked {
			return ErrParked
		}
		wait := time.Hour
		if !until.IsZero() {
			wait = min(wait, time.Until(until))
		}
		if due, ok := t.FlushDue(); ok {
			wait = min(wait, due)
		}
		timer.Reset(max(wait, 0))
		if nudged, err := t.hear(ctx, timer, t.lane.head.leave); err != nil || nudged {
			return err
		}
	}
	return nil
}
