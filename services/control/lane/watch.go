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
	clock  *clock
	// How many looks in a row have found a lane of this replica without a run, or a run without its lane.
	strays, losses map[Fence]int
}

// own looks at the rows of all lanes that this replica owns: so their runs hear of mail and aborts that no hint told
// of, lanes that were taken, with the answer lost, are handed back, and runs that have lost their lane end.
func (v *watch) own(ctx context.Context) {
	w := v.worker
	w.mu.Lock()
	owner, runs := w.owner, make(map[string]*held, len(w.runs))
	for id, h := range w.runs {
		runs[id] = h
	}
	w.mu.Unlock()
	asked := time.Now()
	rows, err := w.deps.Store.Own(ctx, owner)
	if err != nil {
		if ctx.Err() == nil {
			w.deps.Log.Error("looking at the lanes that run here failed", "error", err)
		}
		return
	}
	if jump := v.clock.see(rows.Now, asked, time.Now()); jump != 0 {
		w.deps.Log.Warn("the database's clock has jumped: nothing is settled by it for a while", "by", jump,
			"while", ForceGrace)
	}
	v.compare(ctx, rows.Lanes, runs)
}

func (v *watch) compare(ctx context.Context, rows []Held, runs map[string]*held) {
	strays, losses := map[Fence]int{}, map[Fence]int{}
	for _, row := range rows {
		h := runs[row.Fence.LaneID]
		if h == nil {
			v.stray(ctx, row.Fence, strays)
			continue
		}
		if h.Fence() == row.Fence {
			delete(runs, row.Fence.LaneID)
		}
		if h.heard(row) || h.Why() != NoEnd {
			h.run.Nudge()
		}
	}
	for _, h := range runs { // whose lanes are others', or nobody's
		f := h.Fence()
		if losses[f] = v.losses[f] + 1; losses[f] >= looksToBelieve {
			v.worker.deps.Log.Warn("a run has lost its lane, ending it", "lane_id", f.LaneID, "epoch", f.Epoch)
			h.cancel()
		}
	}
	v.strays, v.losses = strays, losses
}

// stray hands back a lane that is owned here and has no run.
func (v *watch) stray(ctx context.Context, f Fence, seen map[Fence]int) {
	w := v.worker
	if w.find(f.LaneID) != nil {
		return
	}
	if seen[f] = v.strays[f] + 1; seen[f] < looksToBelieve {
		return
	}
	w.deps.Log.Warn("a lane was owned and not run, handing it back", "lane_id", f.LaneID, "epoch", f.Epoch)
	if err := w.deps.Store.Release(ctx, f, Release{}); err != nil && !errors.Is(err, ErrFenced) {
		w.deps.Log.Error("handing a lane back failed", "lane_id", f.LaneID, "error", err)
		return
	}
	delete(seen, f)
	w.deps.Bus.Publish(wake.Ready)
}

// reap takes the lanes of dead replicas: not by a clock that has jumped just now, by which all leases may have expired,
// those of the living too.
func (v *watch) reap(ctx context.Context) {
	if v.worker.deps.MayReap() && v.clock.steady(time.Now()) {
		v.worker.takeOver(ctx, nil)
	}
}

// force settles heads that should have ended long ago, whoever owns them, this replica included.
func (v *watch) force(ctx context.Context) {
	w := v.worker
	if !v.clock.steady(time.Now()) {
		return
	}
	ended, err := w.deps.Store.Force(ctx, claimAtOnce)
	if err != nil && ctx.Err() == nil {
		w.deps.Log.Error("looking for heads that have not ended in time failed", "error", err)
	}
	for _, e := range ended {
		w.deps.Log.Warn("a submission was not ended in time, it was settled from its rows", "lane_id", e.LaneID,
			"submission_id", e.HeadID)
		if h := w.find(e.LaneID); h != nil {
			h.cancel()
		}
		w.settled(e)
	}
}

// moveMail delivers mail that is on its way.
func (w *Worker) moveMail(ctx context.Context) {
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
			signal(w.look)
		} else {
			w.deps.Bus.Announce(m.LaneID)
		}
	}
}

// Posted says that mail was posted here: it is moved now rather than within a second.
func (w *Worker) Posted(ctx context.Context) { w.step("moving mail", func() { w.moveMail(ctx) }) }
