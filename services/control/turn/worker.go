package turn

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const (
	pollEvery = time.Second     // for ready lanes that no hint told of
	reapEvery = time.Second     // for lanes of dead replicas
	hungEvery = 5 * time.Second // for what should have ended
	// overdueGrace is how long an owner may take to end what should have ended. It is longer than ending takes, see
	// cancelLimit.
	overdueGrace = 30 * time.Second
	strayEvery   = 20 * time.Second // for lanes that are owned here and have no run
	standsBack   = 3 * time.Second  // for others to claim what was left to them
	claimAtOnce  = 64
	retryAfter   = time.Second // before a lane is handed back whose run met an error that is not the submission's
)

// Worker owns this process's runs. One incarnation of the replica after the other calls Run.
type Worker struct {
	deps  Deps
	cache *cache
	wake  chan struct{}
	told  atomic.Bool // rows of a session that runs here have changed

	mu    sync.Mutex // guards what follows
	owner string     // the incarnation, "" when there is none or it drains
	ctx   context.Context
	drain chan struct{} // closed when the incarnation drains
	used  int           // slots
	runs  map[string]*run
	group *sync.WaitGroup
	back  time.Time // claim nothing before
}

// NewWorker makes a Worker.
func NewWorker(deps Deps) *Worker {
	return &Worker{deps: deps.withDefaults(), cache: newCache(), wake: make(chan struct{}, 1), runs: map[string]*run{}}
}

// Run is one incarnation: it claims ready lanes, takes over those of dead replicas (those of predecessors in any case)
// and runs them, until ctx ends, when nothing more is written, or drain is closed, when lanes are handed back at their
// next safe point. It returns when no run is left.
func (w *Worker) Run(ctx context.Context, owner string, predecessors []string, drain <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group := &sync.WaitGroup{}
	stop := make(chan struct{})
	w.mu.Lock()
	w.owner, w.ctx, w.drain, w.group = owner, ctx, stop, group
	w.mu.Unlock()

	w.step("taking over", func() {
		if len(predecessors) > 0 {
			w.takeOver(ctx, predecessors)
		}
		w.reap(ctx)
	})
	w.step("supervising", func() { w.supervise(ctx) })
	w.loop(ctx, drain)

	w.mu.Lock()
	w.owner = ""
	w.mu.Unlock()
	if ctx.Err() == nil { // the dead hand nothing back: what they release would not be charged
		close(stop)
	}
	group.Wait()
	return nil
}

func (w *Worker) loop(ctx context.Context, drain <-chan struct{}) {
	poll, reap, hung := time.NewTicker(jitter(pollEvery)), time.NewTicker(jitter(reapEvery)), time.NewTicker(jitter(hungEvery))
	stray := time.NewTicker(jitter(strayEvery))
	defer poll.Stop()
	defer reap.Stop()
	defer hung.Stop()
	defer stray.Stop()
	var strays map[submission.Fence]bool
	checkAborts := func() { w.checkAborts(ctx) }
	claim := func() { w.claim(ctx) }
	w.step("claiming", claim)
	for {
		select {
		case <-ctx.Done():
			return
		case <-drain:
			return
		case <-w.wake:
			if w.told.Swap(false) {
				w.step("looking for aborts", checkAborts)
			}
		case <-poll.C:
			w.step("looking for aborts", checkAborts)
		case <-reap.C:
			w.step("reaping", func() { w.reap(ctx) })
			continue // what is ready is looked for often enough
		case <-hung.C:
			w.step("supervising", func() { w.supervise(ctx) })
			continue
		case <-stray.C:
			w.step("looking for lanes without a run", func() { strays = w.recall(ctx, strays) })
			continue
		}
		w.step("claiming", claim)
	}
}

// step is one piece of the loop's work. The loop goes on after a panic in it: the next step of its kind tries again.
func (w *Worker) step(doing string, f func()) { contain.Run(w.deps.Log, doing, f) }

