package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var claimCases = []testCase{
	{"takes the oldest lanes, up to the limit", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		var want []string
		for _, name := range []string{"c", "a", "b"} {
			want = append(want, queue(t, db.Store, name).SessionID)
			db.Advance(time.Second)
		}
		queue(t, db.Store, "c") // does not move its lane back
		var got []string
		for _, limit := range []int{2, 0, 5, 5} {
			leases := claim(t, db.Second, owner, limit)
			if len(leases) > limit {
				t.Errorf("claimed %d lanes, the limit is %d", len(leases), limit)
			}
			for _, l := range leases {
				got = append(got, l.Fence.LaneID)
			}
		}
		equal(t, "the order", got, want)
	}},
	{"brings what the caller asked for beside the input", func(t *testing.T, db DB) {
		a := admission("a")
		a.Options = someOptions
		admit(t, db.Store, a)
		for range 2 {
			h := claimOne(t, db.Second, live(t, db.Second))
			equal(t, "the options", h.root().Options, someOptions)
			h.release(t, lane.Release{})
		}
	}},
	{"takes turns between tenants, and keeps the order within one", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		in := func(tenant, name string) {
			a := admission(name)
			a.Key.Tenant = tenant
			admit(t, db.Store, a)
			db.Advance(time.Millisecond)
		}
		for i := range 60 {
			in("busy", fmt.Sprintf("%02d", i))
		}
		for _, tenant := range []string{"b", "a"} {
			in(tenant, "1")
			in(tenant, "2")
		}
		var names []string
		got := map[string]int{}
		first := map[string]int{}
		for n := 0; n < 64; {
			limit := 1 + n/8
			leases := claim(t, db.Store, owner, limit)
			if len(leases) == 0 {
				t.Fatalf("nothing is claimed after %d lanes", n)
			}
			for _, l := range leases {
				n++
				k := l.Root().Key
				if got[k.Tenant]++; first[k.Tenant] == 0 {
					first[k.Tenant] = n
				}
				if k.Tenant == "busy" {
					names = append(names, k.Name)
				}
			}
		}
		for tenant, at := range first {
			if at > 1+3 { // one that was claimed before anybody knew that others wait, and one of each
				t.Errorf("%s waits for %d lanes", tenant, at)
			}
		}
		if !slices.IsSorted(names) || len(names) != 60 {
			t.Errorf("the order within a tenant: %v", names)
		}
		if left := claim(t, db.Store, owner, 10); len(left) != 0 || got["a"] != 2 || got["b"] != 2 {
			t.Errorf("claimed %v, left %d", got, len(left))
		}
	}},
	{"gives one tenant all that nobody else waits for", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for i := range 30 {
			queue(t, db.Store, fmt.Sprint(i))
		}
		for _, n := range []int{5, 20, 5} {
			if got := claim(t, db.Store, owner, n); len(got) != n {
				t.Errorf("claimed %d lanes, want %d", len(got), n)
			}
		}
	}},
	{"leases the first submission and starts its clock", func(t *testing.T, db DB) {
		a := admission("a")
		a.Timeout = time.Minute
		first := admit(t, db.Store, a).Submission
		queue(t, db.Store, "a")
		db.Advance(time.Hour) // spent waiting, which the timeout does not count
		owner := live(t, db.Store)
		got := claim(t, db.Second, owner, 1)[0]
		want := first
		want.Status, want.StartedAt = submission.Running, got.Root().StartedAt
		equal(t, "the lease", got, lane.Lease{
			Fence: lane.Fence{LaneID: first.SessionID, Epoch: 1}, Kind: lane.KindSession, Loops: []lane.Loop{want.Loop},
			Ends: lane.Ends{In: time.Minute, Why: lane.Deadline},
		})
		if waited := want.StartedAt.Sub(first.AcceptedAt); waited < time.Hour || waited > time.Hour+time.Minute {
			t.Errorf("started %v after it was accepted", waited)
		}
		equal(t, "the submission", get(t, db.Store, first.ID), want)
		if c := consistent(t, db.Store, first.SessionID); c.Owner != owner {
			t.Errorf("the owner is %q", c.Owner)
		}
	}},
	{"leaves lanes that run or are idle", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		queue(t, db.Store, "a")
		if got := claim(t, db.Second, owner, 10); len(got) != 0 {
			t.Errorf("claimed a running lane: %+v", got)
		}
		h.commit(t, h.end(false))
		h = claimOne(t, db.Store, owner)
		h.commit(t, h.end(false))
		if got := claim(t, db.Second, owner, 10); len(got) != 0 {
			t.Errorf("claimed an idle lane: %+v", got)
		}
	}},
	{"resumes what was released before what came later, uncharged", func(t *testing.T, db DB) {
		a := admission("a")
		a.Owner, a.Timeout = live(t, db.Store), time.Hour
		h := hold(db.Store, *admit(t, db.Store, a).Lease)
		queue(t, db.Store, "a")
		c := h.step(1)
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 1}
		c.lane.Executor = "executor"
		h.commit(t, c)
		h.release(t, lane.Release{})
		if c := consistent(t, db.Store, h.session()); c.Owner != "" {
			t.Errorf("a released lane has an owner: %q", c.Owner)
		}
		db.Advance(time.Minute)
		got := claimOne(t, db.Second, live(t, db.Second))
		want := h.lease
		want.Fence.Epoch, want.Executor, want.Ends.In = 2, "executor", 59*time.Minute // its time goes on
		equal(t, "the lease", got.lease, want)
		got.commit(t, got.end(false))
	}},
	{"begins a conversation's next submission where its entries end", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(3))
		queue(t, db.Store, "a")
		h.commit(t, h.end(false))
		next := claimOne(t, db.Second, live(t, db.Second))
		if next.root().EntryHead != 5 {
			t.Errorf("it begins at entry %d, want 5", next.root().EntryHead)
		}
		next.commit(t, next.end(false))
	}},
	{"says when the next lane is due", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		next := func(want time.Duration) {
			t.Helper()
			out := claimed(t, db.Second, owner, 1)
			equal(t, "how long until then", lane.Ends{In: out.Next}, lane.Ends{In: want})
		}
		next(lane.Never)
		h := start(t, db.Store, "a", owner)
		h.commit(t, h.park(time.Hour))
		forever := start(t, db.Store, "b", owner)
		forever.commit(t, forever.park(lane.Never))
		next(time.Hour)
		db.Advance(time.Minute)
		next(59 * time.Minute)
		queue(t, db.Store, "c")
		queue(t, db.Store, "d")
		next(0) // of what the limit has left
		out, err := db.Store.Claim(ctx(t), owner, lane.KindRun, 10)
		ok(t, err)
		if len(out.Leases) != 0 || out.Next != lane.Never {
			t.Errorf("of the other kind: %+v", out)
		}
	}},
	{"of a prompt does not wait behind timers that came due before", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for range 20 {
			h := start(t, db.Store, ident.New(), owner)
			h.commit(t, h.park(time.Minute))
		}
		db.Exec("UPDATE lanes SET kind = 2")
		db.Advance(time.Hour)
		want := queue(t, db.Store, "a").SessionID
		if got := claimOne(t, db.Second, owner); got.session() != want {
			t.Errorf("claimed %s", got.session())
		}
	}},
	{"gives every lane to one of many", func(t *testing.T, db DB) {
		const lanes, claimers = 20, 8
		ids := map[string]int{}
		for i := range lanes {
			ids[queue(t, db.Store, string(rune('a'+i))).SessionID] = 0
		}
		owners := []string{live(t, db.Store), live(t, db.Second)}
		got := make([][]lane.Lease, claimers)
		together(t, claimers, func(i int) error {
			for {
				out, err := either(db, i).Claim(ctx(t), owners[i%2], lane.KindSession, 3)
				if err != nil || len(out.Leases) == 0 {
					return err
				}
				got[i] = append(got[i], out.Leases...)
			}
		})
		for _, leases := range got {
			for _, l := range leases {
				ids[l.Fence.LaneID]++
				if l.Fence.Epoch != 1 || l.Root().StartedAt.IsZero() {
					t.Errorf("lease %+v", l)
				}
			}
		}
		for id, n := range ids {
			if n != 1 {
				t.Errorf("lane %s was claimed %d times", id, n)
			}
			consistent(t, db.Store, id)
		}
	}},
	{"lanes that are owned can be found, also by whom nobody knows", func(t *testing.T, db DB) {
		one, two, ghost := live(t, db.Store), live(t, db.Store), ident.New()
		a, b := start(t, db.Store, "a", one), start(t, db.Store, "b", one)
		start(t, db.Store, "c", two)
		queue(t, db.Store, "d")
		owned := func(owner string, want ...*holder) {
			t.Helper()
			out, err := db.Second.Own(ctx(t), owner)
			ok(t, err)
			got, held := map[string]lane.Held{}, map[string]lane.Held{}
			for _, l := range out {
				got[l.Fence.LaneID] = l
			}
			for _, h := range want {
				held[h.session()] = lane.Held{
					Fence: h.lease.Fence, EventHead: h.lease.EventHead, Mail: h.lease.Mail, Ends: h.lease.Ends,
				}
			}
			equal(t, "the lanes", got, held)
		}
		owned(one, a, b)
		ok(t, db.Store.Post(ctx(t), b.session()))
		_, err := db.Store.MoveMail(ctx(t))
		ok(t, err)
		abort(t, db.Store, a.id())
		a.lease.Mail, b.lease.Mail, a.lease.Ends = 1, 1, lane.Ends{Why: lane.Abort}
		owned(one, a, b)
		a.release(t, lane.Release{})
		owned(one, b)
		// A replica whose row was deleted as that of one long dead, and that went on.
		lost := start(t, db.Store, "e", ghost)
		owned(ghost, lost)
		if got := takeOver(t, db.Second, two); len(got) != 1 || got[0].Fence.LaneID != lost.session() {
			t.Errorf("took over %+v", got)
		}
	}},
}
