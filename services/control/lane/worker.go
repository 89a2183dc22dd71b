package lane

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/wake"
)

const (
	lookEvery  = time.Second // at due lanes, at the lanes that run here, at those of dead replicas, at mail
	forceEvery = 5 * time.Second
	// looksToBelieve is how many looks at the rows in a row have to find the same before it is believed: a claim or a
	// settlement that is under way looks like a lane without a run, or a run without a lane.
	looksToBelieve = 3
	standsBack     = 3 * time.Second // for others to claim what was left to them
	claimAtOnce    = 64
)

// Worker owns this process's lanes. One incarnation of the replica after the other calls Run.
type Worker struct {
	deps  Deps
	clock clock         // of the incarnation that runs, and of those before it
	look  chan struct{} // rows of lanes that run here may have changed

	mu    sync.Mutex // guards what follows
	owner string     // the incarnation, "" when there is none or it drains
	ctx   context.Context
	drain chan struct{} // closed when the incarnation drains
	used  int           // slots
	runs  map[string]*held
	group *sync.WaitGroup
	back  time.Time // claim nothing before
}

// held is a lane that runs here.
type held struct {
	*Owner
	run   Run
	wakes *wake.Subscription // to changes of the lane that somebody else has made
}

// NewWorker makes a Worker.
func NewWorker(deps Deps) *Worker {
	return &Worker{deps: deps.withDefaults(), look: make(chan struct{}, 1), runs: map[string]*held{}}
}

// Run is one incarnation: it claims due lanes, takes over those of dead replicas (those of predecessors in any case)
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

	watch := &watch{worker: w, clock: &w.clock}
	w.step("taking over", func() {
		if len(predecessors) > 0 {
			w.takeOver(ctx, predecessors)
		}
		watch.own(ctx)
		watch.reap(ctx)
	})
	w.loop(ctx, drain, watch)

	w.mu.Lock()
	w.owner = ""
	w.mu.Unlock()
	if ctx.Err() == nil { // the dead hand nothing back: what they release would not be charged
		close(stop)
	}
	group.Wait()
	return nil
}

func (w *Worker) loop(ctx context.Context, drain <-chan struct{}, watch *watch) {
	look, force := time.NewTicker(jitter(lookEvery)), time.NewTicker(jitter(forceEvery))
	defer look.Stop()
	defer force.Stop()
	ready, fleet := w.deps.Bus.Subscribe(wake.Ready), w.deps.Bus.SubscribeFunc(w.nudge, wake.AnyExecutor)
	defer ready.Close()
	defer fleet.Close()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-drain:
			return
		case <-due.C:
			w.step("claiming", func() { due.Reset(w.claim(ctx)) })
		case <-ready.C:
			w.step("claiming", func() { due.Reset(w.claim(ctx)) })
		case <-w.look:
			w.step("looking at the lanes that run here", func() { watch.own(ctx) })
		case <-look.C:
			w.step("moving mail", func() { w.moveMail(ctx) })
			w.step("looking at the lanes that run here", func() { watch.own(ctx) })
			w.step("reaping", func() { watch.reap(ctx) })
		case <-force.C:
			w.step("supervising", func() { watch.force(ctx) })
		}
	}
}

// step is one piece of the loop's work. The loop goes on after a panic in it: the next step of its kind tries again.
func (w *Worker) step(doing string, f func()) { contain.Run(w.deps.Log, doing, f) }

func jitter(d time.Duration) time.Duration { return d + rand.N(d/5) }

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