// reap takes the lanes of dead replicas.
func (w *Worker) reap(ctx context.Context) {
	if w.deps.MayReap() {
		w.takeOver(ctx, nil)
	}
}

// supervise takes lanes from owners that hang, this one included. That takes no free slot: what hangs may have them
// all.
func (w *Worker) supervise(ctx context.Context) {
	w.mu.Lock()
	owner := w.owner
	w.mu.Unlock()
	leases, err := w.deps.Store.TakeOverdue(ctx, owner, overdueGrace, claimAtOnce)
	if err != nil && ctx.Err() == nil {
		w.deps.Log.Error("looking for overdue submissions failed", "error", err)
	}
	w.mu.Lock()
	w.used += len(leases)
	w.mu.Unlock()
	for _, l := range leases {
		w.deps.Log.Warn("a submission was not ended in time, ending it", "session_id", l.Fence.SessionID,
			"submission_id", l.Submission.ID, "epoch", l.Fence.Epoch)
		w.start(l, false)
	}
}

// recall gives back the lanes that this incarnation owns without having a run for them: they were taken, and the answer
// that said so was lost. before are those that it found the last time: a claim that is under way looks the same.
func (w *Worker) recall(ctx context.Context, before map[submission.Fence]bool) map[submission.Fence]bool {
	w.mu.Lock()
	owner := w.owner
	w.mu.Unlock()
	lanes, err := w.deps.Store.OwnedLanes(ctx, owner)
	if err != nil && ctx.Err() == nil {
		w.deps.Log.Error("looking for lanes without a run failed", "error", err)
	}
	found := map[submission.Fence]bool{}
	for _, f := range lanes {
		switch {
		case w.find(f.SessionID) != nil:
		case !before[f]:
			found[f] = true
		default:
			w.deps.Log.Warn("a session was owned and not run, handing it back", "session_id", f.SessionID, "epoch",
				f.Epoch)
			if err := w.deps.Store.Release(ctx, f); err != nil && !errors.Is(err, submission.ErrFenced) {
				w.deps.Log.Error("handing a lane back failed", "session_id", f.SessionID, "error", err)
				found[f] = true
			}
			w.Wake()
		}
	}
	return found
}

func jitter(d time.Duration) time.Duration { return d + rand.N(d/5) }

func (w *Worker) claim(ctx context.Context) {
	w.mu.Lock()
	back := w.back
	w.mu.Unlock()
	if time.Now().Before(back) {
		return // the poll comes again
	}
	w.lease(ctx, "claim", func(owner string, n int) ([]submission.Lease, error) {
		return w.deps.Store.Claim(ctx, owner, n)
	})
}

// deferClaims lets the other replicas claim first, for a moment.
func (w *Worker) deferClaims() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back = time.Now().Add(standsBack)
}

func (w *Worker) takeOver(ctx context.Context, dead []string) {
	w.lease(ctx, "take over", func(owner string, n int) ([]submission.Lease, error) {
		leases, err := w.deps.Store.TakeOver(ctx, owner, dead, n)
		for _, l := range leases {
			w.deps.Log.InfoContext(ctx, "submission taken over", "submission_id", l.Submission.ID, "session_id",
				l.Fence.SessionID,
				"epoch", l.Fence.Epoch, "attempts", l.Submission.Attempts, "reason", "its owner is dead")
		}
		return leases, err
	})
}

// lease gets leases while there are both lanes and free slots. how is for the log.
func (w *Worker) lease(ctx context.Context, how string, get func(owner string, n int) ([]submission.Lease, error)) {
	for ctx.Err() == nil {
		owner, n := w.reserve(claimAtOnce)
		if n == 0 {
			return
		}
		var leases []submission.Lease
		err := contain.Do(func() (err error) { leases, err = get(owner, n); return err })
		if err != nil && ctx.Err() == nil {
			w.deps.Log.Error("leasing lanes failed", "reason", how, "error", err)
		}
		w.unused(n - len(leases))
		for _, l := range leases {
			w.start(l, false)
		}
		if len(leases) < n {
			return
		}
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
		w.Wake()
	}
}

