package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func getCall(t tester, s store.Store, id string) call.Call {
	t.Helper()
	c, err := s.GetCall(ctx(t), id)
	ok(t, err)
	return c
}

func complete(t tester, s store.Store, id string, state call.State, reply string) call.Call {
	t.Helper()
	o := call.Outcome{CallID: id, State: state}
	if reply != "" {
		o.Reply = []byte(reply)
	}
	c, err := s.CompleteCall(ctx(t), o)
	ok(t, err)
	return c
}

// oneCall starts a session whose first turn has one call, in the given state.
func oneCall(t tester, db DB, state call.State) (*holder, call.Call) {
	t.Helper()
	h := start(t, db.Store, ident.New(), live(t, db.Store))
	k := newCall(h, 1, 0)
	if state != call.Pending {
		k.State, k.Executor, k.Dispatch = call.Dispatched, "executor", 1
	}
	c := h.step(1)
	c.Calls = []call.Call{k}
	c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 1}
	h.commit(t, c)
	if state.Terminal() {
		complete(t, db.Store, k.ID, state, `"first"`)
	}
	return h, getCall(t, db.Second, k.ID)
}

var callCases = []testCase{
	{"come back as they were committed, in order", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		a, b, other := newCall(h, 1, 1), newCall(h, 1, 0), newCall(h, 2, 0)
		a.Safety, a.State, a.Executor, a.Dispatch, a.Journal = tool.Pure, call.Dispatched, "executor", 1, "journal"
		b.Kind, b.Executor = 2, "other"
		a.CreatedAt, a.DoneAt = someTime, someTime // by another clock than the database's
		c := h.step(1)
		c.Calls = []call.Call{a, b, other}
		h.commit(t, c)
		db.Advance(time.Hour)
		got, err := db.Second.TurnCalls(ctx(t), h.id(), 1)
		ok(t, err)
		for _, k := range []*call.Call{&a, &b, &other} {
			k.CreatedAt, k.DoneAt = getCall(t, db.Store, k.ID).CreatedAt, time.Time{}
		}
		equal(t, "the calls", got, []call.Call{b, a})
		equal(t, "the call", getCall(t, db.Second, other.ID), other)
		for i, k := range got { // on the database's clock
			if k.Age[0] < time.Hour || k.Age[0] > 2*time.Hour || i == 0 && k.Age[1] != 0 || i == 1 && k.Age[1] != k.Age[0] {
				t.Errorf("call %d has ages %v", i, k.Age)
			}
		}
		_, err = db.Second.GetCall(ctx(t), ident.New())
		refused(t, err, call.ErrNotFound)
		if got, err = db.Second.TurnCalls(ctx(t), ident.New(), 1); err != nil || len(got) != 0 {
			t.Errorf("another loop's turn: %+v, %v", got, err)
		}
	}},
	{"are one per place in a turn", func(t *testing.T, db DB) {
		h, k := oneCall(t, db, call.Pending)
		c := h.step(1)
		c.Calls = []call.Call{newCall(h, 1, 0)}
		before := read(t, db.Store, h.session())
		if _, err := db.Store.Commit(ctx(t), c.commit()); err == nil {
			t.Errorf("two calls at the place of %s", k.ID)
		}
		equal(t, "the session", read(t, db.Store, h.session()), before)
	}},
	{"are dispatched, and again with a higher number", func(t *testing.T, db DB) {
		h, k := oneCall(t, db, call.Pending)
		for n, executor := range []string{"one", "two"} {
			db.Advance(time.Minute)
			c := h.step(0)
			c.Dispatches = []call.Dispatch{{
				CallID: k.ID, Executor: executor, Dispatch: n + 1, Journal: "journal of " + executor,
			}}
			h.commit(t, c)
			got := getCall(t, db.Second, k.ID)
			want := k
			want.State, want.Executor, want.Dispatch = call.Dispatched, executor, n+1
			want.Journal = "journal of " + executor
			equal(t, "the call", got, want)
			if got.Age[1] > 50*time.Second || got.Age[0] < time.Minute {
				t.Errorf("its ages are %v", got.Age)
			}
			k = got
			dispatched, err := db.Second.DispatchedCalls(ctx(t), executor)
			ok(t, err)
			equal(t, "the executor's calls", dispatched, []call.Call{k})
		}
		if got, err := db.Second.DispatchedCalls(ctx(t), "one"); err != nil || len(got) != 0 {
			t.Errorf("the first executor still has %+v, %v", got, err)
		}
		for _, n := range []int{1, 2} {
			c := h.step(1)
			c.Dispatches = []call.Dispatch{{CallID: k.ID, Executor: "late", Dispatch: n}}
			if _, err := db.Store.Commit(ctx(t), c.commit()); err == nil {
				t.Errorf("dispatch %d was accepted after 2", n)
			}
			equal(t, "the call", getCall(t, db.Second, k.ID), k)
		}
		complete(t, db.Store, k.ID, call.Done, `"r"`)
		k = getCall(t, db.Store, k.ID)
		c := h.step(1)
		c.Dispatches = []call.Dispatch{{CallID: k.ID, Executor: "late", Dispatch: 3}}
		h.commit(t, c) // it ended meanwhile, which is nobody's fault
		equal(t, "the call", getCall(t, db.Second, k.ID), k)
		if got, err := db.Second.DispatchedCalls(ctx(t), "two"); err != nil || len(got) != 0 {
			t.Errorf("a finished call counts as dispatched: %+v, %v", got, err)
		}
	}},
	{"of another lane are not dispatched", func(t *testing.T, db DB) {
		h, _ := oneCall(t, db, call.Pending)
		_, foreign := oneCall(t, db, call.Pending)
		for _, id := range []string{foreign.ID, ident.New()} {
			c := h.step(1)
			c.Dispatches = []call.Dispatch{{CallID: id, Executor: "e", Dispatch: 1}}
			_, err := db.Store.Commit(ctx(t), c.commit())
			refused(t, err, call.ErrNotFound)
		}
		equal(t, "the call", getCall(t, db.Store, foreign.ID), foreign)
		consistent(t, db.Store, h.session())
	}},
	{"end once, by anybody, and keep a late reply beside lost", func(t *testing.T, db DB) {
		for _, state := range []call.State{call.Pending, call.Dispatched, call.Done, call.Lost, call.Cancelled} {
			for _, then := range []call.State{call.Done, call.Lost, call.Cancelled} {
				for _, how := range []string{"directly", "by a commit"} {
					h, want := oneCall(t, db, state)
					if how == "by a commit" && then == call.Lost && (state == call.Done || state == call.Cancelled) {
						continue // see below
					}
					db.Advance(time.Second)
					var got call.Call
					if how == "directly" {
						got = complete(t, db.Second, want.ID, then, `"second"`)
					} else {
						c := h.step(1)
						c.Outcomes = []call.Outcome{{CallID: want.ID, State: then, Reply: []byte(`"second"`)}}
						h.commit(t, c)
						got = getCall(t, db.Second, want.ID)
					}
					switch {
					case !state.Terminal():
						want.State, want.Reply, want.DoneAt = then, []byte(`"second"`), got.DoneAt
						if !got.DoneAt.After(h.root().StartedAt) {
							t.Errorf("done at %v, started at %v", got.DoneAt, h.root().StartedAt)
						}
					case state == call.Lost && then != call.Lost:
						want.LateReply = []byte(`"second"`)
					}
					what := fmt.Sprintf("a %v call that ends as %v %s", state, then, how)
					equal(t, what, got, want)
					equal(t, what+", read back", getCall(t, db.Store, want.ID), want)
				}
			}
		}
	}},
	{"are not lost in the transcript once their outcome is recorded", func(t *testing.T, db DB) {
		for _, state := range []call.State{call.Done, call.Cancelled} {
			h, want := oneCall(t, db, state)
			before := read(t, db.Store, h.session())
			for _, forget := range []bool{false, true} {
				c := h.step(1)
				c.Outcomes, c.ForgetReplies = []call.Outcome{{CallID: want.ID, State: call.Lost}}, forget
				_, err := db.Store.Commit(ctx(t), c.commit())
				refused(t, err, call.ErrEnded)
				equal(t, "the session", read(t, db.Store, h.session()), before)
				c.lane.Fence.Epoch++
				_, err = db.Store.Commit(ctx(t), c.commit())
				refused(t, err, lane.ErrFenced) // whoever is fenced learns no more
			}
			equal(t, "the call", getCall(t, db.Second, want.ID), want)
			h.commit(t, h.step(1)) // the lane is as it was
		}
	}},
	{"are lost or done, whoever is first, in record and transcript alike", func(t *testing.T, db DB) {
		for range 20 {
			h, k := oneCall(t, db, call.Dispatched)
			c := h.step(1)
			c.Outcomes, c.ForgetReplies = []call.Outcome{{CallID: k.ID, State: call.Lost}}, true
			c.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 2}
			var refusal error
			together(t, 2, func(i int) (err error) {
				if i == 0 {
					_, refusal = db.Store.Commit(ctx(t), c.commit())
					return nil
				}
				_, err = db.Second.CompleteCall(ctx(t), call.Outcome{
					CallID: k.ID, State: call.Done,
					Reply: []byte(`"r"`),
				})
				return err
			})
			got := getCall(t, db.Store, k.ID)
			switch {
			case refusal == nil && got.State == call.Lost && string(got.LateReply) == `"r"`:
			case errors.Is(refusal, call.ErrEnded) && got.State == call.Done && string(got.Reply) == `"r"`:
			default:
				t.Fatalf("the commit was answered with %v, the record is %+v", refusal, got)
			}
			consistent(t, db.Store, h.session())
		}
	}},
	{"of which something may run are found until a late reply says otherwise", func(t *testing.T, db DB) {
		h, first := oneCall(t, db, call.Lost)
		second := newCall(h, 2, 0)
		c := h.step(1)
		c.Calls = []call.Call{second, newCall(h, 2, 1)}
		c.Outcomes = []call.Outcome{{CallID: second.ID, State: call.Lost}}
		h.commit(t, c)
		lost := func() (ids []string) {
			found, err := db.Second.Unended(ctx(t), h.id())
			ok(t, err)
			for _, k := range found.Calls {
				ids = append(ids, k.ID)
			}
			equal(t, "how many there are", found.Total, len(ids))
			return ids
		}
		db.Advance(time.Second)
		child := h.withChild(t)
		third := newCall(h, 1, 0)
		third.LoopID = child.ID
		c = h.stepOf(child, 1)
		c.Calls = []call.Call{third}
		h.commit(t, c)
		complete(t, db.Store, third.ID, call.Lost, "")
		equal(t, "the lost calls", lost(), []string{first.ID, second.ID, third.ID})
		complete(t, db.Store, first.ID, call.Done, `"late"`)
		equal(t, "the lost calls", lost(), []string{second.ID, third.ID})
		if found, err := db.Store.Unended(ctx(t), ident.New()); err != nil || found.Total != 0 {
			t.Errorf("another submission's: %+v, %v", found, err)
		}
		// Whoever records the outcome says that processes are left: nothing of the reply is needed any more.
		left, over, late := newCall(h, 3, 0), newCall(h, 3, 1), newCall(h, 3, 2)
		c = h.step(1)
		c.Calls = []call.Call{left, over, late}
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 3}
		h.commit(t, c)
		_, err := db.Store.CompleteCall(ctx(t), call.Outcome{
			CallID: left.ID, State: call.Done, Reply: []byte(`"r"`), Leaves: true,
		})
		ok(t, err)
		c = h.step(1)
		c.Outcomes = []call.Outcome{
			{CallID: over.ID, State: call.Done}, {CallID: late.ID, State: call.Cancelled, Leaves: true},
		}
		c.ForgetReplies = true
		h.commit(t, c)
		_, err = db.Second.CompleteCall(ctx(t), call.Outcome{
			CallID: second.ID, State: call.Done, Reply: []byte(`"late"`), Leaves: true,
		})
		ok(t, err)
		found := lost()
		slices.Sort(found[2:])
		equal(t, "the calls", found, append([]string{second.ID, third.ID}, sorted(left.ID, late.ID)...))
		of, err := db.Store.Unended(ctx(t), child.ID)
		ok(t, err)
		if of.Total != 1 || len(of.Calls) != 1 || of.Calls[0].ID != third.ID || of.Calls[0].Leaves {
			t.Errorf("those of the sub-agent are %+v", of)
		}
	}},
	{"of which something may run are named up to a bound, and counted", func(t *testing.T, db DB) {
		h := start(t, db.Store, ident.New(), live(t, db.Store))
		c := h.step(1)
		for i := range call.MaxNamed + 5 {
			k := newCall(h, 1, i)
			c.Calls = append(c.Calls, k)
			c.Outcomes = append(c.Outcomes, call.Outcome{CallID: k.ID, State: call.Done, Leaves: true})
		}
		h.commit(t, c)
		found, err := db.Second.Unended(ctx(t), h.id())
		ok(t, err)
		if found.Total != call.MaxNamed+5 || len(found.Calls) != call.MaxNamed {
			t.Errorf("%d of %d are named", len(found.Calls), found.Total)
		}
		ended, err := db.Store.End(ctx(t), h.lease.Fence, lane.Interrupted, "R", "m")
		ok(t, err)
		z := ended.Events[0].Settlement.Cancellation
		if z.Confirmed || len(z.Unconfirmed) != call.MaxNamed || z.More != 5 ||
			z.Unconfirmed[0].Reason != call.ProcessesLeft {
			t.Errorf("settled from rows: %+v", z)
		}
	}},
	{"that sub-agents have left are told by their ends", func(t *testing.T, db DB) {
		h := start(t, db.Store, ident.New(), live(t, db.Store))
		first, second := h.withChild(t).ID, h.withChild(t).ID
		for _, loop := range h.lease.Loops {
			c := h.stepOf(&loop, 1)
			switch loop.ID {
			case first:
				c.End = &lane.Settlement{Outcome: lane.Completed}
			case second:
				c.End = &lane.Settlement{Outcome: lane.Expired, Cancellation: &call.Cancellation{
					Unconfirmed: []call.Unconfirmed{{CallID: "c", Tool: "bash", Reason: call.ProcessesLeft}},
				}}
			default:
				continue
			}
			h.commit(t, c)
		}
		got, err := db.Second.Cancellations(ctx(t), h.id())
		ok(t, err)
		if len(got) != 1 || got[0].Confirmed || len(got[0].Unconfirmed) != 1 ||
			got[0].Unconfirmed[0].Reason != call.ProcessesLeft {
			t.Errorf("%+v", got)
		}
	}},
	{"keep the first late reply", func(t *testing.T, db DB) {
		_, k := oneCall(t, db, call.Lost)
		complete(t, db.Store, k.ID, call.Done, `"late"`)
		if got := complete(t, db.Second, k.ID, call.Done, `"later"`); string(got.LateReply) != `"late"` {
			t.Errorf("the late reply is %s", got.LateReply)
		}
	}},
	{"that nobody knows cannot end", func(t *testing.T, db DB) {
		_, err := db.Store.CompleteCall(ctx(t), call.Outcome{CallID: ident.New(), State: call.Done})
		refused(t, err, call.ErrNotFound)
		_, k := oneCall(t, db, call.Dispatched)
		if _, err := db.Store.CompleteCall(ctx(t), call.Outcome{CallID: k.ID, State: call.Dispatched}); err == nil {
			t.Errorf("dispatched is no outcome")
		}
	}},
	{"end as one of many say", func(t *testing.T, db DB) {
		_, k := oneCall(t, db, call.Dispatched)
		const n = 8
		var won atomic.Int32
		together(t, n, func(i int) error {
			reply := fmt.Sprintf(`"%d"`, i)
			got, err := either(db, i).CompleteCall(ctx(t), call.Outcome{
				CallID: k.ID, State: call.Done,
				Reply: []byte(reply),
			})
			if string(got.Reply) == reply {
				won.Add(1)
			}
			return err
		})
		if won.Load() != 1 {
			t.Errorf("%d of %d outcomes won", won.Load(), n)
		}
	}},
	{"forget the replies of the turn once entries hold them", func(t *testing.T, db DB) {
		h, first := oneCall(t, db, call.Done)
		second, third := newCall(h, 2, 0), newCall(h, 2, 1)
		c := h.step(1)
		c.Calls = []call.Call{second, third}
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 2}
		h.commit(t, c)
		complete(t, db.Store, second.ID, call.Done, `"second"`)
		c = h.step(2)
		c.Outcomes = []call.Outcome{{CallID: third.ID, State: call.Lost, Reply: []byte(`"third"`)}}
		c.ForgetReplies = true
		c.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 3}
		h.commit(t, c)
		for _, id := range []string{second.ID, third.ID} {
			if got := getCall(t, db.Second, id); got.Reply != nil || !got.State.Terminal() || got.DoneAt.IsZero() {
				t.Errorf("after the results are entries: %+v", got)
			}
		}
		if got := complete(t, db.Store, second.ID, call.Done, `"again"`); got.Reply != nil || got.State != call.Done {
			t.Errorf("a duplicate brought the reply back: %+v", got)
		}
		if got := getCall(t, db.Second, first.ID); string(got.Reply) != `"first"` {
			t.Errorf("another turn's reply is %q", got.Reply)
		}
	}},
	{"keep what a sub-agent came to that ends with the results of its own calls", func(t *testing.T, db DB) {
		h, asked := oneCall(t, db, call.Dispatched)
		child := h.withChild(t)
		own := newCall(h, 1, 0)
		own.LoopID = child.ID
		c := h.stepOf(child, 1)
		c.Calls, c.Progress = []call.Call{own}, &lane.Progress{Phase: lane.PhaseTools, Turn: 1}
		h.commit(t, c)
		complete(t, db.Store, own.ID, call.Done, `"own"`)
		c = h.stepOf(child, 1)
		c.Outcomes = []call.Outcome{{CallID: asked.ID, State: call.Done, Reply: []byte(`"answer"`)}}
		c.ForgetReplies, c.End = true, &lane.Settlement{Outcome: lane.Completed}
		h.commit(t, c)
		if got := getCall(t, db.Second, asked.ID); got.State != call.Done || string(got.Reply) != `"answer"` {
			t.Errorf("whoever asked finds %+v", got)
		}
		if got := getCall(t, db.Second, own.ID); got.State != call.Done || got.Reply != nil {
			t.Errorf("the reply that is an entry is %+v", got)
		}
	}},
	{"remember how much of their output is in the stream, and that their end is", func(t *testing.T, db DB) {
		h, k := oneCall(t, db, call.Dispatched)
		for _, shown := range [][2]int64{{5, 7}, {-1, -1}} {
			c := h.step(0)
			c.Shown = []call.Shown{{CallID: k.ID, Stdout: shown[0], Stderr: shown[1]}}
			h.commit(t, c)
		}
		if got := getCall(t, db.Second, k.ID).Shown; got != [2]int64{-1, -1} {
			t.Errorf("shown %v", got)
		}
	}},
	{"outlive their owner", func(t *testing.T, db DB) {
		h, k := oneCall(t, db, call.Dispatched)
		heir := h.die(t, db.Second)
		complete(t, db.Store, k.ID, call.Done, `"r"`) // received by the old owner
		got, err := db.Second.TurnCalls(ctx(t), heir.id(), heir.root().Turn)
		ok(t, err)
		if len(got) != 1 || string(got[0].Reply) != `"r"` {
			t.Errorf("the new owner finds %+v", got)
		}
	}},
}

func sorted(ids ...string) []string {
	slices.Sort(ids)
	return ids
}
