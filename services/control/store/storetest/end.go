package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func force(t tester, s store.Store) []lane.Ended {
	t.Helper()
	ended, err := s.Force(ctx(t), 100)
	ok(t, err)
	return ended
}

// startWithin is start with a timeout.
func startWithin(t tester, s store.Store, name, owner string, timeout time.Duration) *holder {
	t.Helper()
	a := admission(name)
	a.Owner, a.Timeout = owner, timeout
	return hold(s, *admit(t, s, a).Lease)
}

// endedFromRows checks what a head's settlement from rows leaves behind.
func endedFromRows(t tester, db DB, h *holder, got lane.Ended, want lane.Settlement) submission.Submission {
	t.Helper()
	sub := get(t, db.Store, h.id())
	if sub.Status != submission.SettledStatus || sub.Outcome != want.Outcome || sub.Reason != want.Reason ||
		sub.Message == "" || sub.SettledAt.IsZero() || sub.Usage != want.Usage {
		t.Errorf("it is settled as %+v", sub)
	}
	equal(t, "the cancellation", sub.Cancellation, want.Cancellation)
	if got.HeadID != h.id() || got.LaneID != h.session() || got.Key != h.root().Key || len(got.Events) != 1 {
		t.Fatalf("ended %+v", got)
	}
	equal(t, "the event's settlement", got.Events[0].Settlement, &event.Settlement{
		Outcome: string(want.Outcome), Reason: want.Reason, Message: sub.Message, Usage: want.Usage, Turn: sub.Turn,
		Cancellation: want.Cancellation,
	})
	c := consistent(t, db.Second, h.session())
	last := c.Events[len(c.Events)-1]
	got.Events[0].Time, last.Time = time.Time{}, time.Time{}
	equal(t, "the event", last, got.Events[0])
	if last.Type != event.Settled || last.SubmissionID != h.id() || c.Owner != "" {
		t.Errorf("the stream ends with %+v, the owner is %q", last, c.Owner)
	}
	return sub
}

// withCalls leaves a call in every state at the head and one more at a sub-agent of it. Those that are dispatched are
// what nobody knows the end of.
func withCalls(t tester, h *holder) (calls []call.Call, unknown *call.Cancellation) {
	t.Helper()
	child := h.withChild(t)
	c, d := h.step(1), h.stepOf(child, 1)
	for i := range 4 {
		k := newCall(h, 1, i)
		if i > 0 {
			k.State, k.Executor, k.Dispatch = call.Dispatched, "executor", 1
		}
		c.Calls = append(c.Calls, k)
	}
	k := newCall(h, 1, 0)
	k.LoopID, k.Kind, k.Tool, k.State, k.Executor, k.Dispatch = child.ID, 1, "grep", call.Dispatched, "executor", 1
	d.Calls = []call.Call{k}
	h.commit(t, merge(c, d))
	complete(t, h.s, c.Calls[2].ID, call.Done, `"r"`)
	complete(t, h.s, c.Calls[3].ID, call.Cancelled, "")
	unknown = &call.Cancellation{}
	for _, k := range []call.Call{c.Calls[1], d.Calls[0]} {
		unknown.Unconfirmed = append(unknown.Unconfirmed, call.Unconfirmed{
			CallID: k.ID, Tool: k.Tool, Executor: "executor", Reason: call.OutcomeLost,
			Message: "nobody saw the call end on executor executor",
		})
	}
	return append(c.Calls, k), unknown
}

func callsEnded(t tester, s store.Store, calls []call.Call) {
	t.Helper()
	states := []call.State{call.Cancelled, call.Lost, call.Done, call.Cancelled, call.Lost}
	for i, k := range calls {
		if got := getCall(t, s, k.ID); got.State != states[i] || got.DoneAt.IsZero() {
			t.Errorf("call %d is %v, done at %v", i, got.State, got.DoneAt)
		}
	}
}

