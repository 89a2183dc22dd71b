package submission

import (
	"context"
	"fmt"
	"iter"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// Following is a submission being followed by one reader.
type Following struct {
	Submission Submission // as admitted, and settled once Events has ended
	Replayed   bool
	Before     int64 // seq of an event of the session before the submission's first
	Told       bool  // whether the last of Events was that it has settled
	service    *Service
	sub        *event.Subscription
	after      int64
	fresh      bool
	host       string // the submission that it has joined, "" before that
}

// Close ends the following. The submission goes on.
func (f *Following) Close() { f.sub.Close() }

// Events yields the submission's events in batches, in order, until it has settled. An error or the end of ctx ends it
// early. A batch is the caller's, who may change it. Of a submission whose events were deleted it yields what is left.
func (f *Following) Events(ctx context.Context) iter.Seq2[[]event.Event, error] {
	return func(yield func([]event.Event, error) bool) {
		if f.Submission.Status == SettledStatus && f.Submission.StartedAt.IsZero() {
			return
		}
		if f.Submission.Status == Queued {
			f.sub.Awaits(f.Submission.ID)
		}
		for err := f.follow(ctx, yield); err != nil; err = f.follow(ctx, yield) {
			floor, old := event.FloorOf(err)
			if !old {
				yield(nil, err)
				return
			}
			over, err := f.left(ctx, false)
			if err != nil {
				yield(nil, err)
			}
			if over || err != nil {
				return
			}
			f.after, f.fresh = floor, false
		}
	}
}

// follow yields events until there is no more reason to, without an error, or the log fails.
func (f *Following) follow(ctx context.Context, yield func([]event.Event, error) bool) error {
	for batch, err := range f.service.events.Follow(ctx, f.sub, f.Submission.SessionID, f.after, f.fresh) {
		if err != nil {
			return err
		}
		mine, last := f.mine(batch), event.Event{}
		if n := len(mine); n > 0 {
			last = mine[n-1]
			f.sub.Awaits("") // what has begun ends with an event
			if !yield(mine, nil) {
				return nil
			}
		}
		if last.Type == event.Settled {
			f.Submission, f.Told = settled(f.Submission, last), true
			return nil
		}
		if len(batch) == 0 {
			if over, err := f.left(ctx, true); over || err != nil {
				return err
			}
		}
	}
	return nil
}

// left reports whether the submission has settled and its events do not tell: it never ran, or they were deleted.
func (f *Following) left(ctx context.Context, unstarted bool) (bool, error) {
	now, err := f.service.Get(ctx, f.Submission.Key.Tenant, f.Submission.ID)
	switch {
	case ctx.Err() != nil: // the end of whoever follows is no error
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking whether the submission has settled: %w", err)
	case now.Status == Joined && !unstarted: // the event that tells it may be among those that were deleted
		f.host = now.Host
		f.Submission.Status, f.Submission.Host = Joined, now.Host
		return false, nil
	case now.Status != SettledStatus, unstarted && !now.StartedAt.IsZero():
		return false, nil
	}
	f.Submission = now
	return true, nil
}

// mine is the part of a batch that belongs to the submission: once that has joined another one, what belongs to that.
func (f *Following) mine(batch []event.Event) []event.Event {
	if f.host != "" {
		return ofSubmission(batch, f.host)
	}
	for i := range batch {
		if e := &batch[i]; e.Type == event.Steered && e.Joined == f.Submission.ID {
			f.host = e.Root()
			f.Submission.Status, f.Submission.Host = Joined, f.host
			return ofSubmission(batch[i:], f.host)
		}
	}
	return ofSubmission(batch, f.Submission.ID)
}

// ofSubmission is the part of a batch that belongs to a submission and those that work for it: a session runs one at a
// time.
func ofSubmission(batch []event.Event, id string) []event.Event {
	for len(batch) > 0 && batch[0].Root() != id {
		batch = batch[1:]
	}
	n := len(batch)
	for n > 0 && batch[n-1].Root() != id {
		n--
	}
	return batch[:n]
}

// settled is the submission after the event that settles it.
func settled(s Submission, e event.Event) Submission {
	z := e.Settlement
	s.Status, s.Outcome, s.Reason, s.Message = SettledStatus, lane.Outcome(z.Outcome), z.Reason, z.Message
	s.Cancellation = z.Cancellation
	s.Data = z.Data
	s.Model, s.Usage, s.ResultEntry, s.Text, s.Turn, s.SettledAt = z.Model, z.Usage, z.EntrySeq, z.Text, z.Turn, e.Time
	return s
}