// claim takes due lanes while there are free slots. Every kind gets at most its share in a round, so that one kind's
// timers do not keep another kind's prompts waiting. It returns when the next look is worth while.
func (w *Worker) claim(ctx context.Context) time.Duration {
	w.mu.Lock()
	back := w.back
	w.mu.Unlock()
	if wait := time.Until(back); wait > 0 {
		return wait
	}
	next := lookEvery
	for again := true; again && ctx.Err() == nil; {
		again = false
		share := w.share()
		for kind := range w.deps.Runners {
			got, n := w.lease(ctx, "claim", share, func(owner string, n int) (Claimed, error) {
				return w.deps.Store.Claim(ctx, owner, kind, n)
			})
			again = again || n > 0 && len(got.Leases) == n
			if n > 0 {
				next = min(next, max(got.Next, 0))
			}
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

// deferClaims lets the other replicas claim first, for a moment.
func (w *Worker) deferClaims() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back = time.Now().Add(standsBack)
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
		return Claimed{Next: lookEvery}, 0
	}
	w.unused(n - len(got.Leases))
	for _, u := range got.Unreadable {
		w.deps.Log.Error("a submission's row cannot be read: it was settled as interrupted", "lane_id", u.LaneID,
			"submission_id", u.HeadID, "error", u.Err)
		w.settled(u.Ended)
	}
	for _, l := range got.Leases {
		w.start(l, false)
	}
	return got, n
}

// settled tells of a head that was settled from rows.
func (w *Worker) settled(e Ended) {
	w.deps.Events.Publish(e.Key, e.Events)
	w.deps.Bus.Announce(e.LaneID)
	if e.Ready {
		w.deps.Bus.Publish(wake.Ready)
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

// Reserve takes a slot for a lease that an admission may get; Start or Unreserve must follow.
func (w *Worker) Reserve() (owner string, ok bool) {
	owner, n := w.reserve(1)
	return owner, n == 1
}

// Unreserve gives a slot back.
func (w *Worker) Unreserve() { w.free() }

// Start runs the lease that an admission got, in its reserved slot. If the process has drained meanwhile, the lane is
// handed back: a take-over would be charged.
func (w *Worker) Start(l Lease) {
	if w.start(l, true) || !w.drained() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
	defer cancel()
	if err := w.deps.Store.Release(ctx, l.Fence, Release{}); err != nil && !errors.Is(err, ErrFenced) {
		w.deps.Log.Warn("handing a lane back failed", "lane_id", l.Fence.LaneID, "error", err)
	}
	w.deps.Bus.Announce(l.Fence.LaneID)
}

// drained reports whether the incarnation was told to end, rather than dying.
func (w *Worker) drained() bool {
	w.mu.Lock()
	drain := w.drain
	w.mu.Unlock()
	select {
	case <-drain:
		return true
	default:
		return false
	}
}

// start runs a lease; false for one of an incarnation that has ended or drains. That of a dead one is left to its
// successor.
func (w *Worker) start(l Lease, fresh bool) bool {
	drained := w.drained()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ctx.Err() != nil || drained {
		w.used--
		return false
	}
	o := newOwner(w, l)
	h := &held{Owner: o}
	if old := w.runs[l.Fence.LaneID]; old != nil {
		old.cancel() // it has lost the lane
	}
	w.runs[l.Fence.LaneID] = h
	h.run = w.deps.Runners[l.Kind].Begin(o, fresh)
	h.wakes = w.deps.Bus.SubscribeFunc(func() { h.run.Nudge(); signal(w.look) }, wake.Lane(l.Fence.LaneID))
	w.group.Go(func() { w.drive(h) })
	return true
}

// drive is a run from beginning to end.
func (w *Worker) drive(h *held) {
	defer h.cancel()
	defer w.ended(h)
	l := h.Lease()
	err := errSpent
	if root := l.Root(); root.Stalls < stallsToEnd {
		err = contain.Do(func() error { return h.run.Drive(h.ctx) })
	} else if root.StallCause != "" {
		err = errors.New(root.StallCause)
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

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *Worker) find(laneID string) *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[laneID]
}

// Owns reports whether a run of this process has the lane.
func (w *Worker) Owns(laneID string) bool { return w.find(laneID) != nil }

// Deliver hands an executor's report to the run of its lane; false when none here has it, or it does not wait for the
// call.
func (w *Worker) Deliver(r call.Report) bool {
	h := w.find(r.LaneID)
	return h != nil && h.run.Deliver(r)
}

// nudge says to every run that an executor came or went.
func (w *Worker) nudge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.runs {
		h.run.Nudge()
	}
}