var endCases = []testCase{
	{"settles a head, its sub-agents and its calls from rows", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(1)
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 2, Usage: someUsage}
		h.commit(t, c)
		calls, unknown := withCalls(t, h)
		next := queue(t, db.Store, "a")
		got, err := db.Second.End(ctx(t), h.lease.Fence, lane.Interrupted, "REASON", "message")
		ok(t, err)
		endedFromRows(t, db, h, got, lane.Settlement{
			Outcome: lane.Interrupted, Reason: "REASON", Usage: someUsage, Cancellation: unknown,
		})
		callsEnded(t, db.Store, calls)
		if !got.Ready {
			t.Error("what is queued is not told")
		}
		heir := claimOne(t, db.Second, live(t, db.Second))
		if heir.id() != next.ID || len(heir.lease.Loops) != 1 {
			t.Errorf("the next lease is %+v", heir.lease)
		}
		heir.commit(t, heir.end(false))
		consistent(t, db.Store, h.session())
		if got := sessionOf(t, db.Store, h.lease.Loops[1].SessionID); got.Pending != 0 {
			t.Errorf("a sub-agent of it still runs: %+v", got)
		}
	}},
	{"needs nothing of a head that can be decoded", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		db.Exec(`UPDATE submissions SET usage = '"x"', agent_digest = 'gone'`)
		got, err := db.Second.End(ctx(t), h.lease.Fence, lane.Interrupted, "REASON", "message")
		ok(t, err)
		endedFromRows(t, db, h, got, lane.Settlement{
			Outcome: lane.Interrupted, Reason: "REASON", Cancellation: &call.Cancellation{Confirmed: true},
		})
		start(t, db.Store, "a", live(t, db.Store)) // it is idle
	}},
	{"is forced a grace after the deadline, whoever owns it", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := startWithin(t, db.Store, "a", owner, time.Minute)
		startWithin(t, db.Store, "later", owner, time.Hour)
		start(t, db.Store, "never", owner)
		queue(t, db.Store, "waiting")
		calls, unknown := withCalls(t, h)
		db.Advance(time.Minute + lane.ForceGrace - time.Second)
		if got := force(t, db.Second); len(got) != 0 {
			t.Fatalf("forced %+v too early", got)
		}
		db.Advance(2 * time.Second)
		got := force(t, db.Second)
		if len(got) != 1 {
			t.Fatalf("forced %+v", got)
		}
		endedFromRows(t, db, h, got[0], lane.Settlement{
			Outcome: lane.Expired, Reason: lane.ReasonNotEnded, Cancellation: unknown,
		})
		callsEnded(t, db.Store, calls)
		if got := force(t, db.Store); len(got) != 0 || len(claim(t, db.Store, owner, 10)) != 1 {
			t.Errorf("forced %+v again, or left its lane due", got)
		}
		if next := start(t, db.Store, "a", owner); next.lease.Fence.Epoch != h.lease.Fence.Epoch+2 {
			t.Errorf("the next epoch is %d", next.lease.Fence.Epoch)
		}
	}},
	{"is forced a grace after an abort was requested", func(t *testing.T, db DB) {
		h := startWithin(t, db.Store, "a", live(t, db.Store), time.Hour)
		abort(t, db.Store, h.id())
		db.Advance(lane.ForceGrace - time.Second)
		abort(t, db.Store, h.id()) // asking again does not put it off
		if got := force(t, db.Store); len(got) != 0 {
			t.Fatalf("forced %+v too early", got)
		}
		db.Advance(2 * time.Second)
		got := force(t, db.Store)
		if len(got) != 1 {
			t.Fatalf("forced %+v", got)
		}
		endedFromRows(t, db, h, got[0], lane.Settlement{
			Outcome: lane.Aborted, Reason: lane.ReasonNotEnded, Cancellation: &call.Cancellation{Confirmed: true},
		})
	}},
	{"is forced though its lane went from hand to hand", func(t *testing.T, db DB) {
		for begin, f := range map[string]func() *holder{
			"by a claim": func() *holder {
				a := admission("a")
				a.Timeout = time.Minute
				admit(t, db.Store, a)
				db.Advance(time.Hour)
				return claimOne(t, db.Store, live(t, db.Store))
			},
			"by a commit that continues": func() *holder {
				h := start(t, db.Store, "b", live(t, db.Store))
				a := admission("b")
				a.Timeout = time.Minute
				admit(t, db.Store, a)
				return hold(db.Store, *h.commit(t, h.end(true)).Next)
			},
		} {
			h := f()
			h.release(t, lane.Release{})
			h = claimOne(t, db.Second, live(t, db.Second)).die(t, db.Store)
			db.Advance(time.Minute + lane.ForceGrace + time.Second)
			if h.lease.Ends.Why != lane.Deadline || len(force(t, db.Store)) != 1 {
				t.Errorf("begun %s, it never ends: %+v", begin, h.lease.Ends)
			}
		}
	}},
	{"uses what its open sub-agents have used, and those whose results nobody has taken", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(1)
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 1, Usage: someUsage}
		for i := range 2 {
			c.Calls = append(c.Calls, newCall(h, 1, i))
		}
		h.commit(t, c)
		for _, k := range c.Calls {
			child := h.child(h.root())
			child.Begin.ParentCall, child.Progress.Usage = k.ID, someUsage
			h.commit(t, child)
		}
		ended := h.stepOf(&h.lease.Loops[2], 1)
		ended.End = &lane.Settlement{Outcome: lane.Completed, Usage: someUsage}
		h.commit(t, ended)
		got, err := db.Second.End(ctx(t), h.lease.Fence, lane.Interrupted, "REASON", "message")
		ok(t, err)
		endedFromRows(t, db, h, got, lane.Settlement{
			Outcome: lane.Interrupted, Reason: "REASON", Usage: someUsage.Add(someUsage).Add(someUsage),
			Cancellation: &call.Cancellation{Confirmed: true},
		})
	}},
	{"ends what sub-agents that have ended left open, and nothing of the head before", func(t *testing.T, db DB) {
		before := start(t, db.Store, "a", live(t, db.Store))
		queue(t, db.Store, "a")
		left := newCall(before, 1, 0)
		left.State, left.Executor, left.Dispatch = call.Dispatched, "executor", 1
		c := before.end(true)
		c.Calls = []call.Call{left}
		h := hold(db.Store, *before.commit(t, c).Next)
		child := h.withChild(t)
		k := newCall(h, 1, 0)
		k.LoopID, k.State, k.Executor, k.Dispatch = child.ID, call.Dispatched, "executor", 1
		d := h.stepOf(child, 1)
		d.Calls, d.End = []call.Call{k}, &lane.Settlement{Outcome: lane.Failed}
		h.commit(t, d)
		got, err := db.Second.End(ctx(t), h.lease.Fence, lane.Interrupted, "REASON", "message")
		ok(t, err)
		endedFromRows(t, db, h, got, lane.Settlement{
			Outcome: lane.Interrupted, Reason: "REASON", Cancellation: &call.Cancellation{
				Unconfirmed: []call.Unconfirmed{{
					CallID: k.ID, Tool: k.Tool, Executor: "executor", Reason: call.OutcomeLost,
					Message: "nobody saw the call end on executor executor",
				}},
			},
		})
		if got, was := getCall(t, db.Store, k.ID), getCall(t, db.Store, left.ID); got.State != call.Lost ||
			was.State != call.Dispatched {
			t.Errorf("the sub-agent's call is %v, that of the head before %v", got.State, was.State)
		}
	}},
	{"that is taken after its end has a grace from then on, once", func(t *testing.T, db DB) {
		for name, taken := range map[string]func(*holder) *holder{
			"taken over": func(*holder) *holder {
				return hold(db.Second, takeOver(t, db.Second, live(t, db.Second))[0])
			},
			"claimed": func(h *holder) *holder {
				h.release(t, lane.Release{})
				return claimOne(t, db.Second, live(t, db.Second))
			},
		} {
			h := startWithin(t, db.Store, name, live(t, db.Store), time.Minute)
			db.Advance(time.Hour)
			h = taken(h)
			db.Advance(lane.ForceGrace - time.Second)
			if got := force(t, db.Store); h.lease.Ends.In > -time.Minute || len(got) != 0 {
				t.Fatalf("%s: forced %+v within the grace of its new owner", name, got)
			}
			taken(h)
			db.Advance(2 * time.Second)
			if got := force(t, db.Store); len(got) != 1 {
				t.Errorf("%s: forced %+v, its owners put it off for ever", name, got)
			}
		}
	}},
	{"is not forced when nobody runs it, and no more than the limit are", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for _, name := range []string{"a", "b", "c"} {
			startWithin(t, db.Store, name, owner, time.Minute)
		}
		startWithin(t, db.Store, "released", owner, time.Minute).release(t, lane.Release{})
		settled := startWithin(t, db.Store, "settled", owner, time.Minute)
		settled.commit(t, settled.end(false))
		start(t, db.Store, "settled", owner) // has no end of its own
		db.Advance(2 * time.Minute)
		for _, want := range []int{2, 1, 0} {
			got, err := db.Second.Force(ctx(t), 2)
			ok(t, err)
			if len(got) != want {
				t.Errorf("forced %d lanes, want %d", len(got), want)
			}
		}
	}},
	{"is forced by one of many, unless its owner ends it first", func(t *testing.T, db DB) {
		const lanes, others = 12, 4
		owner := live(t, db.Store)
		holders, settled, next := make([]*holder, lanes), make([]bool, lanes), make([]submission.Submission, lanes)
		for i := range holders {
			name := string(rune('a' + i))
			holders[i] = startWithin(t, db.Store, name, owner, time.Minute)
			next[i] = queue(t, db.Store, name)
		}
		db.Advance(2 * time.Minute)
		got := make([][]lane.Ended, others)
		together(t, others+lanes, func(i int) (err error) {
			if i >= others {
				_, err := db.Store.Commit(ctx(t), holders[i-others].end(true).commit())
				settled[i-others] = err == nil
				return nil
			}
			got[i], err = either(db, i).Force(ctx(t), lanes)
			return err
		})
		times := map[string]int{}
		for i := range got {
			for _, e := range got[i] {
				times[e.HeadID]++
			}
		}
		for i, h := range holders {
			if n := times[h.id()]; n > 1 || n == 1 && settled[i] {
				t.Errorf("lane %d: settled %v, forced %d times", i, settled[i], n)
			}
			if times[next[i].ID] != 0 {
				t.Errorf("lane %d: what came after the overdue one was forced", i)
			}
			consistent(t, db.Store, h.session())
		}
	}},
}
