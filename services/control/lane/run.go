package lane

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// held is a lane that runs here.
type held struct {
	*Owner
	run   Run
	wakes *wake.Subscription // to changes of the lane that somebody else has made
	gone  atomic.Bool        // the last look at the rows has found that the lane is another's
}

// Start runs the lease that an admission got, in its reserved slot. If the process has drained meanwhile, the lane is
// handed back: a take-over would be charged.
func (w *Worker) Start(l Lease) {
	if w.start(l, true) || !closed(w.draining()) {
		return
	}
	w.handBack(context.Background(), l.Fence, func(ctx context.Context) error {
		return w.deps.Store.Release(ctx, l.Fence, Release{})
	})
}

// draining is closed when the incarnation was told to end, rather than dying.
func (w *Worker) draining() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drain
}

// start runs a lease; false for one of an incarnation that has ended or drains. That of a dead one is left to its
// successor.
func (w *Worker) start(l Lease, fresh bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ctx.Err() != nil || closed(w.drain) {
		w.used--
		return false
	}
	h := &held{Owner: newOwner(w, l)}
	if old := w.runs[l.Fence.LaneID]; old != nil {
		old.cancel() // it has lost the lane
	}
	w.runs[l.Fence.LaneID] = h
	h.run = w.begin(h.Owner, l.Kind, fresh)
	h.wakes = w.deps.Bus.SubscribeFunc(func() { h.run.Nudge(); w.look.Set() }, wake.Lane(l.Fence.LaneID))
	w.group.Go(func() { w.drive(h) })
	return true
}

// begin makes the run of a lane.
func (w *Worker) begin(o *Owner, kind Kind, fresh bool) (r Run) {
	if err := contain.Do(func() error { r = w.deps.Runners[kind].Begin(o, fresh); return nil }); err != nil {
		return failed{err}
	}
	return r
}

// failed is a run that could not be made.
type failed struct{ err error }

func (f failed) Drive(context.Context) error { return f.err }
func (failed) Deliver(call.Report) bool      { return false }
func (failed) Drain()                        {}
func (failed) Nudge()                        {}

// drive is a run from beginning to end.
func (w *Worker) drive(h *held) {
	defer h.cancel()
	defer w.ended(h)
	l := h.Lease()
	err := errSpent
	if spent := l.spent(); spent == nil {
		err = contain.Do(func() error { return h.run.Drive(h.ctx) })
	} else if spent.StallCause != "" {
		err = errors.New(spent.StallCause)
	}
	switch {
	case err == nil, h.ctx.Err() != nil:
	case errors.Is(err, ErrFenced):
		w.deps.Log.Warn("lost a lane to another owner", "lane_id", l.Fence.LaneID, "epoch", l.Fence.Epoch)
	default:
		w.deps.Log.Error("running a lane failed, it is tried again", "lane_id", l.Fence.LaneID, "submission_id",
			l.Root().ID, "error", err)
		h.release(h.ctx, err)
	}
}

// errSpent is why a head that has used up all tries is ended without being looked at.
var errSpent = errors.New("every replica that ran it died, or failed, before it could end it")

func (w *Worker) ended(h *held) {
	w.mu.Lock()
	if id := h.Fence().LaneID; w.runs[id] == h {
		delete(w.runs, id)
	}
	w.mu.Unlock()
	h.wakes.Close()
	h.ending().stop()
	w.free()
}

// handBack gives a lane back, until that is done, the lane is lost, or ctx ends: a lane whose owner lives and has no
// run for it would stay so. While the process drains it is tried for about ten seconds; then the lane goes with the
// process.
func (w *Worker) handBack(ctx context.Context, f Fence, give func(context.Context) error) {
	drain := w.draining()
	for wait := retryFirst; ; wait = min(2*wait, maxRetry) {
		err := contain.Do(func() error {
			ctx, cancel := context.WithTimeout(ctx, releaseLimit)
			defer cancel()
			return give(ctx)
		})
		if err == nil || errors.Is(err, ErrFenced) {
			w.deps.Bus.PublishReady()
			return
		}
		w.deps.Log.Warn("handing a lane back failed, trying again", "lane_id", f.LaneID, "error", err)
		if drain == nil && wait > releaseLimit {
			return
		}
		select {
		case <-time.After(wait):
		case <-drain:
			drain, wait = nil, retryFirst
		case <-ctx.Done():
			return
		}
	}
}
