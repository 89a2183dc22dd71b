package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func abort(t tester, s store.Store, id string) submission.Submission {
	t.Helper()
	sub, err := s.RequestAbort(ctx(t), session.DefaultTenant, id)
	ok(t, err)
	return sub
}

// toldToEnd commits a step and wants to be told by it that the head has to end because of an abort.
func (h *holder) toldToEnd(t tester, d *draft) {
	t.Helper()
	if out := h.commit(t, d); out.Ends.Why != lane.Abort || out.Ends.In > 0 {
		t.Errorf("a commit answers %+v, and an abort was requested", out)
	}
}

var abortCases = []testCase{
	{"settles a queued one", func(t *testing.T, db DB) {
		first, second := queue(t, db.Store, "a"), queue(t, db.Store, "a")
		for _, sub := range []submission.Submission{second, first} {
			got := abort(t, db.Second, sub.ID)
			want := sub
			z := submission.NeverBegan()
			want.Status, want.Outcome, want.AbortRequested = submission.SettledStatus, lane.Aborted, true
			want.SettledAt = got.SettledAt
			want.Reason, want.Message, want.Cancellation = z.Reason, z.Message, z.Cancellation
			equal(t, "the answer", got, want)
			equal(t, "the submission", get(t, db.Store, sub.ID), want)
			if got.SettledAt.IsZero() || !got.StartedAt.IsZero() {
				t.Errorf("settled at %v, started at %v", got.SettledAt, got.StartedAt)
			}
			equal(t, "aborting again", abort(t, db.Second, sub.ID), want)
			if c := consistent(t, db.Store, sub.SessionID); len(c.Events) != 0 {
				t.Errorf("somebody who does not own the lane appended an event")
			}
		}
		owner := live(t, db.Store)
		if got := claim(t, db.Store, owner, 10); len(got) != 0 {
			t.Errorf("claimed a lane on which nothing waits: %+v", got)
		}
		start(t, db.Store, "a", owner) // it is idle
	}},
	{"leaves the others of the session", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		first, second := queue(t, db.Store, "a"), queue(t, db.Store, "a")
		abort(t, db.Store, first.ID)
		h := claimOne(t, db.Store, owner)
		if h.id() != second.ID {
			t.Errorf("claimed submission %d", h.root().Seq)
		}
		third := queue(t, db.Store, "a")
		abort(t, db.Store, third.ID)
		if out := h.commit(t, h.end(false)); out.Ready || out.Next != nil {
			t.Errorf("answered %+v", out)
		}
		if c := consistent(t, db.Store, h.session()); c.Session.Pending != 0 {
			t.Errorf("%d pending", c.Session.Pending)
		}
	}},
	{"makes a running one end, and counts as mail", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h, calm := start(t, db.Store, "a", owner), start(t, db.Store, "b", owner)
		if out := h.commit(t, h.step(1)); out.Ends.Why != lane.NoEnd || out.Ends.In != lane.Never || out.Mail != 0 {
			t.Errorf("before an abort: %+v", out)
		}
		got := abort(t, db.Second, h.id())
		if got.Status != submission.Running || !got.AbortRequested {
			t.Errorf("answered %+v", got)
		}
		equal(t, "aborting again", abort(t, db.Second, h.id()), got)
		for n := range 2 { // with and without entries
			h.toldToEnd(t, h.step(n))
		}
		c := h.step(0)
		c.Progress = &lane.Progress{Phase: lane.PhaseTools, Turn: 1, InputEntry: 1}
		h.toldToEnd(t, c)
		own, err := db.Second.Own(ctx(t), owner)
		ok(t, err)
		for _, l := range own {
			if mine := l.Fence.LaneID == h.session(); mine != (l.Mail == 1) || mine != (l.Ends.Why == lane.Abort) {
				t.Errorf("its owner reads %+v", l)
			}
		}
		if out := calm.commit(t, calm.step(1)); out.Ends.Why != lane.NoEnd {
			t.Errorf("another session is told to abort")
		}
		h.commit(t, h.end(false))
		next := start(t, db.Store, "a", owner)
		if next.lease.Ends.Why != lane.NoEnd {
			t.Errorf("what comes next has to end: %+v", next.lease.Ends)
		}
	}},
	{"does not put off an end that is due, and comes before a later one", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		late, early := startWithin(t, db.Store, "a", owner, time.Minute), startWithin(t, db.Store, "b", owner, time.Hour)
		db.Advance(time.Minute)
		abort(t, db.Store, late.id())
		abort(t, db.Store, early.id())
		if out := late.commit(t, late.step(0)); out.Ends.Why != lane.Deadline {
			t.Errorf("what was due to end is told %+v", out.Ends)
		}
		early.toldToEnd(t, early.step(0))
		db.Advance(lane.ForceGrace + time.Second)
		if got := force(t, db.Store); len(got) != 2 {
			t.Errorf("forced %+v", got)
		}
	}},
	{"stays with what is handed over", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.release(t, lane.Release{Stalled: h.id(), Pause: time.Hour})
		if got := abort(t, db.Store, h.id()); got.Status != submission.Running || !got.AbortRequested {
			t.Errorf("aborting what has begun and waits for an owner: %+v", got)
		}
		next := claimOne(t, db.Second, live(t, db.Second)) // at once, for all its pause
		if next.lease.Ends.Why != lane.Abort {
			t.Errorf("the lease does not tell of the request")
		}
		consistent(t, db.Store, h.session())
	}},
	{"leaves a settled one", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.end(false))
		want := get(t, db.Store, h.id())
		equal(t, "the answer", abort(t, db.Store, want.ID), want)
		equal(t, "the submission", get(t, db.Store, want.ID), want)
	}},
	{"of a session settles what is queued and marks what runs", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		queued := []submission.Submission{queue(t, db.Store, "a"), queue(t, db.Store, "a")}
		other := queue(t, db.Store, "b")
		for _, settled := range []int{2, 0} { // and again
			n, running, err := db.Second.RequestAbortSession(ctx(t), session.DefaultTenant, h.session())
			ok(t, err)
			if n != settled || running != h.id() {
				t.Errorf("settled %d, marked %q", n, running)
			}
		}
		for _, sub := range queued {
			if got := get(t, db.Store, sub.ID); got.Outcome != lane.Aborted ||
				got.Reason != lane.ReasonAborted || !got.Cancellation.Confirmed || got.SettledAt.IsZero() {
				t.Errorf("a queued one is %+v", got)
			}
		}
		if got := get(t, db.Store, other.ID); got.Status != submission.Queued || got.AbortRequested {
			t.Errorf("another session's is %+v", got)
		}
		if c := consistent(t, db.Store, h.session()); c.Session.Pending != 1 {
			t.Errorf("%d are pending, want the running one", c.Session.Pending)
		}
		h.toldToEnd(t, h.step(0))
		if out := h.commit(t, h.end(true)); out.Next != nil || out.Ready {
			t.Errorf("answered %+v", out)
		}
		start(t, db.Store, "a", owner) // it is idle
	}},
	{"of a session leaves an idle lane when nothing ran", func(t *testing.T, db DB) {
		first, second := queue(t, db.Store, "a"), queue(t, db.Store, "a")
		n, running, err := db.Second.RequestAbortSession(ctx(t), session.DefaultTenant, first.SessionID)
		ok(t, err)
		if n != 2 || running != "" {
			t.Errorf("settled %d, marked %q", n, running)
		}
		consistent(t, db.Store, second.SessionID)
		start(t, db.Store, "a", live(t, db.Store))
	}},
	{"of a session stays with what is handed over", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.release(t, lane.Release{})
		n, running, err := db.Store.RequestAbortSession(ctx(t), session.DefaultTenant, h.session())
		ok(t, err)
		if n != 0 || running != h.id() {
			t.Errorf("settled %d, marked %q", n, running)
		}
		if next := claimOne(t, db.Second, live(t, db.Second)); next.lease.Ends.Why != lane.Abort {
			t.Errorf("the lease does not tell of the request")
		}
	}},
	{"of a session finds only the tenant's", func(t *testing.T, db DB) {
		sub := queue(t, db.Store, "a")
		for _, c := range []struct{ tenant, id string }{
			{"other", sub.SessionID},
			{session.DefaultTenant, ident.New()},
		} {
			_, _, err := db.Store.RequestAbortSession(ctx(t), c.tenant, c.id)
			refused(t, err, session.ErrNotFound)
		}
		if got := get(t, db.Store, sub.ID); got.Status != submission.Queued {
			t.Errorf("it is %+v", got)
		}
	}},
	{"does not find a sub-agent's loop", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		_, err := db.Store.RequestAbort(ctx(t), session.DefaultTenant, child.ID)
		refused(t, err, submission.ErrNotFound)
		n, running, err := db.Store.RequestAbortSession(ctx(t), session.DefaultTenant, child.SessionID)
		if ok(t, err); n != 0 || running != "" {
			t.Errorf("aborted %d and %q of its conversation", n, running)
		}
		if out := h.commit(t, h.end(false)); out.Ends.Why != lane.NoEnd {
			t.Errorf("answered %+v", out)
		}
	}},
	{"finds only the tenant's", func(t *testing.T, db DB) {
		sub := queue(t, db.Store, "a")
		_, err := db.Store.RequestAbort(ctx(t), session.DefaultTenant, ident.New())
		refused(t, err, submission.ErrNotFound)
		_, err = db.Store.RequestAbort(ctx(t), "other", sub.ID)
		refused(t, err, submission.ErrNotFound)
		equal(t, "the submission", get(t, db.Store, sub.ID), sub)
	}},
}
