package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const overdueGrace = 30 * time.Second

func takeOverdue(t tester, s store.Store, owner string) []submission.Lease {
	t.Helper()
	leases, err := s.TakeOverdue(ctx(t), owner, overdueGrace, 100)
	ok(t, err)
	return leases
}

// startWithin is start with a timeout.
func startWithin(t tester, s store.Store, name, owner string, timeout time.Duration) *holder {
	t.Helper()
	a := admission(name)
	a.Owner, a.Timeout = owner, timeout
	return hold(s, *admit(t, s, a).Lease)
}

var overdueCases = []testCase{
	{"lanes are taken from an owner that lives, a grace after the deadline", func(t *testing.T, db DB) {
		owner, other := live(t, db.Store), live(t, db.Second)
		h := startWithin(t, db.Store, "a", owner, time.Minute)
		startWithin(t, db.Store, "later", owner, time.Hour)
		start(t, db.Store, "never", owner)
		queue(t, db.Store, "waiting")
		db.Advance(time.Minute + overdueGrace - time.Second)
		if got := takeOverdue(t, db.Second, other); len(got) != 0 {
			t.Fatalf("took %+v too early", got)
		}
		db.Advance(2 * time.Second)
		got := takeOverdue(t, db.Second, other)
		want := h.lease
		want.Fence.Epoch, want.Forced = want.Fence.Epoch+1, true
		if diff := cmp.Diff([]submission.Lease{want}, got); diff != "" { // nothing is charged
			t.Fatalf("the leases differ (-want +got):\n%s", diff)
		}
		for name, write := range ownerWrites {
			refused(t, write(db.Store, h, call.Call{}), submission.ErrFenced)
			if t.Failed() {
				t.Fatal(name)
			}
		}
		heir := hold(db.Second, got[0])
		next := queue(t, db.Store, "a")
		c := heir.end(true)
		c.Settle.Outcome, c.Settle.Cancellation = submission.Expired, &call.Cancellation{Unconfirmed: []call.Unconfirmed{{
			CallID: "c", Tool: "bash", Executor: "x", Reason: call.ExecutorAway, Message: "a\x00b",
		}}}
		if out := heir.commit(t, c); out.Next == nil || out.Next.Submission.ID != next.ID || out.Next.Forced {
			t.Errorf("the next lease is %+v", out.Next)
		}
		sub := get(t, db.Store, want.Submission.ID)
		equal(t, "the cancellation", sub.Cancellation, c.Settle.Cancellation)
		if sub.Outcome != submission.Expired {
			t.Errorf("settled as %+v", sub)
		}
		consistent(t, db.Store, h.session())
	}},
	{"lanes are taken a grace after an abort was requested", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		abort(t, db.Store, h.lease.Submission.ID)
		db.Advance(overdueGrace - time.Second)
		abort(t, db.Store, h.lease.Submission.ID) // asking again does not put it off
		if got := takeOverdue(t, db.Store, owner); len(got) != 0 {
			t.Fatalf("took %+v too early", got)
		}
		db.Advance(2 * time.Second)
		got := takeOverdue(t, db.Store, owner) // from itself: one that hangs may be its own
		if len(got) != 1 || !got[0].Forced || !got[0].Submission.AbortRequested ||
			got[0].Fence.Epoch != h.lease.Fence.Epoch+1 {
			t.Fatalf("took %+v", got)
		}
	}},
	{"lanes are taken again only after another grace", func(t *testing.T, db DB) {
		owner, other := live(t, db.Store), live(t, db.Second)
		h := startWithin(t, db.Store, "a", owner, time.Minute)
		abort(t, db.Store, h.lease.Submission.ID)
		db.Advance(2 * time.Minute)
		if got := takeOverdue(t, db.Second, other); len(got) != 1 {
			t.Fatalf("took %+v", got)
		}
		db.Advance(overdueGrace - time.Second)
		if got := takeOverdue(t, db.Store, owner); len(got) != 0 {
			t.Fatalf("took %+v from one that has just begun to end it", got)
		}
		db.Advance(2 * time.Second)
		if got := takeOverdue(t, db.Store, owner); len(got) != 1 || got[0].Fence.Epoch != h.lease.Fence.Epoch+2 {
			t.Fatalf("took %+v", got)
		}
	}},
	{"lanes that nobody runs are not taken, and no more than the limit", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for _, name := range []string{"a", "b", "c"} {
			startWithin(t, db.Store, name, owner, time.Minute)
		}
		released := startWithin(t, db.Store, "released", owner, time.Minute)
		ok(t, db.Store.Release(ctx(t), released.lease.Fence))
		settled := startWithin(t, db.Store, "settled", owner, time.Minute)
		settled.commit(t, settled.end(false))
		db.Advance(2 * time.Minute)
		for _, want := range []int{2, 1, 0} {
			got, err := db.Second.TakeOverdue(ctx(t), owner, overdueGrace, 2)
			ok(t, err)
			if len(got) != want {
				t.Errorf("took %d lanes, want %d", len(got), want)
			}
		}
	}},
	{"lanes go to one of many, unless their owner ends them first", func(t *testing.T, db DB) {
		const lanes, heirs = 12, 4
		owner := live(t, db.Store)
		zombies, settled, next := make([]*holder, lanes), make([]bool, lanes), make([]submission.Submission, lanes)
		for i := range zombies {
			name := string(rune('a' + i))
			zombies[i] = startWithin(t, db.Store, name, owner, time.Minute)
			next[i] = queue(t, db.Store, name)
		}
		db.Advance(2 * time.Minute)
		got := make([][]submission.Lease, heirs)
		together(t, heirs+lanes, func(i int) (err error) {
			if i >= heirs {
				_, err := db.Store.Commit(ctx(t), zombies[i-heirs].end(true))
				settled[i-heirs] = err == nil
				return nil
			}
			got[i], err = either(db, i).TakeOverdue(ctx(t), owner, overdueGrace, lanes)
			return err
		})
		times := map[string]int{}
		for i := range got {
			for _, l := range got[i] {
				times[l.Submission.ID]++
			}
		}
		for i, z := range zombies {
			if n := times[z.lease.Submission.ID]; n > 1 || n == 1 && settled[i] {
				t.Errorf("lane %d: settled %v, taken %d times", i, settled[i], n)
			}
			if times[next[i].ID] != 0 {
				t.Errorf("lane %d: what came after the overdue one was forced", i)
			}
			consistent(t, db.Store, z.session())
		}
	}},
}
