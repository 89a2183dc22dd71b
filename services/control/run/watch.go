package run

import (
	"context"
	"iter"

	"github.com/pawl-dev/pawl/services/control/event"
)

// Watching is which events of a run are watched.
type Watching struct {
	After int64 // events with a greater seq
	Want  event.Want
	// Past ends the watch once the events that there are were handed out, although the run goes on.
	Past bool
}

// Watch yields events of a run as event.Service.Follow does, until the run has ended and all of them were told. A run
// that is retried meanwhile has not ended. It ends early with an error, or with ctx without one. A batch is the
// caller's, who may change it.
func (s *Service) Watch(ctx context.Context, r Run, w Watching) iter.Seq2[[]event.Event, error] {
	return func(yield func([]event.Event, error) bool) {
		sub := s.Events.Subscribe(Key(r.Tenant, r.Workflow, r.ID), w.Want)
		defer sub.Close()
		if r.Status == Queued {
			sub.Awaits(r.SubmissionID) // it may end without an event
		}
		for batch, err := range s.Events.Follow(ctx, sub, r.ID, w.After, false) {
			if err != nil {
				yield(nil, err)
				return
			}
			over := len(batch) == 0 // there is nothing new, so it may have ended
			past := over && w.Past
			if n := len(batch); n > 0 {
				over, w.After = batch[n-1].Type == event.Settled, batch[n-1].Seq
			}
			if !yield(batch, nil) {
				return
			}
			if !over {
				continue
			}
			now, err := s.Get(ctx, r.Tenant, r.ID)
			switch {
			case ctx.Err() != nil: // the end of whoever watches is no error
				return
			case err != nil:
				yield(nil, err)
				return
			case now.Status.Ended(), past:
				s.rest(ctx, r.ID, w, yield)
				return
			case now.Status == Queued:
				sub.Awaits(now.SubmissionID)
			default:
				sub.Awaits("") // what has begun ends with an event
			}
		}
	}
}

// rest yields the events that there are, of a run that has ended or as far as it has come.
func (s *Service) rest(ctx context.Context, id string, w Watching, yield func([]event.Event, error) bool) {
	for {
		page, err := s.Events.Read(ctx, id, w.After)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			yield(nil, err)
			return
		case len(page) == 0:
			return
		}
		w.After = page[len(page)-1].Seq
		if wanted := w.Want.Of(page); len(wanted) > 0 && !yield(wanted, nil) {
			return
		}
	}
}
