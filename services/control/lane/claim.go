package lane

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/wake"
)

func (w *Worker) takeOver(ctx context.Context, dead []string) {
	for ctx.Err() == nil {
		got, n := w.lease(ctx, "take over", claimAtOnce, func(owner string, n int) (Claimed, error) {
			return w.deps.Store.TakeOver(ctx, owner, dead, n)
		})
		for i := range got.Leases {
			l := &got.Leases[i]
			w.deps.Log.InfoContext(ctx, "lane taken over", "lane_id", l.Fence.LaneID, "submission_id", l.Root().ID,
				"epoch", l.Fence.Epoch, "attempts", l.Root().Attempts, "reason", "its owner is dead")
		}
		if n == 0 || len(got.Leases) < n {
			return
		}
	}
}

// claim takes due lanes while there are free slots. It returns when the next look is worth while.
func (w *Worker) claim(ctx context.Context) (next time.Duration) {
	next = lookEvery
	w.step("claiming", func() { next = w.claimDue(ctx) })
	return next
}

// claimDue gives every kind at most its share in a round, so that one kind's timers do not keep another kind's prompts
// waiting.
func (w *Worker) claimDue(ctx context.Context) time.Duration {
	w.mu.Lock()
	back := w.back
	w.mu.Unlock()
	if wait := time.Until(back); wait > 0 {
		return wait
	}
	next := lookEvery
	for again := true; again && ctx.Err() == nil; {
		again = false
		left := false // lanes that are due, or may be
		share := w.share()
		for kind := range w.deps.Runners {
			got, n := w.lease(ctx, "claim", share, func(owner string, n int) (Claimed, error) {
				return w.deps.Store.Claim(ctx, owner, kind, n)
			})
			again = again || n > 0 && len(got.Leases) == n
			left = left || n == 0 || len(got.Leases) == n || got.Next <= 0
			if n > 0 {
				next = min(next, max(got.Next, 0))
			}
		}
		if !left {
			w.caughtUp()
		}
	}
	return jitter(max(next, time.Millisecond))
}

// share is how many lanes of a kind a round may claim.
func (w *Worker) share() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(claimAtOnce, max(1, (w.deps.Slots-w.used)/len(w.deps.Runners)))
}

// caughtUp says that no lane waits for a slot.
func (w *Worker) caughtUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind = false
}

// deferClaims lets the other replicas claim first, for a moment.
func (w *Worker) deferClaims() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back = time.Now().Add(yieldFor)
}

// lease gets at most n lanes, as many as there are free slots, and starts them. reserved is how many it has asked for.
func (w *Worker) lease(
	ctx context.Context, how string, n int, get func(owner string, n int) (Claimed, error),
) (got Claimed, reserved int) {
	owner, n := w.reserve(n)
	if n == 0 {
		return Claimed{Next: Never}, 0
	}
	err := contain.Do(func() (err error) { got, err = get(owner, n); return err })
	if err != nil {
		if ctx.Err() == nil {
			w.deps.Log.Error("leasing lanes failed", "reason", how, "error", err)
		}
		w.unused(n)
		w.look.Set() // if they were taken, with the answer lost, they are handed back
		return Claimed{Next: lookEvery}, 0
	}
	w.unused(n - len(got.Leases))
	for _, l := range got.Leases {
		w.start(l, false)
	}
	for _, u := range got.Unreadable {
		w.deps.Log.Error("a submission's row cannot be read: it was settled as interrupted", "lane_id", u.LaneID,
			"submission_id", u.HeadID, "error", u.Err)
		w.settled(u.Ended)
	}
	return got, n
}

// settled tells of a head that was settled from rows.
func (w *Worker) settled(e Ended) {
	w.deps.Events.Publish(e.LaneID, e.Key, e.Events)
	w.deps.Bus.Announce(e.LaneID)
	w.mail.Set() // of who rests on it
	if e.Ready {
		w.deps.Bus.PublishReady()
	}
}

// reserve takes at most most slots; without one there is no owner either, so that nobody takes a lane for nothing.
func (w *Worker) reserve(most int) (owner string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(most, w.deps.Slots-w.used)
	if w.owner == "" || n <= 0 {
		return "", 0
	}
	w.used += n
	return w.owner, n
}

// unused gives slots back that were reserved and got no lease: there was none, so nobody waits for them.
func (w *Worker) unused(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}

// free gives back the slot of a run. If it was the last one, lanes may have been left waiting for it.
func (w *Worker) free() {
	w.mu.Lock()
	full := w.used >= w.deps.Slots
	w.used--
	w.mu.Unlock()
	if full {
		w.deps.Bus.Publish(wake.Ready)
	}
}
