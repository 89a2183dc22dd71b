package lane

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/wake"
)

// watch compares the lanes that run here with their rows, and settles heads that nobody ends.
type watch struct {
	worker *Worker
	looks  *looks
	// Since when looks have found a lane of this replica without a run, or a run without its lane.
	strays, losses map[Fence]time.Time
}

// believeAfter is for how long looks at the rows have to find the same: a claim or a settlement that is under way looks
// like a lane without a run, or a run without a lane.
const believeAfter = 2 * lookEvery

// own looks at the rows of all lanes that this replica owns: so their runs hear of mail and aborts that no hint told
// of, lanes that were taken, with the answer lost, are handed back, and runs that have lost their lane end.
// It is false when it has failed.
func (v *watch) own(ctx context.Context) (ok bool) {
	v.worker.step("looking at the lanes that run here", func() { ok = v.lookAtOwn(ctx) })
	return ok
}

func (v *watch) lookAtOwn(ctx context.Context) bool {
	w := v.worker
	w.mu.Lock()
	owner, runs := w.owner, make(map[string]*held, len(w.runs))
	for id, h := range w.runs {
		runs[id] = h
	}
	w.mu.Unlock()
	rows, err := w.deps.Store.Own(ctx, owner)
	if err != nil {
		if ctx.Err() == nil {
			w.deps.Log.Error("looking at the lanes that run here failed", "error", err)
		}
		return false
	}
	v.looks.answered(time.Now())
	v.compare(ctx, rows, runs)
	return true
}

func (v *watch) compare(ctx context.Context, rows []Held, runs map[string]*held) {
	strays, losses, now := map[Fence]time.Time{}, map[Fence]time.Time{}, time.Now()
	found := func(before, seen map[Fence]time.Time, f Fence) (believe bool) {
		since, again := before[f]
		if !again {
			since = now
		}
		seen[f] = since
		return now.Sub(since) >= believeAfter
	}
	for _, row := range rows {
		h := runs[row.Fence.LaneID]
		if h == nil {
			if v.worker.find(row.Fence.LaneID) == nil && found(v.strays, strays, row.Fence) {
				v.stray(ctx, row.Fence)
			}
			continue
		}
		if h.Fence() == row.Fence {
			h.gone.Store(false)
			delete(runs, row.Fence.LaneID)
		}
		if h.heard(row) || h.Why() != NoEnd {
			h.run.Nudge()
		}
	}
	for _, h := range runs { // whose lanes are others', or nobody's
		f := h.Fence()
		h.gone.Store(true)
		if found(v.losses, losses, f) {
			v.worker.deps.Log.Warn("a run has lost its lane, ending it", "lane_id", f.LaneID, "epoch", f.Epoch)
			h.cancel()
		}
	}
	v.strays, v.losses = strays, losses
}

// stray hands back a lane that is owned here and has no run.
func (v *watch) stray(ctx context.Context, f Fence) {
	w := v.worker
	w.deps.Log.Warn("a lane was owned and not run, handing it back", "lane_id", f.LaneID, "epoch", f.Epoch)
	if err := w.deps.Store.Release(ctx, f, Release{}); err != nil && !errors.Is(err, ErrFenced) {
		w.deps.Log.Error("handing a lane back failed", "lane_id", f.LaneID, "error", err)
		return
	}
	w.deps.Bus.PublishReady()
}

// reap takes the lanes of dead replicas.
func (v *watch) reap(ctx context.Context) {
	v.worker.step("reaping", func() {
		if v.worker.deps.MayReap() {
			v.worker.takeOver(ctx, nil)
		}
	})
}

// force settles heads that should have ended long ago, whoever owns them, this replica included.
func (v *watch) force(ctx context.Context) {
	v.worker.step("settling heads that nobody ends", func() { v.settleOverdue(ctx) })
}

func (v *watch) settleOverdue(ctx context.Context) {
	w := v.worker
	if !v.looks.steady(time.Now()) {
		return
	}
	ended, err := w.deps.Store.Force(ctx, claimAtOnce)
	if err != nil && ctx.Err() == nil {
		w.deps.Log.Error("looking for heads that have not ended in time failed", "error", err)
	}
	for _, e := range ended {
		w.deps.Log.Warn("a submission was not ended in time, it was settled from its rows", "lane_id", e.LaneID,
			"submission_id", e.HeadID)
		if h := w.find(e.LaneID); h != nil && h.head() == e.HeadID { // else the lane was taken since
			h.cancel()
		}
		w.settled(e)
	}
}

// moveMail delivers mail that is on its way.
func (w *Worker) moveMail(ctx context.Context) { w.step("moving mail", func() { w.deliverMail(ctx) }) }

func (w *Worker) deliverMail(ctx context.Context) {
	moved, err := w.deps.Store.MoveMail(ctx)
	if err != nil && ctx.Err() == nil {
		w.deps.Log.Error("moving mail failed", "error", err)
	}
	for _, m := range moved {
		if m.Owner == "" {
			w.deps.Bus.Publish(wake.Ready)
			continue
		}
		if w.find(m.LaneID) != nil {
			w.look.Set()
		} else {
			w.deps.Bus.Announce(m.LaneID)
		}
	}
}

// Posted says that mail was posted here: it is moved now rather than within a second.
func (w *Worker) Posted(ctx context.Context) { w.moveMail(ctx) }
