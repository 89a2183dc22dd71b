package storetest

import (
	"flag"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// modelCases compare random interleavings of everything that moves a lane with a model that keeps lanes in memory.
var modelCases = []testCase{
	{"lanes agree with a model", func(t *testing.T, db DB) {
		fewer(t)
		var before []string // replicas of the last world, which may have failed half-way
		rapid.Check(t, func(rt *rapid.T) {
			sweep(rt, db.Store, before)
			w := newWorld(rt, db)
			before = w.replicas
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
	name      string
	sessionID string
	state     string // idle, ready, running
	epoch     int64
	owner     string
	holder    *holder // of the owner
	subs      []*modelSubmission
	entries   int64
	events    int64
	last      *submission.Commit // and its answer, for as long as it can be retried
	answer    submission.Committed
}

type modelSubmission struct {
	id       string
	key      string
	status   submission.Status
	outcome  submission.Outcome
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
func (l *modelLane) own(rt *rapid.T, s store.Store, lease submission.Lease, owner string) {
	head := l.head()
	l.state, l.owner, l.epoch, head.status, l.last = "running", owner, lease.Fence.Epoch, submission.Running, nil
	l.holder = hold(s, lease)
	sub := lease.Submission
	if sub.ID != head.id || sub.Status != submission.Running || sub.Attempts != head.attempts ||
		sub.Stalls != head.stalls || sub.AbortRequested != head.aborted {
		rt.Fatalf("the lease is for %+v, the head is %+v", sub, head)
	}
	if lease.EntryHead != l.entries || lease.EventHead != l.events || lease.Fence.SessionID != l.sessionID {
		rt.Fatalf("the lease has heads %d and %d, the lane %d and %d", lease.EntryHead, lease.EventHead, l.entries,
			l.events)
	}
}

// lose makes the owner's view a zombie's.
func (w *world) lose(l *modelLane, state string) {
	zombie := *l.holder
	w.zombies = append(w.zombies, &zombie)
	l.state, l.owner, l.holder = state, "", nil
}

func (w *world) admit(rt *rapid.T) {
	l := w.any(rt)
	a := admission(l.name)
	if rapid.Bool().Draw(rt, "with an owner") {
		a.Owner = w.replica(rt)
	}
	if rapid.Bool().Draw(rt, "with a key") {
		a.IdempotencyKey = rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(rt, "key")
	}
	s := w.store(rt)
	out := admit(rt, s, a)
	if i := slices.IndexFunc(l.subs, func(s *modelSubmission) bool {
		return s.key != "" &&
			s.key == a.IdempotencyKey
	}); i >= 0 {
		if !out.Replayed || out.Lease != nil || out.Submission.ID != l.subs[i].id {
			rt.Fatalf("a used key was answered by %+v", out)
		}
		return
	}
	l.subs = append(l.subs, &modelSubmission{id: a.ID, key: a.IdempotencyKey})
	if out.Replayed || out.Submission.Seq != int64(len(l.subs)) || out.EventHead != l.events ||
		(out.Lease != nil) != (l.state == "idle" && a.Owner != "") {
		rt.Fatalf("on a lane that is %s: %+v", l.state, out)
	}
	l.sessionID = out.Submission.SessionID
	switch {
	case out.Lease != nil:
		if out.Lease.Fence.Epoch != l.epoch+1 {
			rt.Fatalf("epoch %d follows %d", out.Lease.Fence.Epoch, l.epoch)
		}
		l.entries++
		l.events++
		l.own(rt, s, *out.Lease, a.Owner)
	case l.state == "idle":
		l.state = "ready"
	}
}

func (w *world) byID(id string) *modelLane {
	for _, l := range w.lanes {
		if l.sessionID == id {
			return l
		}
	}
	return nil
}

func (w *world) claim(rt *rapid.T) {
	ready := 0
	for _, l := range w.lanes {
		if l.state == "ready" {
			ready++
		}
	}
	limit := rapid.IntRange(0, 4).Draw(rt, "limit")
	s, owner := w.store(rt), w.replica(rt)
	leases := claim(rt, s, owner, limit)
	if len(leases) != min(limit, ready) {
		rt.Fatalf("claimed %d of %d ready lanes, the limit is %d", len(leases), ready, limit)
	}
	for _, lease := range leases {
		l := w.byID(lease.Fence.SessionID)
		if l == nil || l.state != "ready" || lease.Fence.Epoch != l.epoch+1 {
			rt.Fatalf("claimed %+v, the lane is %+v", lease, l)
		}
		l.own(rt, s, lease, owner)
	}
}

// done applies a commit that was accepted.
func (l *modelLane) done(c submission.Commit, out submission.Committed) {
	l.entries += int64(len(c.Entries))
	l.events += int64(len(c.Events))
	l.last, l.answer = &c, out
	if len(c.Entries) > 0 || c.Progress != nil {
		l.head().stalls = 0
	}
}

func (w *world) commit(rt *rapid.T) {
	l := w.lane(rt, "running")
	c := l.holder.step(rapid.IntRange(0, 3).Draw(rt, "entries"))
	out := l.holder.commit(rt, c)
	if out.Next != nil || out.Ready || out.AbortRequested != l.head().aborted {
		rt.Fatalf("answered %+v", out)
	}
	l.done(c, out)
}

func (w *world) settle(rt *rapid.T) {
	l := w.lane(rt, "running")
	c := l.holder.end(rapid.Bool().Draw(rt, "continue"))
	out := l.holder.commit(rt, c)
	owner := l.owner
	l.done(c, out)
	head := l.head()
	head.status, head.outcome = submission.SettledStatus, submission.Completed
	waits, zombie := l.pending() > 0, *l.holder
	if out.Ready != (waits && !c.Settle.Continue) || (out.Next != nil) != (waits && c.Settle.Continue) ||
		out.AbortRequested != head.aborted {
		rt.Fatalf("%d wait and the answer is %+v", l.pending(), out)
	}
	switch {
	case out.Next != nil:
		if out.Next.Fence != zombie.lease.Fence {
			rt.Fatalf("the next lease has fence %+v", out.Next.Fence)
		}
		l.own(rt, l.holder.s, *out.Next, owner)
		l.last, l.answer = &c, out
	case waits:
		w.lose(l, "ready")
	default:
		w.lose(l, "idle")
	}
}

// retry repeats the last commit, whose answer was lost. Nobody has had the lane since.
func (w *world) retry(rt *rapid.T) {
	l := w.any(rt)
	if l.last == nil {
		rt.Skip("nothing to retry")
	}
	out, err := w.store(rt).Commit(ctx(rt), *l.last)
	ok(rt, err)
	want := l.answer
	if l.last.Settle != nil && want.Next == nil {
		want.Ready = l.state == "ready" // as it is now
	} else if l.last.Settle == nil {
		want.AbortRequested = l.head().aborted
	}
	if want.Next != nil {
		next := *want.Next
		next.Submission.AbortRequested = l.head().aborted
		want.Next = &next
	}
	equal(rt, "the answer to the retry", out, want)
}

func (w *world) release(rt *rapid.T) {
	l := w.lane(rt, "running")
	ok(rt, w.store(rt).Release(ctx(rt), l.holder.lease.Fence))
	l.last = nil
	w.lose(l, "ready")
}

func (w *world) takeOver(rt *rapid.T) {
	heir := w.replica(rt)
	dead := w.replicas[0]
	if dead == heir {
		dead = w.replicas[1]
	}
	owned := 0
	for _, l := range w.lanes {
		if l.state == "running" && l.owner == dead {
			owned++
		}
	}
	s, limit := w.store(rt), rapid.IntRange(1, 3).Draw(rt, "limit")
	leases, err := s.TakeOver(ctx(rt), heir, []string{dead}, limit)
	ok(rt, err)
	if len(leases) != min(limit, owned) {
		rt.Fatalf("took over %d of %d lanes, the limit is %d", len(leases), owned, limit)
	}
	for _, lease := range leases {
		l := w.byID(lease.Fence.SessionID)
		if l == nil || l.owner != dead || lease.Fence.Epoch != l.epoch+1 {
			rt.Fatalf("took over %+v, the lane is %+v", lease, l)
		}
		l.head().attempts++
		l.head().stalls++
		w.lose(l, "running")
		l.own(rt, s, lease, heir)
	}
}

func (w *world) abort(rt *rapid.T) {
	l := w.any(rt)
	if len(l.subs) == 0 {
		rt.Skip("nothing to abort")
	}
	sub := l.subs[rapid.IntRange(0, len(l.subs)-1).Draw(rt, "submission")]
	got := abort(rt, w.store(rt), sub.id)
	switch sub.status {
	case submission.Queued:
		sub.status, sub.outcome, sub.aborted = submission.SettledStatus, submission.Aborted, true
		if l.state == "ready" && l.pending() == 0 {
			l.state = "idle"
		}
	case submission.Running:
		sub.aborted = true
	}
	if got.Status != sub.status || got.Outcome != sub.outcome || got.AbortRequested != sub.aborted {
		rt.Fatalf("aborting answered %+v, want %+v", got, sub)
	}
}

// zombie writes with a view of a lane that was lost, as it is or with the lane's present heads.
func (w *world) zombie(rt *rapid.T) {
	if len(w.zombies) == 0 {
		rt.Skip("no zombie")
	}
	z := *w.zombies[rapid.IntRange(0, len(w.zombies)-1).Draw(rt, "zombie")]
	l := w.byID(z.session())
	if l.epoch == z.lease.Fence.Epoch && l.state == "running" {
		rt.Skip("it owns the lane again: it continued")
	}
	if rapid.Bool().Draw(rt, "guesses the heads") {
		z.lease.EntryHead, z.lease.EventHead = l.entries, l.events
	}
	s := w.store(rt)
	var err error
	switch rapid.IntRange(0, 2).Draw(rt, "write") {
	case 0:
		err = s.Release(ctx(rt), z.lease.Fence)
	case 1:
		c := z.step(1)
		c.Events[0].Text = "zombie"
		_, err = s.Commit(ctx(rt), c)
	case 2:
		c := z.end(rapid.Bool().Draw(rt, "continue"))
		c.Events[0].Text = "zombie"
		_, err = s.Commit(ctx(rt), c)
	}
	refused(rt, err, submission.ErrFenced)
}

// check compares what the store tells with the model.
func (w *world) check(rt *rapid.T) {
	for _, l := range w.lanes {
		if l.sessionID == "" {
			continue
		}
		c := consistent(rt, w.db.Store, l.sessionID)
		if c.Session.EntryHead != l.entries || c.Session.EventHead != l.events || c.Owner != l.owner ||
			len(c.Submissions) != len(l.subs) {
			rt.Fatalf("heads %d and %d, owner %q, %d submissions; the lane is %+v", c.Session.EntryHead,
				c.Session.EventHead, c.Owner, len(c.Submissions), l)
		}
		for _, got := range c.Submissions {
			want := l.subs[got.Seq-1]
			have := modelSubmission{
				id: got.ID, key: got.IdempotencyKey, status: got.Status, outcome: got.Outcome, attempts: got.Attempts, stalls: got.Stalls,
				aborted: got.AbortRequested,
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
func sweep(rt *rapid.T, s store.Store, dead []string) {
	finisher := live(rt, s)
	for _, id := range dead {
		ok(rt, s.RemoveReplica(ctx(rt), id))
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
			if l.state == "ready" {
				for _, lease := range claim(rt, s, finisher, 100) {
					w.byID(lease.Fence.SessionID).own(rt, s, lease, finisher)
				}
			}
			if l.state != "running" {
				rt.Fatalf("nobody can claim a ready lane: %+v", l)
			}
			c := l.holder.end(true)
			out := l.holder.commit(rt, c)
			l.done(c, out)
			head, owner := l.head(), l.owner
			head.status, head.outcome = submission.SettledStatus, submission.Completed
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
