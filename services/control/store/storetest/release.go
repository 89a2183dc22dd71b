package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
)

var releaseCases = []testCase{
	{"of a drain charges nothing and leaves the lane due", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		want := get(t, db.Store, h.id())
		h.release(t, lane.Release{})
		equal(t, "the submission", get(t, db.Store, h.id()), want)
		claimOne(t, db.Second, live(t, db.Second))
	}},
	{"after an error charges its loop, keeps the cause, and pauses", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		child := h.withChild(t).ID
		for n, charged := range []int{1, 1, 0} {
			h.release(t, lane.Release{
				Stalled: h.lease.Loops[charged].ID, Cause: strings.Repeat("why ", n+1), Pause: time.Minute,
			})
			if out := claimed(t, db.Second, owner, 10); len(out.Leases) != 0 || out.Next <= 50*time.Second {
				t.Fatalf("claimed %+v during the pause", out)
			}
			db.Advance(time.Minute)
			h = claimOne(t, db.Second, owner)
		}
		root, sub := h.lease.Loops[0], h.lease.Loops[1]
		if sub.ID != child || sub.Stalls != 2 || sub.StallCause != "why why " || root.Stalls != 1 ||
			root.StallCause != "why why why " || root.Attempts != 0 {
			t.Errorf("charged %+v and %+v", root, sub)
		}
		h.commit(t, h.stepOf(&h.lease.Loops[1], 1))
		h.release(t, lane.Release{})
		h = claimOne(t, db.Store, owner)
		if got := h.lease.Loops[1]; got.Stalls != 0 || got.StallCause != "" || h.root().Stalls != 1 {
			t.Errorf("after progress of the sub-agent: %+v", h.lease.Loops)
		}
	}},
	{"is charged to the head once its loop has ended", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t).ID
		c := h.stepOf(&h.lease.Loops[1], 1)
		c.End = &lane.Settlement{Outcome: lane.Completed}
		h.commit(t, c)
		h.release(t, lane.Release{Stalled: child, Cause: "why"})
		if got := claimOne(t, db.Second, live(t, db.Second)).root(); got.Stalls != 1 || got.StallCause != "why" {
			t.Errorf("the head is charged %d stalls, for %q", got.Stalls, got.StallCause)
		}
	}},
	{"does not pause beyond the end of the head", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := startWithin(t, db.Store, "a", owner, time.Minute)
		h.release(t, lane.Release{Stalled: h.id(), Pause: time.Hour})
		db.Advance(time.Minute + time.Second)
		h = claimOne(t, db.Second, owner)
		if h.lease.Ends.In > 0 || h.lease.Ends.Why != lane.Deadline {
			t.Errorf("it ends in %+v", h.lease.Ends)
		}
		h.release(t, lane.Release{Stalled: h.id(), Pause: time.Hour})
		claimOne(t, db.Second, owner)
	}},
	{"an epoch is raised above what an executor knows, by so much at most", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for _, above := range []int64{-1, 0, 1 + 1<<20, 1 << 40} {
			_, err := db.Second.Raise(ctx(t), h.lease.Fence, above)
			refused(t, err, lane.ErrFenced)
		}
		for _, above := range []int64{1, 7, 7 + 1<<20} {
			f, err := db.Second.Raise(ctx(t), h.lease.Fence, above)
			ok(t, err)
			equal(t, "the fence", f, lane.Fence{LaneID: h.session(), Epoch: above + 1})
			h.lease.Fence = f
		}
		h.commit(t, h.end(false))
	}},
}
