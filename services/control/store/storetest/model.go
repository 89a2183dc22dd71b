package storetest

import (
	"flag"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// modelCases compare random interleavings of everything that moves a lane with a model that keeps lanes in memory.
var modelCases = []testCase{
	{"lanes agree with a model", func(t *testing.T, db DB) {
		fewer(t)
		before := &world{} // which may have failed half-way
		rapid.Check(t, func(rt *rapid.T) {
			sweep(rt, db.Store, before.replicas, before.lanes)
			w := newWorld(rt, db)
			before = w
			w.run(rt)
		})
	}},
}

// fewer makes do with fewer interleavings when each is slow, unless -rapid.checks says how many.
func fewer(t *testing.T) {
	f := flag.Lookup("rapid.checks")
	if !raceEnabled || f == nil || f.Value.String() != f.DefValue {
		return
	}
	ok(t, f.Value.Set("15"))
	t.Cleanup(func() { ok(t, f.Value.Set(f.DefValue)) })
}

// world is the model: two replicas and three lanes.
type world struct {
	db       DB
	replicas []string
	lanes    []*modelLane
	zombies  []*holder // views of lanes that were lost
}

// modelLane is a lane as the documents describe it.
type modelLane struct {
	name     string
	id       string
	state    string // idle, due, parked, running
	epoch    int64
	mail     int64
	owner    string
	holder   *holder // of the owner
	subs     []*modelSubmission
	children []*modelChild // the sub-agents that are open
	entries  int64
	events   int64
	last     *draft // and its answer, for as long as it can be retried
	answer   lane.Committed
}

type modelChild struct {
	id      string
	stalls  int
	entries int64
}

type modelSubmission struct {
	id       string
	key      string
	status   submission.Status
	outcome  lane.Outcome
	attempts int
	stalls   int
	aborted  bool
}

func newWorld(rt *rapid.T, db DB) *world {
	w := &world{db: db}
	for range 2 {
		w.replicas = append(w.replicas, live(rt, db.Store))
	}
	for range 3 {
		w.lanes = append(w.lanes, &modelLane{name: ident.New(), state: "idle"})
	}
	return w
}

func (w *world) run(rt *rapid.T) {
	rt.Repeat(map[string]func(*rapid.T){
		"admit":    w.admit,
		"claim":    w.claim,
		"commit":   w.commit,
		"settle":   w.settle,
		"retry":    w.retry,
		"release":  w.release,
		"stall":    w.stall,
		"end":      w.end,
		"raise":    w.raise,
		"park":     w.park,
		"mail":     w.mail,
		"begin":    w.begin,
		"child":    w.child,
		"takeover": w.takeOver,
		"abort":    w.abort,
		"zombie":   w.zombie,
		"":         w.check,
	})
	w.drain(rt)
	w.check(rt)
	for _, l := range w.lanes {
		for _, s := range l.subs {
			if s.status != submission.SettledStatus {
				rt.Errorf("submission %s never settled", s.id)
			}
		}
	}
}

func (w *world) store(rt *rapid.T) store.Store {
	return either(w.db, rapid.IntRange(0, 1).Draw(rt, "handle"))
}

func (w *world) replica(rt *rapid.T) string {
	return w.replicas[rapid.IntRange(0, 1).Draw(rt, "replica")]
}

// lane draws a lane in one of the states, or skips.
func (w *world) lane(rt *rapid.T, states ...string) *modelLane {
	var fit []*modelLane
	for _, l := range w.lanes {
		if slices.Contains(states, l.state) {
			fit = append(fit, l)
		}
	}
	if len(fit) == 0 {
		rt.Skip("no such lane")
	}
	return fit[rapid.IntRange(0, len(fit)-1).Draw(rt, "lane")]
}

// any draws a lane in any state.
func (w *world) any(rt *rapid.T) *modelLane {
	return w.lanes[rapid.IntRange(0, len(w.lanes)-1).Draw(rt, "lane")]
}

func (l *modelLane) pending() (n int) {
	for _, s := range l.subs {
		if s.status != submission.SettledStatus {
			n++
		}
	}
	return n
}

// head is the first submission that has not settled.
func (l *modelLane) head() *modelSubmission {
	for _, s := range l.subs {
		if s.status != submission.SettledStatus {
			return s
		}
	}
	return nil
}

// own makes the lease's holder the owner.
func (l *modelLane) own(rt *rapid.T, s store.Store, lease lane.Lease, owner string) {
	head := l.head()
	l.state, l.owner, l.epoch, head.status, l.last = "running", owner, lease.Fence.Epoch, submission.Running, nil
	l.holder = hold(s, lease)
	root := lease.Root()
	if root.ID != head.id || root.Attempts != head.attempts || root.Stalls != head.stalls ||
		(lease.Ends.Why == lane.Abort) != head.aborted {
		rt.Fatalf("the lease is for %+v, the head is %+v", root, head)
	}
	if root.EntryHead != l.entries || lease.EventHead != l.events || lease.Fence.LaneID != l.id || lease.Mail != l.mail {
		rt.Fatalf("the lease is %+v, the lane %+v", lease, l)
	}
	if len(lease.Loops) != 1+len(l.children) {
		rt.Fatalf("%d loops are open, want %d", len(lease.Loops), 1+len(l.children))
	}
	for i, c := range l.children {
		if got := lease.Loops[i+1]; got.ID != c.id || got.Stalls != c.stalls || got.EntryHead != c.entries {
			rt.Fatalf("sub-agent %+v, want %+v", got, c)
		}
	}
}

// lose makes the owner's view a zombie's.
func (w *world) lose(l *modelLane, state string) {
	zombie := *l.holder
	w.zombies = append(w.zombies, &zombie)
	l.state, l.owner, l.holder = state, "", nil
	if zombie.root().ID != l.headID() {
		l.children = nil
	}
}

func (l *modelLane) headID() string {
	if s := l.head(); s != nil {
		return s.id
	}
	return ""
}

// check compares what the store tells with the model.
func (w *world) check(rt *rapid.T) {
	for _, l := range w.lanes {
		if l.id == "" {
			continue
		}
		c := consistent(rt, w.db.Store, l.id)
		if c.Session.EntryHead != l.entries || c.Session.EventHead != l.events || c.Owner != l.owner ||
			len(c.Submissions) != len(l.subs) {
			rt.Fatalf("heads %d and %d, owner %q, %d submissions; the lane is %+v", c.Session.EntryHead,
				c.Session.EventHead, c.Owner, len(c.Submissions), l)
		}
		for _, got := range c.Submissions {
			want := l.subs[got.Seq-1]
			have := modelSubmission{
				id: got.ID, key: got.IdempotencyKey, status: got.Status, outcome: got.Outcome, attempts: got.Attempts,
				stalls: got.Stalls, aborted: got.AbortRequested,
			}
			if have != *want {
				rt.Fatalf("submission %d is %+v, want %+v", got.Seq, have, *want)
			}
		}
		epoch := ""
		for _, e := range c.Events { // epochs never interleave
			if e.Text != "" && e.Text < epoch && len(e.Text) == len(epoch) {
				rt.Fatalf("an event of %s follows one of %s", e.Text, epoch)
			}
			epoch = e.Text
		}
	}
}

// sweep ends what another world has left.
func sweep(rt *rapid.T, s store.Store, dead []string, lanes []*modelLane) {
	finisher := live(rt, s)
	for _, id := range dead {
		ok(rt, s.RemoveReplica(ctx(rt), id))
	}
	for _, l := range lanes {
		if l.id != "" {
			mail(rt, s, l.id) // it may rest
		}
	}
	for _, l := range append(takeOver(rt, s, finisher, dead...), claim(rt, s, finisher, 100)...) {
		for next := &l; next != nil; {
			h := hold(s, *next)
			next = h.commit(rt, h.end(true)).Next
		}
	}
}

// drain ends all work, as a healthy replica would.
func (w *world) drain(rt *rapid.T) {
	s := w.db.Store
	finisher := live(rt, s)
	for _, l := range w.lanes {
		for l.state != "idle" {
			if l.state == "parked" {
				mail(rt, s, l.id)
				l.woken()
			}
			if l.state == "due" {
				for _, lease := range claim(rt, s, finisher, 100) {
					w.byID(lease.Fence.LaneID).own(rt, s, lease, finisher)
				}
			}
			if l.state != "running" {
				rt.Fatalf("nobody can claim a lane that is due: %+v", l)
			}
			head, owner := l.head(), l.owner
			out := l.write(rt, l.holder.end(true))
			head.status, head.outcome, l.children = submission.SettledStatus, lane.Completed, nil
			if out.Next != nil {
				l.own(rt, l.holder.s, *out.Next, owner)
			} else {
				w.lose(l, "idle")
			}
		}
		if l.pending() > 0 {
			rt.Fatalf("%d submissions are stranded behind an idle lane", l.pending())
		}
	}
	for _, id := range append(w.replicas, finisher) {
		ok(rt, s.RemoveReplica(ctx(rt), id))
	}
}
