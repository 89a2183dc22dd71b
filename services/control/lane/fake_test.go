package lane

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// rows is a Store that says what a test wants, and remembers what it was asked.
type rows struct {
	mu sync.Mutex // guards what follows
	state
}

type state struct {
	due      map[Kind][]Lease
	next     time.Duration
	orphans  []Lease
	owned    []Held
	away     error // of looks at what is owned
	forced   []Ended
	mailed   []Mailed
	claimed  []string // "kind limit"
	commits  []Commit
	released []Release
	ended    []string // causes
	commit   func(Commit) (Committed, error)
	release  func() error
	asked    map[string]int // of operations, by name

	unreadable []Unreadable // that the next claim settles
}

// count notes an operation. mu is held.
func (r *rows) count(op string) {
	if r.asked == nil {
		r.asked = map[string]int{}
	}
	r.asked[op]++
}

// askedFor is how often an operation was asked for, and begins to count anew.
func (r *rows) askedFor() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

func (r *rows) Claim(_ context.Context, _ string, kind Kind, limit int) (Claimed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count("Claim")
	n := min(limit, len(r.due[kind]))
	got := Claimed{Leases: r.due[kind][:n], Next: Never, Unreadable: r.unreadable}
	r.unreadable = nil
	r.due[kind] = r.due[kind][n:]
	if r.next > 0 {
		got.Next = r.next
	}
	r.claimed = append(r.claimed, fmt.Sprint(kind, " ", limit))
	return got, nil
}

func (r *rows) TakeOver(_ context.Context, _ string, _ []string, limit int) (Claimed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count("TakeOver")
	n := min(limit, len(r.orphans))
	got := Claimed{Leases: r.orphans[:n], Next: Never}
	r.orphans = r.orphans[n:]
	return got, nil
}

func (r *rows) Commit(_ context.Context, c Commit) (Committed, error) {
	r.mu.Lock()
	r.commits = append(r.commits, c)
	f := r.commit
	r.mu.Unlock()
	if f == nil {
		return Committed{Ends: Ends{In: Never}}, nil
	}
	return f(c)
}

func (r *rows) Own(context.Context, string) ([]Held, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count("Own")
	return r.owned, r.away
}

func (r *rows) Release(_ context.Context, f Fence, x Release) error {
	if answer := r.now().release; answer != nil {
		if err := answer(); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released = append(r.released, x)
	r.owned = slices.DeleteFunc(slices.Clone(r.owned), func(h Held) bool { return h.Fence == f })
	return nil
}

func (r *rows) End(_ context.Context, f Fence, o Outcome, reason, message string) (Ended, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, fmt.Sprint(o, " ", reason, " ", message))
	return Ended{LaneID: f.LaneID}, nil
}

func (r *rows) Force(context.Context, int) ([]Ended, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count("Force")
	return r.forced, nil
}

func (r *rows) Raise(_ context.Context, f Fence, above int64) (Fence, error) {
	return Fence{f.LaneID, above + 1}, nil
}

func (r *rows) Post(context.Context, ...string) error { return nil }

func (r *rows) MoveMail(context.Context) ([]Mailed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count("MoveMail")
	m := r.mailed
	r.mailed = nil
	return m, nil
}

// now is what the rows are, and were asked, so far.
func (r *rows) now() state {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// say changes what the rows are.
func (r *rows) say(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// work is a Runner whose runs do what a test wants.
type work struct {
	mu     sync.Mutex // guards what follows
	drive  func(ctx context.Context, o *Owner) error
	owners []*Owner
	drains map[*Owner]chan struct{} // closed by Drain
	nudges int
}

type job struct {
	*work
	o *Owner
}

func (w *work) Begin(o *Owner, _ bool) Run {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owners, w.drains[o] = append(w.owners, o), make(chan struct{})
	return job{w, o}
}

func (j job) Drive(ctx context.Context) error { return j.drive(ctx, j.o) }
func (j job) Deliver(r call.Report) bool      { return r.CallID == "mine" }
func (j job) Drain()                          { close(j.draining(j.o)) }
func (j job) Nudge() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.nudges++
}

func (w *work) draining(o *Owner) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drains[o]
}

func (w *work) now() (owners []*Owner, nudges int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.owners, w.nudges
}

// tape is a Publisher, and hears what other replicas are told.
type tape struct {
	mu sync.Mutex // guards what follows
	taped
}

type taped struct {
	events []event.Event
	told   []string
	jams   bool
}

func (t *tape) now() taped {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taped
}

func (t *tape) Publish(_ string, _ session.Key, events []event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.jams {
		panic("the tape jams")
	}
	t.events = append(t.events, events...)
}

func (t *tape) hear(ids ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = append(t.told, ids...)
}

func lease(id string) Lease {
	return Lease{
		Fence: Fence{id, 1}, Kind: KindSession, Loops: []Loop{{ID: "root of " + id, LaneID: id}},
		Ends: Ends{In: Never},
	}
}

// world is a Worker over fakes.
func world(deps Deps) (*Worker, *rows, *work, *tape) {
	r, k, t := &rows{state: state{due: map[Kind][]Lease{}}}, &work{drains: map[*Owner]chan struct{}{}}, &tape{}
	k.drive = func(ctx context.Context, o *Owner) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.draining(o):
			return o.HandBack(ctx)
		}
	}
	deps.Store, deps.Events, deps.Bus, deps.Log = r, t, wake.NewBus(t.hear), slog.New(slog.DiscardHandler)
	if deps.Runners == nil {
		deps.Runners = map[Kind]Runner{KindSession: k}
	}
	return NewWorker(deps), r, k, t
}

// owner is an Owner of a lane outside of a worker's care.
func owner(ctx context.Context, l Lease) (*Owner, *rows, *tape) {
	w, r, _, t := world(Deps{})
	w.ctx = ctx
	return newOwner(w, l), r, t
}
