package storetest

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

// waitingCalls commits n calls that wait for a slot of the executor, each at a time of its own.
func waitingCalls(t tester, db DB, h *holder, executor string, n int) (ids []string) {
	t.Helper()
	for i := range n {
		db.Advance(time.Second)
		k := newCall(h, 9, i)
		k.Executor = executor
		c := h.step(0)
		c.Calls = []call.Call{k}
		h.commit(t, c)
		ids = append(ids, k.ID)
	}
	return ids
}

func granted(t tester, s store.Store, epoch int64, ids ...string) (got []string) {
	t.Helper()
	all, err := s.Grant(ctx(t), call.Grant{
		Executor: "executor", ConnectionEpoch: epoch, Journal: "journal", CallIDs: ids,
	})
	ok(t, err)
	for _, g := range all {
		if k := getCall(t, s, g.CallID); k.LaneID != g.LaneID || k.Dispatch != g.Dispatch ||
			k.State != call.Dispatched {
			t.Errorf("granted %+v, the call is %+v", g, k)
		}
		got = append(got, g.CallID)
	}
	slices.Sort(got)
	return got
}

var grantCases = []testCase{
	{"let exactly those begin that are pending and wait for the executor", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		epoch := connect(t, db.Store, fleet.Executor{ID: "executor", Replica: h.owner(t)})
		ids := waitingCalls(t, db, h, "executor", 4)
		_, other := oneCall(t, db, call.Dispatched)
		foreign := newCall(h, 3, 0)
		foreign.Executor = "other"
		c := h.step(0)
		c.Calls = []call.Call{foreign}
		h.commit(t, c)
		complete(t, db.Store, ids[1], call.Cancelled, "")
		got := granted(t, db.Second, epoch, ids[0], ids[1], ids[2], other.ID, foreign.ID, ident.New())
		equal(t, "the granted calls", got, []string{ids[0], ids[2]})
		if k := getCall(t, db.Store, ids[0]); k.Dispatch != 1 || k.Journal != "journal" || k.Age[1] >= k.Age[0] {
			t.Errorf("it is dispatched as %+v", k)
		}
		if got := granted(t, db.Store, epoch, ids[0]); len(got) != 0 {
			t.Errorf("granted again: %v", got)
		}
	}},
	{"are fenced by the connection", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		ids := waitingCalls(t, db, h, "executor", 2)
		for range 2 {
			epoch := connect(t, db.Store, fleet.Executor{ID: "executor", Replica: h.owner(t)})
			for _, other := range []int64{epoch - 1, epoch + 1} {
				if got := granted(t, db.Second, other, ids...); len(got) != 0 {
					t.Errorf("connection %d grants %v, the present one is %d", other, got, epoch)
				}
			}
		}
		equal(t, "the granted calls", granted(t, db.Second, 2, ids...), ids)
	}},
	{"are found in order of time while they wait", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		epoch := connect(t, db.Store, fleet.Executor{ID: "executor", Replica: h.owner(t)})
		ids := waitingCalls(t, db, h, "executor", 3)
		waitingCalls(t, db, start(t, db.Store, "b", live(t, db.Store)), "other", 1)
		back := start(t, db.Store, "c", live(t, db.Store))
		db.Advance(time.Second)
		k := newCall(back, 1, 0)
		k.State, k.Executor, k.Dispatch = call.Dispatched, "other", 1
		c := back.step(0)
		c.Calls = []call.Call{k}
		back.commit(t, c)
		c = back.step(0) // which cannot have it any more
		c.Dispatches = []call.Dispatch{{CallID: k.ID, Executor: "executor"}}
		back.commit(t, c)
		waiting := func() (got []string) {
			t.Helper()
			all, err := db.Second.WaitingCalls(ctx(t), "executor")
			ok(t, err)
			for _, w := range all {
				if k := getCall(t, db.Store, w.CallID); k.LaneID != w.LaneID ||
					w.Tenant != session.DefaultTenant || !k.CreatedAt.Equal(w.CreatedAt) {
					t.Errorf("%+v waits, the call is %+v", w, k)
				}
				got = append(got, w.CallID)
			}
			return got
		}
		equal(t, "what waits", waiting(), append(slices.Clone(ids), k.ID))
		granted(t, db.Store, epoch, ids[1], k.ID)
		complete(t, db.Store, ids[0], call.Done, "")
		equal(t, "what waits", waiting(), ids[2:])
		if got := getCall(t, db.Store, k.ID); got.Dispatch != 2 || got.Executor != "executor" {
			t.Errorf("dispatched again as %+v", got)
		}
	}},
	{"let a call begin once, whoever grants", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		epoch := connect(t, db.Store, fleet.Executor{ID: "executor", Replica: h.owner(t)})
		ids := waitingCalls(t, db, h, "executor", 6)
		var n atomic.Int64
		together(t, 6, func(i int) error {
			if i == 5 { // a newer connection
				_, err := db.Second.Connect(ctx(t), fleet.Executor{
					ID: "executor", ConnectionEpoch: epoch,
				})
				return err
			}
			got, err := either(db, i).Grant(ctx(t), call.Grant{
				Executor: "executor", ConnectionEpoch: epoch,
				CallIDs: ids,
			})
			n.Add(int64(len(got)))
			return err
		})
		dispatched, err := db.Store.DispatchedCalls(ctx(t), "executor")
		if ok(t, err); len(dispatched) != int(n.Load()) || len(dispatched) != 0 && len(dispatched) != len(ids) {
			t.Errorf("%d are dispatched, %d were granted", len(dispatched), n.Load())
		}
	}},
}
