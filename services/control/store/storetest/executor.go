package storetest

import (
	"testing"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func executor(t tester, s store.Store, id string) fleet.Executor {
	t.Helper()
	e, err := s.GetExecutor(ctx(t), id)
	ok(t, err)
	return e
}

// connect connects an executor, whatever its last connection was.
func connect(t tester, s store.Store, e fleet.Executor) int64 {
	t.Helper()
	last, err := s.GetExecutor(ctx(t), e.ID)
	if err != nil {
		refused(t, err, fleet.ErrNotFound)
	}
	e.ConnectionEpoch = last.ConnectionEpoch
	epoch, err := s.Connect(ctx(t), e)
	ok(t, err)
	return epoch
}

var executorCases = []testCase{
	{"are known by what they said last", func(t *testing.T, db DB) {
		r := replica.Replica{ID: live(t, db.Store), Addr: "addr:1"}
		_, err := db.Store.RegisterReplica(ctx(t), r, leaseTTL)
		ok(t, err)
		e := fleet.Executor{
			ID: "b", Tenant: "acme", Shared: true, JournalID: "journal",
			Labels: map[string]string{"os": "linux"}, Slots: 4, Version: "v1",
			Root: "/root", Isolation: "none", Draining: true, Replica: r.ID,
			Journal: fleet.Journal{Name: "as it calls it", Incarnation: "i1", Begun: 1 << 40},
			Tools: []tool.Offered{
				{
					Name: "a", Description: "A\u0000.", Schema: []byte(`{"type":"object"}`), Safety: tool.Pure,
					Timeout: 5,
				},
				{Name: "b", Description: "B.", Schema: []byte(`{"type":"object"}`), Safety: tool.AtMostOnce},
			},
		}
		if epoch := connect(t, db.Store, e); epoch != 1 {
			t.Errorf("the first epoch is %d", epoch)
		}
		check := func() {
			t.Helper()
			got := executor(t, db.Second, "b")
			if got.LastSeen.IsZero() {
				t.Error("it was never seen")
			}
			e.ReplicaAddr, e.LastSeen = r.Addr, got.LastSeen
			equal(t, "the executor", got, e)
		}
		e.ConnectionEpoch = 1
		check()
		e = fleet.Executor{ID: "b", Tenant: session.DefaultTenant, JournalID: "journal2", Replica: r.ID}
		if epoch := connect(t, db.Second, e); epoch != 2 {
			t.Errorf("the second epoch is %d", epoch)
		}
		e.ConnectionEpoch = 2
		check()
		connect(t, db.Store, fleet.Executor{ID: "a", Replica: r.ID})
		all, err := db.Second.ListExecutors(ctx(t))
		ok(t, err)
		if len(all) != 2 || all[0].ID != "a" || all[1].ID != "b" {
			t.Errorf("listed %+v", all)
		}
		_, err = db.Store.GetExecutor(ctx(t), "c")
		refused(t, err, fleet.ErrNotFound)
	}},
	{"are away when their connection or its replica ends", func(t *testing.T, db DB) {
		r := live(t, db.Store)
		old := connect(t, db.Store, fleet.Executor{ID: "e", Replica: r})
		now := connect(t, db.Store, fleet.Executor{ID: "e", Replica: r})
		ok(t, db.Second.Disconnect(ctx(t), "e", old, 0))
		ok(t, db.Second.SetDraining(ctx(t), "e", old))
		if e := executor(t, db.Store, "e"); !e.Connected() || e.Draining {
			t.Errorf("an older connection changed %+v", e)
		}
		ok(t, db.Second.SetDraining(ctx(t), "e", now))
		if e := executor(t, db.Store, "e"); !e.Connected() || !e.Draining {
			t.Errorf("draining: %+v", e)
		}
		ok(t, db.Second.Disconnect(ctx(t), "e", now, 0))
		if e := executor(t, db.Store, "e"); e.Connected() || e.ConnectionEpoch != now {
			t.Errorf("disconnected: %+v", e)
		}
		connect(t, db.Store, fleet.Executor{ID: "e", Replica: r})
		db.Advance(leaseTTL)
		if e := executor(t, db.Store, "e"); e.Connected() || e.ReplicaAddr != "" {
			t.Errorf("its replica is dead: %+v", e)
		}
		all, err := db.Store.ListExecutors(ctx(t))
		ok(t, err)
		if len(all) != 1 || all[0].Connected() {
			t.Errorf("listed %+v", all)
		}
	}},
	{"count the calls that are dispatched to them", func(t *testing.T, db DB) {
		connect(t, db.Store, fleet.Executor{ID: "executor", Replica: live(t, db.Store)})
		connect(t, db.Store, fleet.Executor{ID: "other", Replica: live(t, db.Store)})
		oneCall(t, db, call.Pending)
		_, k := oneCall(t, db, call.Dispatched)
		oneCall(t, db, call.Dispatched)
		complete(t, db.Store, k.ID, call.Done, "")
		if got := executor(t, db.Second, "executor").Running; got != 1 {
			t.Errorf("%d run, want 1", got)
		}
		if got := executor(t, db.Second, "other").Running; got != 0 {
			t.Errorf("%d run at the other, want 0", got)
		}
	}},
	{"are remembered by how many calls they have begun", func(t *testing.T, db DB) {
		r := live(t, db.Store)
		begun := func(want int64) {
			t.Helper()
			if got := executor(t, db.Second, "e").Journal.Begun; got != want {
				t.Errorf("it has begun %d, want %d", got, want)
			}
		}
		set := func(epoch, n int64, want bool) {
			t.Helper()
			got, err := db.Store.SetBegun(ctx(t), "e", epoch, n)
			ok(t, err)
			if got != want {
				t.Errorf("connection %d is the present one: %v, want %v", epoch, got, want)
			}
		}
		set(1, 1, false)
		old := connect(t, db.Store, fleet.Executor{ID: "e", Replica: r, Journal: fleet.Journal{Begun: 5}})
		set(old, 7, true)
		begun(7)
		set(old, 6, true)
		begun(7)
		now := connect(t, db.Store, fleet.Executor{ID: "e", Replica: r, Journal: fleet.Journal{Begun: 3}})
		set(old, 9, false)
		ok(t, db.Store.Disconnect(ctx(t), "e", old, 9))
		begun(3)
		ok(t, db.Store.Disconnect(ctx(t), "e", now, 4))
		begun(4)
	}},
	{"connect once of those that have seen the same", func(t *testing.T, db DB) {
		const n = 8
		epochs, errs := make([]int64, n), make([]error, n)
		r := live(t, db.Store)
		for last := range int64(3) {
			together(t, n, func(i int) error {
				epochs[i], errs[i] = either(db, i).Connect(ctx(t), fleet.Executor{
					ID: "e", Replica: r, ConnectionEpoch: last,
				})
				return nil
			})
			connected := 0
			for i, err := range errs {
				if err != nil {
					refused(t, err, fleet.ErrChanged)
				} else if connected++; epochs[i] != last+1 {
					t.Errorf("after epoch %d came %d", last, epochs[i])
				}
			}
			if connected != 1 {
				t.Errorf("%d of %d connected", connected, n)
			}
		}
		for _, stale := range []int64{0, 2, 4} {
			_, err := db.Store.Connect(ctx(t), fleet.Executor{ID: "e", Replica: r, ConnectionEpoch: stale})
			refused(t, err, fleet.ErrChanged)
		}
	}},
}
