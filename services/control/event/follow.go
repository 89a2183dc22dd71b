package event

import (
	"context"
	"iter"

	"github.com/pawl-dev/pawl/services/control/wake"
)

// Follow yields the session's events with seq > after that the subscription wants, in batches: past ones from the log,
// then live, in order and without a gap but where the log has one. It fails with ErrCursorTooOld. An empty batch says
// that the log was read and had nothing new. It ends when ctx ends (without an error) or with the error of a read. With
// fresh, sub was taken before after was the head; else the log is read first.
func (s *Service) Follow(
	ctx context.Context, sub *Subscription, sessionID string, after int64, fresh bool,
) iter.Seq2[[]Event, error] {
	return func(yield func([]Event, error) bool) {
		sub.wakes.Add(wake.Lane(sessionID))
		f := following{Subscription: sub, service: s, session: sessionID, after: after, stale: !fresh}
		for {
			batch, err := f.next(ctx)
			switch {
			case err != nil:
				if ctx.Err() == nil {
					yield(nil, err)
				}
				return
			case len(batch) == 0:
				if !yield(nil, nil) {
					return
				}
			default:
				if wanted := sub.want.Of(batch); len(wanted) > 0 && !yield(wanted, nil) {
					return
				}
			}
		}
	}
}

// following is a subscription that is being followed.
type following struct {
	*Subscription
	service *Service
	session string
	after   int64 // seq of the last event that was returned
	stale   bool  // the log may have what did not come live
}

// next is the next batch; empty when the log was read and had nothing new.
func (f *following) next(ctx context.Context) ([]Event, error) {
	for {
		f.move(func(at *position) { at.lane, at.reads, at.seen = f.session, true, f.after })
		if f.stale {
			page, err := f.service.Read(ctx, f.session, f.after)
			if len(page) > 0 {
				f.after = page[len(page)-1].Seq
			} else {
				f.stale = false
			}
			return page, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.wakes.C:
			f.stale = true
		case <-f.ready:
			if batch := f.live(); len(batch) > 0 {
				return batch, nil
			}
		}
	}
}

// live is what has come live and follows what was returned.
func (f *following) live() []Event {
	batch, lost := f.take(f.session)
	f.stale = f.stale || lost
	for len(batch) > 0 && batch[0].Seq <= f.after {
		batch = batch[1:]
	}
	n := len(batch)
	if n == 0 {
		return nil
	}
	if batch[0].Seq != f.after+1 || batch[n-1].Seq != f.after+int64(n) {
		f.stale = true
		return nil
	}
	f.after += int64(n)
	return batch
}