// Reserve takes a slot for a lease that an admission may get; Start or Unreserve must follow.
func (w *Worker) Reserve() (owner string, ok bool) {
	owner, n := w.reserve(1)
	return owner, n == 1
}

// Unreserve gives a slot back.
func (w *Worker) Unreserve() { w.free() }

// Start runs the lease that an admission got, in its reserved slot.
func (w *Worker) Start(l submission.Lease) { w.start(l, true) }

// start runs a lease. One of an incarnation that has ended is left to its successor.
func (w *Worker) start(l submission.Lease, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ctx.Err() != nil {
		w.used--
		return
	}
	r := newRun(w, l, fresh)
	ctx, cancel := context.WithCancel(w.ctx)
	r.cancel = cancel
	if old := w.runs[l.Fence.SessionID]; old != nil {
		old.cancel() // it has lost the lane
	}
	w.runs[l.Fence.SessionID] = r
	w.group.Add(1)
	go func(ctx context.Context, drain <-chan struct{}, group *sync.WaitGroup) {
		defer group.Done()
		defer cancel()
		defer w.ended(r)
		err := contain.Do(func() error { return r.drive(ctx, drain) })
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.Is(err, submission.ErrFenced):
			w.deps.Log.Warn("lost a session to another owner", "session_id", r.id(), "epoch", r.fence.Epoch)
			r.abandon(ctx, err)
		default:
			w.deps.Log.Error("running a submission failed, it is tried again", "session_id", r.id(), "submission_id",
				r.sub.ID, "error", err)
			r.abandon(ctx, err)
		}
	}(ctx, w.drain, w.group)
}

func (w *Worker) ended(r *run) {
	w.mu.Lock()
	if w.runs[r.id()] == r {
		delete(w.runs, r.id())
	}
	w.mu.Unlock()
	w.free()
}

// Wake says that ready lanes may exist.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Worker) find(sessionID string) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[sessionID]
}

// Owns reports whether a run of this process has the lane.
func (w *Worker) Owns(laneID string) bool { return w.find(laneID) != nil }

// Deliver hands an executor's report to the run that owns its session; false when none here does, or it does not wait
// for the call.
func (w *Worker) Deliver(r call.Report) bool {
	run := w.find(r.LaneID)
	return run != nil && run.inbox.post(r)
}

// Interrupt says that an abort was requested for a submission. Whatever the session runs by now instead goes on.
func (w *Worker) Interrupt(sessionID, submissionID string) {
	if r := w.find(sessionID); r != nil {
		r.aborted.Store(submissionID)
		r.inbox.nudge()
	}
}

// Changed says that rows of the sessions changed elsewhere, of all when sessionIDs is nil.
func (w *Worker) Changed(sessionIDs []string) {
	if sessionIDs == nil {
		w.FleetChanged()
	}
	for _, id := range sessionIDs {
		if r := w.find(id); r != nil {
			r.inbox.nudge()
			w.told.Store(true)
		}
	}
	w.Wake()
}

// FleetChanged says that an executor came or went.
func (w *Worker) FleetChanged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		r.inbox.nudge()
	}
}

// checkAborts finds aborts that were requested at other replicas.
func (w *Worker) checkAborts(ctx context.Context) {
	w.mu.Lock()
	owner, n := w.owner, len(w.runs)
	w.mu.Unlock()
	if owner == "" || n == 0 {
		return
	}
	requests, err := w.deps.Store.AbortRequests(ctx, owner)
	if err != nil && ctx.Err() == nil {
		w.deps.Log.Error("looking for aborts failed", "error", err)
	}
	for _, a := range requests {
		w.Interrupt(a.SessionID, a.SubmissionID)
	}
}
