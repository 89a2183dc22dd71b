package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// childOf begins a sub-agent of a loop, with a definition, by a call that is on record.
func (h *holder) childOf(parent *lane.Loop, digest string) *draft {
	k := newCall(h, 1, len(h.lease.Loops))
	k.LoopID, k.Kind = parent.ID, 2
	asks := h.stepOf(parent, 0)
	asks.Calls = []call.Call{k}
	d := h.child(parent)
	d.Begin.ParentCall, d.Begin.AgentDigest = k.ID, digest
	return merge(asks, d)
}

// descend begins a sub-agent of the root, and one of that. It returns the first.
func descend(t tester, h *holder) *lane.Loop {
	t.Helper()
	h.commit(t, h.childOf(h.root(), "the first's digest"))
	h.commit(t, h.childOf(&h.lease.Loops[1], "the second's digest"))
	return &h.lease.Loops[1]
}

// loopCases are of sub-agents: loops in the lane of the loop that asked for them.
var loopCases = []testCase{
	{"begin with a conversation of their own", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.child(h.root())
		c.lane.Executor = "executor"
		h.commit(t, c)
		child := h.lease.Loops[1]
		got := sessionOf(t, db.Second, child.SessionID)
		equal(t, "the conversation", got, session.Session{
			ID: child.SessionID, LaneID: h.session(), ParentID: h.session(), ParentCall: child.ParentCall,
			Key:       child.Key,
			CreatedAt: got.CreatedAt, EntryHead: 1, EventHead: 2, Pending: 1, Executor: "executor",
		})
		byKey, err := db.Store.FindSession(ctx(t), child.Key)
		ok(t, err)
		equal(t, "the conversation by its key", byKey, got)
		if got := entriesOf(t, db.Store, child.SessionID); len(got) != 1 || got[0].Kind != session.Input {
			t.Errorf("its entries are %+v", got)
		}
		_, err = db.Store.GetSubmission(ctx(t), session.DefaultTenant, child.ID)
		refused(t, err, submission.ErrNotFound)
		subs, err := db.Store.ListSubmissions(ctx(t), child.SessionID, 0, 10)
		if ok(t, err); len(subs) != 0 {
			t.Errorf("its loop is listed as a submission: %+v", subs)
		}
		c2 := consistent(t, db.Store, h.session())
		equal(t, "the parent's children", c2.Children, []session.Session{got})
		listed, err := db.Store.ListSessions(ctx(t), session.Filter{Tenant: session.DefaultTenant, Limit: 10})
		ok(t, err)
		equal(t, "the sessions", listed, []session.Session{c2.Session})
	}},
	{"come back in a lease, parents before their children", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		parent := h.withChild(t).ID
		h.commit(t, h.child(&h.lease.Loops[1]))
		h.withChild(t)
		c := h.stepOf(&h.lease.Loops[1], 2)
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 2, Usage: someUsage}
		h.commit(t, c)
		heir := h.die(t, db.Second)
		if len(heir.lease.Loops) != 4 || heir.lease.Loops[1].ID != parent {
			t.Fatalf("the loops are %+v", heir.lease.Loops)
		}
		for i, l := range heir.lease.Loops {
			want := h.lease.Loops[i]
			want.Stalls, want.StartedAt = 1, l.StartedAt
			if want.Root() {
				want.Attempts = 1
			}
			equal(t, "the loop", l, want)
			if want.Root() != (l.ParentCall == "") || l.StartedAt.IsZero() || l.RootID != h.id() {
				t.Errorf("loop %d is %+v", i, l)
			}
		}
		heir.commit(t, heir.end(false))
	}},
	{"write several conversations in one commit, or none", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		first, second := h.withChild(t).ID, h.withChild(t).ID
		if first == second {
			t.Fatal("one loop twice")
		}
		a, b := &h.lease.Loops[1], &h.lease.Loops[2]
		stale := merge(h.step(1), h.stepOf(a, 2), h.stepOf(b, 1))
		stale.more[1].EntryHead--
		stale.more[1].Entries[0].Seq--
		before := read(t, db.Store, h.session())
		_, err := db.Store.Commit(ctx(t), stale.commit())
		if err == nil || errors.Is(err, lane.ErrFenced) || errs.Temporary(err) {
			t.Errorf("a stale head: %v", err)
		}
		equal(t, "the session", read(t, db.Store, h.session()), before)
		h.commit(t, merge(h.step(1), h.stepOf(a, 2), h.stepOf(b, 1), h.child(h.root())))
		for i, want := range []int{2, 3, 2, 1} {
			if got := len(entriesOf(t, db.Second, h.lease.Loops[i].SessionID)); got != want {
				t.Errorf("conversation %d has %d entries, want %d", i, got, want)
			}
		}
		consistent(t, db.Store, h.session())
	}},
	{"whose step is refused are named, and the others go on without it", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		k := newCall(h, 1, 0)
		k.LoopID = child.ID
		c := h.stepOf(child, 1)
		c.Calls = []call.Call{k}
		h.commit(t, c)
		complete(t, db.Second, k.ID, call.Done, `"r"`)
		before := read(t, db.Store, h.session())
		child = &h.lease.Loops[1]
		bad := h.stepOf(child, 1)
		bad.Outcomes = []call.Outcome{{CallID: k.ID, State: call.Lost}}
		_, err := db.Store.Commit(ctx(t), merge(h.step(1), bad, h.child(h.root())).commit())
		refused(t, err, call.ErrEnded)
		var r *lane.Refused
		if !errors.As(err, &r) || r.LoopID != child.ID {
			t.Fatalf("refused %v", err)
		}
		equal(t, "the session", read(t, db.Store, h.session()), before)
		h.commit(t, merge(h.step(1), h.child(h.root())))
	}},
	{"end by themselves, and leave the lane running", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		c := h.stepOf(child, 1)
		c.End = &lane.Settlement{Outcome: lane.Completed, Usage: someUsage, ResultEntry: 2}
		out := h.commit(t, merge(c, h.step(1)))
		equal(t, "the answer", out, lane.Committed{Ends: lane.Ends{In: lane.Never}})
		if got := sessionOf(t, db.Store, child.SessionID); got.Pending != 0 || got.EntryHead != 2 {
			t.Errorf("its conversation is %+v", got)
		}
		if again, err := db.Second.Commit(ctx(t), c.commit()); err != nil || again.Next != nil || again.Ready {
			t.Errorf("once more: %+v, %v", again, err)
		}
		late := h.stepOf(&h.lease.Loops[1], 1)
		if _, err := db.Store.Commit(ctx(t), late.commit()); err == nil || errors.Is(err, lane.ErrFenced) {
			t.Errorf("a loop that has ended goes on: %v", err)
		}
		if heir := h.die(t, db.Second); len(heir.lease.Loops) != 1 {
			t.Errorf("it is still open: %+v", heir.lease.Loops)
		}
		if c := consistent(t, db.Store, h.session()); c.Session.Pending != 1 {
			t.Errorf("%d are pending", c.Session.Pending)
		}
	}},
	{"end with the head, and their calls are as it left them", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		calls, _ := withCalls(t, h)
		h.commit(t, h.child(&h.lease.Loops[1]))
		next := queue(t, db.Store, "a")
		c := h.end(true)
		c.End.Outcome, c.End.Reason = lane.Aborted, "WHY"
		own := h.stepOf(&h.lease.Loops[2], 1) // ends in the same commit, differently
		own.End = &lane.Settlement{Outcome: lane.Failed}
		out := h.commit(t, merge(c, own))
		if out.Next == nil || len(out.Next.Loops) != 1 || out.Next.Root().ID != next.ID {
			t.Fatalf("answered %+v", out)
		}
		for _, l := range h.lease.Loops[1:] {
			if got := sessionOf(t, db.Store, l.SessionID); got.Pending != 0 {
				t.Errorf("a sub-agent goes on: %+v", got)
			}
		}
		if got := getCall(t, db.Store, calls[4].ID); got.State != call.Dispatched {
			t.Errorf("a call of a sub-agent is %v", got.State)
		}
		heir := hold(db.Store, *out.Next).die(t, db.Second)
		if len(heir.lease.Loops) != 1 {
			t.Errorf("sub-agents of the head before: %+v", heir.lease.Loops)
		}
	}},
	{"go on in a conversation that another has begun", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		first := h.withChild(t)
		c := h.stepOf(first, 2)
		c.End = &lane.Settlement{Outcome: lane.Completed}
		h.commit(t, c)
		next := func(head int64, in string) *draft {
			d := h.child(h.root())
			d.SessionID, d.EntryHead, d.Begin.Key, d.Begin.GoesOn = in, head, first.Key, true
			d.Entries[0].Seq, d.Progress.InputEntry = head+1, head+1
			return d
		}
		for what, bad := range map[string]*draft{
			"behind its end":     next(4, first.SessionID),
			"before its end":     next(2, first.SessionID),
			"that is not there":  next(0, ident.New()),
			"of another lane":    next(0, start(t, db.Store, "b", live(t, db.Store)).session()),
			"that is to be made": func() *draft { d := next(3, first.SessionID); d.Begin.GoesOn = false; return d }(),
		} {
			before := read(t, db.Store, h.session())
			if _, err := db.Store.Commit(ctx(t), bad.commit()); err == nil || errors.Is(err, lane.ErrFenced) {
				t.Errorf("a loop begins in a conversation %s: %v", what, err)
			}
			equal(t, "the session", read(t, db.Store, h.session()), before)
		}
		h.commit(t, merge(next(3, first.SessionID), h.step(1)))
		got := sessionOf(t, db.Second, first.SessionID)
		if got.EntryHead != 4 || got.Pending != 1 || got.ParentCall != first.ParentCall {
			t.Errorf("the conversation is %+v", got)
		}
		if l := h.die(t, db.Second).lease.Loops[1]; l.Seq != 2 || l.EntryHead != 4 || l.InputEntry != 4 ||
			l.SessionID != first.SessionID {
			t.Errorf("the loop is %+v", l)
		}
		consistent(t, db.Store, h.session())
	}},
	{"that a root has asked itself are told by what they had used", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		expect := func(answers int, usage model.Usage) {
			t.Helper()
			n, got, err := db.Second.UsedBelow(ctx(t), h.id())
			if ok(t, err); n != answers || got != usage {
				t.Errorf("%d answers, %+v; want %d, %+v", n, got, answers, usage)
			}
		}
		loop := func(id string) *lane.Loop {
			return &h.lease.Loops[slices.IndexFunc(h.lease.Loops, func(l lane.Loop) bool { return l.ID == id })]
		}
		asks := func(parent string) (child string) {
			t.Helper()
			c := newCall(h, 1, 0)
			c.LoopID = parent
			d := h.stepOf(loop(parent), 1)
			d.Calls = []call.Call{c}
			h.commit(t, d)
			d = h.child(loop(parent))
			d.Begin.ParentCall = c.ID
			h.commit(t, d)
			child = d.LoopID
			for i, failed := range []string{"", "why", ""} {
				d := h.stepOf(loop(child), 1)
				d.Turn = &lane.Turn{Turn: i + 1, Request: []byte("r"), Prefix: []byte("p"), Error: failed}
				h.commit(t, d)
			}
			return child
		}
		settle := func(id string) {
			t.Helper()
			c := h.stepOf(loop(id), 1)
			c.End = &lane.Settlement{Outcome: lane.Failed, Usage: someUsage}
			h.commit(t, c)
		}
		one := asks(h.id())
		below := asks(one)
		settle(below)
		expect(0, model.Usage{})
		settle(one)
		expect(2, someUsage)
	}},
	{"begin once for each call", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.child(h.root())
		h.commit(t, c)
		before := read(t, db.Store, h.session())
		again := h.child(h.root())
		again.Begin.Key = c.Begin.Key
		if _, err := db.Store.Commit(ctx(t), again.commit()); err == nil || errors.Is(err, lane.ErrFenced) {
			t.Errorf("a second loop for one call: %v", err)
		}
		equal(t, "the session", read(t, db.Store, h.session()), before)
	}},
	{"work with the definitions of those whose files they work on", func(t *testing.T, db DB) {
		own := start(t, db.Store, "a", live(t, db.Store))
		deep, deeper := descend(t, own), &own.lease.Loops[2]
		r := ownRun(t, db.Store, newRun("w"))
		guest, below := descend(t, r), &r.lease.Loops[2]
		r.commit(t, r.childOf(r.root(), "another's digest"))
		for what, c := range map[string]struct {
			of   *lane.Loop
			want store.Pin
		}{
			"a submission":               {own.root(), store.Pin{Agent: own.root().AgentDigest}},
			"a sub-agent":                {deep, store.Pin{Agent: own.root().AgentDigest}},
			"a sub-agent's":              {deeper, store.Pin{Agent: own.root().AgentDigest}},
			"a run":                      {r.root(), store.Pin{Workflow: "digest"}},
			"an agent of a run":          {guest, store.Pin{Workflow: "digest", Agent: "the first's digest"}},
			"a sub-agent of that":        {below, store.Pin{Workflow: "digest", Agent: "the first's digest"}},
			"another agent of the run's": {&r.lease.Loops[3], store.Pin{Workflow: "digest", Agent: "another's digest"}},
		} {
			got, err := db.Second.PinOf(ctx(t), c.of.ID)
			ok(t, err)
			equal(t, what, got, c.want)
		}
		for _, id := range []string{ident.New(), "x"} {
			_, err := db.Store.PinOf(ctx(t), id)
			refused(t, err, submission.ErrNotFound)
		}
	}},
	{"pin their definitions while they run", func(t *testing.T, db DB) {
		ok(t, db.Store.PutDefinition(ctx(t), "child's digest", "agent", []byte("d")))
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		db.Advance(month + time.Minute)
		deleteDefinitions := func(want int) {
			t.Helper()
			if n := deleteAll(t, db.Second, retention.Definitions, month, 10); n != want {
				t.Errorf("%d definitions went, want %d", n, want)
			}
		}
		deleteDefinitions(0)
		c := h.stepOf(child, 1)
		c.End = &lane.Settlement{Outcome: lane.Completed}
		h.commit(t, c)
		db.Advance(month + time.Minute)
		deleteDefinitions(1)
	}},
}
