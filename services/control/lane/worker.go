package lane

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/wake"
)

const (
	lookEvery  = time.Second // at due lanes, at the lanes that run here, at those of dead replicas, at mail
	forceLooks = 5           // of these to one at heads that nobody ends
	// hintEvery is how often hints may make a replica look at the lanes that run here.
	hintEvery   = 100 * time.Millisecond
	yieldFor    = 3 * time.Second // in which others can claim what was left to them
	claimAtOnce = 64
	// releaseLimit bounds one attempt to hand a lane back.
	releaseLimit = 5 * time.Second
)

// Worker owns this process's lanes. One incarnation of the replica after the other calls Run.
type Worker struct {
	deps  Deps
	looks looks        // of the incarnation that runs, and of those before it
	look  await.Signal // rows of lanes that run here may have changed
	mail  await.Signal // mail was posted here
	// troubles are of loops that ran here.
	troubles troubles

	mu    sync.Mutex // guards what follows
	owner string     // the incarnation, "" when there is none or it drains
	ctx   context.Context
	drain chan struct{} // closed when the incarnation drains
	used  int           // slots
	runs  map[string]*held
	group *sync.WaitGroup
	back  time.Time // claim nothing before
	// behind says that lanes wait for slots: who comes now waits with them, and the store says whose turn it is.
	behind bool
}

// NewWorker makes a Worker.
func NewWorker(deps Deps) *Worker {
	return &Worker{
		deps: deps.withDefaults(), look: await.NewSignal(), mail: await.NewSignal(), runs: map[string]*held{},
	}
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

	watch := &watch{worker: w, looks: &w.looks}
	w.step("taking over", func() {
		if len(predecessors) > 0 {
			w.takeOver(ctx, predecessors)
		}
		if watch.own(ctx) {
			watch.reap(ctx)
		}
	})
	w.loop(ctx, drain, watch)

	w.mu.Lock()
	w.owner = ""
	if ctx.Err() == nil { // the dead hand nothing back: what they release would not be charged
		close(stop)
		for _, h := range w.runs {
			h.run.Drain()
		}
	}
	w.mu.Unlock()
	group.Wait() // start, which locks too, adds nothing any more
	return nil
}

func (w *Worker) loop(ctx context.Context, drain <-chan struct{}, watch *watch) {
	look, looks := time.NewTicker(jitter(lookEvery)), 0
	defer look.Stop()
	ready, fleet := w.deps.Bus.Subscribe(wake.Ready), w.deps.Bus.SubscribeFunc(w.nudge, wake.AnyExecutor)
	defer ready.Close()
	defer fleet.Close()
	due, pause := time.NewTimer(0), time.NewTimer(0)
	defer due.Stop()
	defer pause.Stop()
	var hints <-chan struct{} // nil for a while after a look that one has caused
	for {
		select {
		case <-ctx.Done():
			return
		case <-drain:
			return
		case <-due.C:
			due.Reset(w.claim(ctx))
		case <-ready.C:
			due.Reset(w.claim(ctx))
		case <-w.mail:
			w.moveMail(ctx)
		case <-pause.C:
			hints = w.look
		case <-hints:
			hints = nil
			pause.Reset(hintEvery)
			watch.own(ctx)
		case <-look.C:
			w.troubles.expire(time.Now())
			w.moveMail(ctx)
			if !watch.own(ctx) {
				continue
			}
			watch.reap(ctx)
			if looks++; looks%forceLooks == 0 {
				watch.force(ctx)
			}
		}
	}
}

// step is one piece of the loop's work. The loop goes on after a panic in it: the next piece of its kind tries again.
func (w *Worker) step(doing string, f func()) { contain.Run(w.deps.Log, doing, f) }

func jitter(d time.Duration) time.Duration { return d + rand.N(d/5) }

// Reserve takes a slot for a lease that an admission may get; Start or Unreserve must follow. Nobody gets one before
// those that wait for slots.
func (w *Worker) Reserve() (owner string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used >= w.deps.Slots {
		w.behind = true
	}
	if w.owner == "" || w.behind {
		return "", false
	}
	w.used++
	return w.owner, true
}

// Unreserve gives a slot back.
func (w *Worker) Unreserve() { w.free() }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (w *Worker) find(laneID string) *held {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[laneID]
}

// Owns reports whether a run of this process has the lane. It becomes false when a look at the rows, every second,
// finds that the lane is another's; the run ends a little later.
func (w *Worker) Owns(laneID string) bool {
	h := w.find(laneID)
	return h != nil && !h.gone.Load()
}

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
