package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var takeOverCases = []testCase{
	{"takes what expired owners ran, and charges it", func(t *testing.T, db DB) {
		dead, waiting := live(t, db.Store), queue(t, db.Store, "waiting")
		h := start(t, db.Store, "a", dead)
		c := h.step(1)
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 1}
		c.lane.Executor = "executor"
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
		want.Fence.Epoch, want.Executor, want.TakenOver = 2, "executor", true
		want.Root().Attempts, want.Root().Stalls = 1, 1
		equal(t, "the leases", got, []lane.Lease{want})
		equal(t, "the loop", get(t, db.Store, h.id()).Loop, *want.Root())
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
				got[l.Fence.LaneID] = l.Fence.Epoch
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
			if len(got.Leases) != want {
				t.Errorf("took over %d lanes, want %d", len(got.Leases), want)
			}
		}
	}},
	{"counts stalls until there is progress, and attempts for good", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		expect := func(attempts, stalls int) {
			t.Helper()
			if got := get(t, db.Store, h.id()); got.Attempts != attempts || got.Stalls != stalls {
				t.Errorf("%d attempts and %d stalls, want %d and %d", got.Attempts, got.Stalls, attempts, stalls)
			}
		}
		die := func() { t.Helper(); h = h.die(t, db.Second) }
		die()
		die()
		expect(2, 2)
		h.commit(t, h.step(0)) // events are no progress
		expect(2, 2)
		c := h.step(0)
		c.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 1}
		h.commit(t, c)
		expect(2, 0)
		die()
		die()
		expect(4, 2)
		h.commit(t, h.step(1))
		expect(4, 0)
		die()
		c = h.step(0)
		k := newCall(h, 1, 0)
		c.Calls = []call.Call{k}
		h.commit(t, c) // nor is a call that is made
		expect(5, 1)
		c = h.step(0)
		c.Outcomes = []call.Outcome{{CallID: k.ID, State: call.Done}}
		h.commit(t, c)
		expect(5, 0)
		die()
		h.release(t, lane.Release{})
		h = claimOne(t, db.Store, live(t, db.Store))
		expect(6, 1)
		h.commit(t, h.end(false)) // completion wins over any budget
		if got := get(t, db.Store, h.id()); got.Outcome != lane.Completed || got.Attempts != 6 {
			t.Errorf("settled as %+v", got)
		}
	}},
	{"charges every open loop", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t).ID
		h.commit(t, h.child(&h.lease.Loops[1]))
		settled := h.withChild(t)
		c := h.stepOf(settled, 1)
		c.End = &lane.Settlement{Outcome: lane.Completed}
		h.commit(t, c)
		h = h.die(t, db.Second)
		h = h.die(t, db.Second)
		if len(h.lease.Loops) != 3 || h.lease.Loops[1].ID != child || h.root().Attempts != 2 {
			t.Fatalf("the open loops are %+v", h.lease.Loops)
		}
		for _, l := range h.lease.Loops {
			if l.Stalls != 2 {
				t.Errorf("loop %s has %d stalls", l.ID, l.Stalls)
			}
		}
		h.commit(t, h.stepOf(&h.lease.Loops[1], 1)) // its own progress only
		h = h.die(t, db.Second)
		for i, want := range []int{3, 1, 3} {
			if got := h.lease.Loops[i].Stalls; got != want {
				t.Errorf("loop %d has %d stalls, want %d", i, got, want)
			}
		}
	}},
	{"gives every lane to one of many, and the zombie nothing", func(t *testing.T, db DB) {
		const lanes, heirs = 12, 4
		dead := live(t, db.Store)
		zombies := make([]*holder, lanes)
		for i := range zombies {
			zombies[i] = start(t, db.Store, string(rune('a'+i)), dead)
		}
		got := make([][]lane.Lease, heirs)
		settled := make([]bool, lanes)
		owners := make([]string, heirs)
		for i := range owners {
			owners[i] = live(t, db.Store)
		}
		together(t, heirs+lanes, func(i int) error {
			if i >= heirs {
				_, err := db.Store.Commit(ctx(t), zombies[i-heirs].end(false).commit())
				settled[i-heirs] = err == nil
				return nil
			}
			for {
				out, err := either(db, i).TakeOver(ctx(t), owners[i], []string{dead}, 2)
				if err != nil || len(out.Leases) == 0 {
					return err
				}
				got[i] = append(got[i], out.Leases...)
			}
		})
		times := map[string]int{}
		for i := range got {
			for _, l := range got[i] {
				times[l.Fence.LaneID]++
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
