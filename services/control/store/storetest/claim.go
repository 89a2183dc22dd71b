package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
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
				got = append(got, l.Fence.SessionID)
			}
		}
		equal(t, "the order", got, want)
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
		want.Status, want.StartedAt, want.Deadline = submission.Running, got.Submission.StartedAt, got.Submission.StartedAt.Add(time.Minute)
		equal(t, "the lease", got, submission.Lease{
			Fence:      submission.Fence{SessionID: first.SessionID, Epoch: 1},
			Submission: want,
		})
		if waited := got.Submission.StartedAt.Sub(first.AcceptedAt); waited < time.Hour ||
			waited > time.Hour+time.Minute {
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
		first, second := live(t, db.Store), live(t, db.Second)
		h := start(t, db.Store, "a", first)
		queue(t, db.Store, "a")
		c := h.step(1)
		c.Progress = &submission.Progress{Phase: submission.PhaseTools, Turn: 1}
		c.Executor = "executor"
		h.commit(t, c)
		ok(t, db.Store.Release(ctx(t), h.lease.Fence))
		if c := consistent(t, db.Store, h.session()); c.Owner != "" {
			t.Errorf("a released lane has an owner: %q", c.Owner)
		}
		db.Advance(time.Minute)
		got := claimOne(t, db.Second, second)
		want := h.lease
		want.Fence.Epoch, want.Submission.Phase, want.Executor = 2, submission.PhaseTools, "executor"
		equal(t, "the lease", got.lease, want)
		got.commit(t, got.end(false))
	}},
	{"gives every lane to one of many", func(t *testing.T, db DB) {
		const lanes, claimers = 20, 8
		ids := map[string]int{}
		for i := range lanes {
			ids[queue(t, db.Store, string(rune('a'+i))).SessionID] = 0
		}
		owners := []string{live(t, db.Store), live(t, db.Second)}
		got := make([][]submission.Lease, claimers)
		together(t, claimers, func(i int) error {
			for {
				leases, err := either(db, i).Claim(ctx(t), owners[i%2], 3)
				if err != nil || len(leases) == 0 {
					return err
				}
				got[i] = append(got[i], leases...)
			}
		})
		for _, leases := range got {
			for _, l := range leases {
				ids[l.Fence.SessionID]++
				if l.Fence.Epoch != 1 || l.Submission.Status != submission.Running {
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
		owned := func(owner string) map[submission.Fence]bool {
			t.Helper()
			lanes, err := db.Second.OwnedLanes(ctx(t), owner)
			ok(t, err)
			all := map[submission.Fence]bool{}
			for _, f := range lanes {
				all[f] = true
			}
			return all
		}
		equal(t, "the lanes", owned(one), map[submission.Fence]bool{a.lease.Fence: true, b.lease.Fence: true})
		ok(t, db.Store.Release(ctx(t), a.lease.Fence))
		equal(t, "the lanes", owned(one), map[submission.Fence]bool{b.lease.Fence: true})
		// A replica whose row was deleted as that of one long dead, and that went on.
		lost := start(t, db.Store, "e", ghost)
		equal(t, "the lanes", owned(ghost), map[submission.Fence]bool{lost.lease.Fence: true})
		if got := takeOver(t, db.Second, two); len(got) != 1 || got[0].Fence.SessionID != lost.session() {
			t.Errorf("took over %+v", got)
		}
	}},
}
