package storetest

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
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

func abortRequests(t tester, s store.Store, owner string) []string {
	t.Helper()
	requests, err := s.AbortRequests(ctx(t), owner)
	ok(t, err)
	var ids []string
	for _, r := range requests {
		if sub := get(t, s, r.SubmissionID); sub.SessionID != r.SessionID || sub.Status != submission.Running {
			t.Errorf("asked to abort %+v, which is %+v", r, sub)
		}
		ids = append(ids, r.SessionID)
	}
	return ids
}

var abortCases = []testCase{
	{"settles a queued one", func(t *testing.T, db DB) {
		first, second := queue(t, db.Store, "a"), queue(t, db.Store, "a")
		for _, sub := range []submission.Submission{second, first} {
			got := abort(t, db.Second, sub.ID)
			want := sub
			z := submission.NeverBegan()
			want.Status, want.Outcome, want.AbortRequested, want.SettledAt = submission.SettledStatus, submission.Aborted, true, got.SettledAt
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
		if h.lease.Submission.ID != second.ID {
			t.Errorf("claimed submission %d", h.lease.Submission.Seq)
		}
		third := queue(t, db.Store, "a")
		abort(t, db.Store, third.ID)
		if out := h.commit(t, h.end(false)); out.Ready || out.Next != nil || out.AbortRequested {
			t.Errorf("answered %+v", out)
		}
		if c := consistent(t, db.Store, h.session()); c.Session.Pending != 0 {
			t.Errorf("%d pending", c.Session.Pending)
		}
	}},
	{"marks a running one", func(t *testing.T, db DB) {
		owner, other := live(t, db.Store), live(t, db.Store)
		h, calm := start(t, db.Store, "a", owner), start(t, db.Store, "b", owner)
		start(t, db.Store, "c", other)
		if out := h.commit(t, h.step(1)); out.AbortRequested {
			t.Errorf("an abort is told before it is requested")
		}
		got := abort(t, db.Second, h.lease.Submission.ID)
		if got.Status != submission.Running || !got.AbortRequested {
			t.Errorf("answered %+v", got)
		}
		equal(t, "aborting again", abort(t, db.Second, h.lease.Submission.ID), got)
		equal(t, "the requests", abortRequests(t, db.Second, owner), []string{h.session()})
		if ids := abortRequests(t, db.Second, other); len(ids) != 0 {
			t.Errorf("the other replica is asked to abort %v", ids)
		}
		for n := range 2 { // with and without entries
			if out := h.commit(t, h.step(n)); !out.AbortRequested {
				t.Errorf("a commit of %d entries does not tell of the request", n)
			}
		}
		c := h.step(0)
		c.Progress = &submission.Progress{Phase: submission.PhaseTools, Turn: 1, InputEntry: 1}
		if out := h.commit(t, c); !out.AbortRequested {
			t.Errorf("a commit with progress does not tell of the request")
		}
		if out := calm.commit(t, calm.step(1)); out.AbortRequested {
			t.Errorf("another session is told to abort")
		}
		if out := h.commit(t, h.end(false)); !out.AbortRequested {
			t.Errorf("the last commit does not tell of the request")
		}
		if ids := abortRequests(t, db.Second, owner); len(ids) != 0 {
			t.Errorf("settled and still asked to abort %v", ids)
		}
	}},
	{"stays with what is handed over", func(t *testing.T, db DB) {
		first, second := live(t, db.Store), live(t, db.Second)
		h := start(t, db.Store, "a", first)
		ok(t, db.Store.Release(ctx(t), h.lease.Fence))
		if got := abort(t, db.Store, h.lease.Submission.ID); got.Status != submission.Running || !got.AbortRequested {
			t.Errorf("aborting what has begun and waits for an owner: %+v", got)
		}
		if ids := abortRequests(t, db.Store, first); len(ids) != 0 {
			t.Errorf("who released it is asked to abort %v", ids)
		}
		next := claimOne(t, db.Second, second)
		if !next.lease.Submission.AbortRequested {
			t.Errorf("the lease does not tell of the request")
		}
		equal(t, "the requests", abortRequests(t, db.Store, second), []string{h.session()})
		consistent(t, db.Store, h.session())
	}},
	{"leaves a settled one", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.end(false))
		want := get(t, db.Store, h.lease.Submission.ID)
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
			if n != settled || running != h.lease.Submission.ID {
				t.Errorf("settled %d, marked %q", n, running)
			}
		}
		for _, sub := range queued {
			if got := get(t, db.Store, sub.ID); got.Outcome != submission.Aborted ||
				got.Reason != submission.ReasonAborted || !got.Cancellation.Confirmed || got.SettledAt.IsZero() {
				t.Errorf("a queued one is %+v", got)
			}
		}
		if got := get(t, db.Store, other.ID); got.Status != submission.Queued || got.AbortRequested {
			t.Errorf("another session's is %+v", got)
		}
		if c := consistent(t, db.Store, h.session()); c.Session.Pending != 1 {
			t.Errorf("%d are pending, want the running one", c.Session.Pending)
		}
		equal(t, "the requests", abortRequests(t, db.Store, owner), []string{h.session()})
		if out := h.commit(t, h.end(true)); out.Next != nil || out.Ready || !out.AbortRequested {
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
		owner := live(t, db.Store)
		if got := claim(t, db.Store, owner, 10); len(got) != 0 {
			t.Errorf("claimed a lane on which nothing waits: %+v", got)
		}
		start(t, db.Store, "a", owner)
	}},
	{"of a session stays with what is handed over", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		ok(t, db.Store.Release(ctx(t), h.lease.Fence))
		n, running, err := db.Store.RequestAbortSession(ctx(t), session.DefaultTenant, h.session())
		ok(t, err)
		if n != 0 || running != h.lease.Submission.ID {
			t.Errorf("settled %d, marked %q", n, running)
		}
		if next := claimOne(t, db.Second, live(t, db.Second)); !next.lease.Submission.AbortRequested {
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
	{"finds only the tenant's", func(t *testing.T, db DB) {
		sub := queue(t, db.Store, "a")
		_, err := db.Store.RequestAbort(ctx(t), session.DefaultTenant, ident.New())
		refused(t, err, submission.ErrNotFound)
		_, err = db.Store.RequestAbort(ctx(t), "other", sub.ID)
		refused(t, err, submission.ErrNotFound)
		equal(t, "the submission", get(t, db.Store, sub.ID), sub)
	}},
}
