package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/submission"
)

var takeOverCases = []testCase{
	{"takes what expired owners ran, and charges it", func(t *testing.T, db DB) {
		dead, waiting := live(t, db.Store), queue(t, db.Store, "waiting")
		h := start(t, db.Store, "a", dead)
		c := h.step(1)
		c.Progress = &submission.Progress{Phase: submission.PhaseTools, Turn: 1}
		c.Executor = "executor"
		h.commit(t, c)
		queue(t, db.Store, "a")
		heir := live(t, db.Second)
		if got := takeOver(t, db.Second, heir); len(got) != 0 {
			t.Fatalf("took from the living: %+v", got)
		}
		db.Advance(leaseTTL - time.Second)
		renewed, err := db.Second.RenewReplica(ctx(t), heir, leaseTTL)
		ok(t, err)
		if !renewed {
			t.Fatal("the heir's lease was not renewed")
		}
		if got := takeOver(t, db.Second, heir); len(got) != 0 {
			t.Fatalf("took from the living: %+v", got)
		}
		db.Advance(2 * time.Second)
		got := takeOver(t, db.Second, heir)
		want := h.lease
		want.Fence.Epoch, want.Submission.Phase, want.Submission.Attempts, want.Submission.Stalls, want.Executor = 2, submission.PhaseTools, 1, 1, "executor"
		equal(t, "the leases", got, []submission.Lease{want})
		equal(t, "the submission", get(t, db.Store, want.Submission.ID), want.Submission)
		if c := consistent(t, db.Store, h.session()); c.Owner != heir {
			t.Errorf("the owner is %q", c.Owner)
		}
		if got := get(t, db.Store, waiting.ID); got.Status != submission.Queued {
			t.Errorf("a lane that nobody owned was taken over")
		}
		if got := takeOver(t, db.Second, heir); len(got) != 0 {
			t.Errorf("took over its own: %+v", got)
		}
	}},
	{"takes from those named dead, or from those who left", func(t *testing.T, db DB) {
		named, left, alive, heir := live(t, db.Store), live(t, db.Store), live(t, db.Store), live(t, db.Store)
		a, b := start(t, db.Store, "a", named), start(t, db.Store, "b", left)
		start(t, db.Store, "c", alive)
		ok(t, db.Store.RemoveReplica(ctx(t), left))
		for _, c := range []struct {
			dead []string
			want *holder
		}{{[]string{named}, a}, {nil, b}} {
			got := map[string]int64{}
			for _, l := range takeOver(t, db.Second, heir, c.dead...) {
				got[l.Fence.SessionID] = l.Fence.Epoch
			}
			equal(t, "the epochs", got, map[string]int64{c.want.session(): 2})
		}
	}},
	{"respects the limit", func(t *testing.T, db DB) {
		dead, heir := live(t, db.Store), live(t, db.Store)
		for _, name := range []string{"a", "b", "c"} {
			start(t, db.Store, name, dead)
		}
		for _, want := range []int{2, 1, 0} {
			got, err := db.Second.TakeOver(ctx(t), heir, []string{dead}, 2)
			ok(t, err)
			if len(got) != want {
				t.Errorf("took over %d lanes, want %d", len(got), want)
			}
		}
	}},
	{"counts stalls until there is progress, and attempts for good", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		expect := func(attempts, stalls int) {
			t.Helper()
			if got := get(t, db.Store, h.lease.Submission.ID); got.Attempts != attempts || got.Stalls != stalls {
				t.Errorf("%d attempts and %d stalls, want %d and %d", got.Attempts, got.Stalls, attempts, stalls)
			}
		}
		die := func() {
			t.Helper()
			h = hold(db.Store, takeOver(t, db.Second, live(t, db.Second), h.owner(t))[0])
		}
		die()
		die()
		expect(2, 2)
		h.commit(t, h.step(0)) // events are no progress
		expect(2, 2)
		c := h.step(0)
		c.Progress = &submission.Progress{Phase: submission.PhaseModel, Turn: 1}
		h.commit(t, c)
		expect(2, 0)
		die()
		die()
		expect(4, 2)
		h.commit(t, h.step(1))
		expect(4, 0)
		die()
		expect(5, 1)
		ok(t, db.Store.Release(ctx(t), h.lease.Fence))
		h = claimOne(t, db.Store, live(t, db.Store))
		expect(5, 1)
		ok(t, db.Store.ReleaseStalled(ctx(t), h.lease.Fence))
		h = claimOne(t, db.Store, live(t, db.Store))
		expect(5, 2)
		c = h.step(1)
		c.Progress = &submission.Progress{Phase: submission.PhaseTools, Turn: 1}
		h.commit(t, c)
		expect(5, 0)
		die()
		expect(6, 1)
		h.commit(t, h.end(false)) // completion wins over any budget
		if got := get(t, db.Store, h.lease.Submission.ID); got.Outcome != submission.Completed || got.Attempts != 6 {
			t.Errorf("settled as %+v", got)
		}
	}},
	{"gives every lane to one of many, and the zombie nothing", func(t *testing.T, db DB) {
		const lanes, heirs = 12, 4
		dead := live(t, db.Store)
		zombies := make([]*holder, lanes)
		for i := range zombies {
			zombies[i] = start(t, db.Store, string(rune('a'+i)), dead)
		}
		got := make([][]submission.Lease, heirs)
		settled := make([]bool, lanes)
		owners := make([]string, heirs)
		for i := range owners {
			owners[i] = live(t, db.Store)
		}
		together(t, heirs+lanes, func(i int) error {
			if i >= heirs {
				_, err := db.Store.Commit(ctx(t), zombies[i-heirs].end(false))
				settled[i-heirs] = err == nil
				return nil
			}
			for {
				leases, err := either(db, i).TakeOver(ctx(t), owners[i], []string{dead}, 2)
				if err != nil || len(leases) == 0 {
					return err
				}
				got[i] = append(got[i], leases...)
			}
		})
		times := map[string]int{}
		for i := range got {
			for _, l := range got[i] {
				times[l.Fence.SessionID]++
			}
		}
		for i, z := range zombies {
			if taken := times[z.session()] == 1; taken == settled[i] || times[z.session()] > 1 {
				t.Errorf("lane %d: settled %v, taken over %d times", i, settled[i], times[z.session()])
			}
			consistent(t, db.Store, z.session())
		}
	}},
}
