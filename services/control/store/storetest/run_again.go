package storetest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// failedRun is a run with records that has failed.
func failedRun(t tester, db DB, n run.Start) *holder {
	t.Helper()
	h := ownRun(t, db.Store, n)
	large := endedStep(1, 0, "a")
	large.Output = json.RawMessage(`"` + strings.Repeat("x", 3*run.Inline) + `"`)
	whole := endedStep(2, 0, "b")
	whole.State, whole.Output, whole.Folds = step.Failed, nil, true
	whole.Failed = &step.Failure{Reason: "R"}
	gone := endedStep(4, 2, "b[1]")
	gone.State, gone.Failed = step.Failed, &step.Failure{Reason: "R"}
	gone.Output = json.RawMessage(`"` + strings.Repeat("y", 3*run.Inline) + `"`)
	h.commit(t, h.records(large, begunStep(2, 0, "b"), endedStep(3, 2, "b[0]"), gone, whole))
	h.commit(t, h.finish(lane.Failed))
	return h
}

// someKept is what an attempt of failedRun keeps that goes on from b[1].
var someKept = drive.Kept{Records: []int{1, 2, 3}, Reopen: []int{2}}

// checkKept checks what is left with someKept.
func checkKept(t tester, s store.Store, id string) {
	t.Helper()
	all := allSteps(t, s, id)
	if len(all) != 3 || len(all[0].Output) != 3*run.Inline+2 || all[1].State != step.Started || all[1].Failed != nil ||
		!all[1].EndedAt.IsZero() || all[2].State != step.Completed {
		t.Errorf("the steps: %+v", all[1:])
	}
	equal(t, "what is open", openPaths(t, s, id), []string{"a", "b", "b[0]"})
}

func retry(id string) run.Retry {
	return run.Retry{Tenant: session.DefaultTenant, RunID: id, SubmissionID: ident.New(), Kept: someKept}
}

var againCases = []testCase{
	{"go on from what they have done", func(t *testing.T, db DB) {
		h := failedRun(t, db, newRun("w"))
		r := retry(h.session())
		r.Timeout = time.Hour
		out, err := db.Second.RetryRun(ctx(t), r)
		ok(t, err)
		if got := out.Run; got.Attempt != 2 || got.Status != run.Queued || got.SubmissionID != r.SubmissionID ||
			!got.EndedAt.IsZero() || got.LastOrd != 3 {
			t.Errorf("the run: %+v", got)
		}
		checkKept(t, db.Store, h.session())
		if n := db.Count(`SELECT count(*) FROM run_blobs`); n != 1 {
			t.Errorf("%d blobs are left", n)
		}
		same, err := db.Store.RetryRun(ctx(t), r) // its answer was lost
		if ok(t, err); same.Run.Attempt != 2 {
			t.Errorf("the same again: %+v", same)
		}
		_, err = db.Store.RetryRun(ctx(t), retry(h.session()))
		refused(t, err, run.ErrNotEnded)
		next := claimRun(t, db.Store, h.session())
		if next.id() != r.SubmissionID || next.lease.Ends.Why != lane.Deadline {
			t.Errorf("the lease: %+v", next.lease)
		}
		next.commit(t, next.records(endedStep(4, 2, "b[1]")))
		next.done(t)
		if got := getRun(t, db.Store, h.session()); got.Status != run.Completed || got.Attempt != 2 {
			t.Errorf("the run: %+v", got)
		}
		if subs, err := db.Store.ListSubmissions(ctx(t), h.session(), 0, 10); err != nil || len(subs) != 2 {
			t.Errorf("the attempts: %+v, %v", subs, err)
		}
		_, err = db.Store.RetryRun(ctx(t), retry(ident.New()))
		refused(t, err, run.ErrNotFound)
	}},
	{"are not begun again, or copied, with what another attempt has done", func(t *testing.T, db DB) {
		h := failedRun(t, db, newRun("w"))
		r := retry(h.session())
		r.Of = h.id()
		_, err := db.Store.RetryRun(ctx(t), r)
		ok(t, err)
		next := claimRun(t, db.Second, h.session())
		next.commit(t, next.finish(lane.Failed))
		before := allSteps(t, db.Store, h.session())
		late := retry(h.session())
		late.Of = h.id()
		_, err = db.Second.RetryRun(ctx(t), late)
		refused(t, err, run.ErrChanged)
		copied := newRun("w")
		copied.Fork = &run.Fork{RunID: h.session(), Of: h.id(), Kept: someKept}
		_, err = db.Second.StartRun(ctx(t), copied)
		refused(t, err, run.ErrChanged)
		if got := getRun(t, db.Store, h.session()); got.Attempt != 2 || got.Status != run.Failed {
			t.Errorf("the run: %+v", got)
		}
		sameSteps(t, "the steps", allSteps(t, db.Store, h.session()), before)
		copied.Fork.Of, late.Of = next.id(), next.id()
		_, err = db.Second.StartRun(ctx(t), copied)
		ok(t, err)
		_, err = db.Second.RetryRun(ctx(t), late)
		ok(t, err)
	}},
	{"wait for their key again, and are owned at once", func(t *testing.T, db DB) {
		h := failedRun(t, db, keyedRun("k", 1, run.Queue))
		other := ownRun(t, db.Store, keyedRun("k", 1, run.Queue))
		r := retry(h.session())
		r.Gate, r.Owner = &run.Gate{Key: "k", Limit: 1}, live(t, db.Store)
		out, err := db.Store.RetryRun(ctx(t), r)
		if ok(t, err); !out.Run.Blocked || out.Lease != nil {
			t.Errorf("it does not wait: %+v", out)
		}
		other.done(t)
		moveMail(t, db.Store)
		next := claimRun(t, db.Second, h.session())
		next.commit(t, next.finish(lane.Failed))
		r.Gate.Policy, r.SubmissionID = run.Reject, ident.New()
		out, err = db.Store.RetryRun(ctx(t), r)
		if ok(t, err); out.Lease == nil || out.Run.Attempt != 3 {
			t.Fatalf("it is not owned: %+v", out)
		}
		refusedBy := keyedRun("k", 1, run.Reject)
		_, err = db.Store.StartRun(ctx(t), refusedBy)
		refused(t, err, run.ErrKeyBusy)
		hold(db.Store, *out.Lease).done(t)
		noKeys(t, db)
	}},
	{"begin others with what they have done", func(t *testing.T, db DB) {
		h := failedRun(t, db, newRun("w"))
		before := allSteps(t, db.Store, h.session())
		n := newRun("w")
		n.Fork = &run.Fork{RunID: h.session(), Kept: someKept}
		got := startRun(t, db.Second, n)
		if got.ForkedFrom != h.session() || got.LastOrd != 3 {
			t.Errorf("the fork: %+v", got)
		}
		checkKept(t, db.Store, n.ID)
		sameSteps(t, "those of the first", allSteps(t, db.Store, h.session()), before)
		foreign := newRun("w")
		foreign.Fork = &run.Fork{RunID: ident.New()}
		_, err := db.Store.StartRun(ctx(t), foreign)
		refused(t, err, run.ErrNotFound)
	}},
}

// restsOn is a run at rest for the end of another, and one that has just been told to look.
func childOf(h *holder, keep bool) run.Start {
	n := newRun("child")
	n.Parent, n.Wakes = &run.Parent{RunID: h.session(), Path: "p", Keep: keep}, h.session()
	return n
}

var restCases = []testCase{
	{"is woken by every kind of end", func(t *testing.T, db DB) {
		for what, end := range map[string]func(n run.Start){
			"a commit": func(n run.Start) { ownRun(t, db.Second, n).done(t) },
			"an end from rows": func(n run.Start) {
				_, err := db.Second.End(ctx(t), ownRun(t, db.Second, n).lease.Fence, lane.Interrupted, "R", "m")
				ok(t, err)
			},
			"force": func(n run.Start) {
				n.Timeout = time.Minute
				ownRun(t, db.Second, n)
				db.Advance(time.Minute + 2*lane.RunGrace)
				_, err := db.Second.Force(ctx(t), 10)
				ok(t, err)
			},
			"an abort before it begins": func(n run.Start) { abortRun(t, db.Second, startRun(t, db.Second, n)) },
		} {
			h := ownRun(t, db.Store, newRun("w"))
			h.parked(t, h.park(lane.Never), true)
			end(childOf(h, false))
			moveMail(t, db.Store)
			if got := claimRuns(t, db.Store, 10); len(got) != 1 || got[0].session() != h.session() {
				t.Errorf("%s: claimed %d", what, len(got))
			}
			// And if it comes before the park, that fails.
			h = ownRun(t, db.Store, newRun("w"))
			end(childOf(h, false))
			moveMail(t, db.Store)
			h.parked(t, h.park(lane.Never), false)
		}
	}},
	{"is woken by the ends of submissions, and of those that have joined others", func(t *testing.T, db DB) {
		for what, end := range map[string]func(a submission.Admission){
			"a commit": func(a submission.Admission) {
				a.Owner = live(t, db.Store)
				h := hold(db.Store, *admit(t, db.Store, a).Lease)
				h.commit(t, h.end(false))
			},
			"an end from rows": func(a submission.Admission) {
				a.Owner = live(t, db.Store)
				_, err := db.Store.End(ctx(t), admit(t, db.Store, a).Lease.Fence, lane.Failed, "R", "m")
				ok(t, err)
			},
			"an abort": func(a submission.Admission) { abort(t, db.Store, admit(t, db.Store, a).Submission.ID) },
			"an abort of the session": func(a submission.Admission) {
				sub := admit(t, db.Store, a).Submission
				_, _, err := db.Store.RequestAbortSession(ctx(t), session.DefaultTenant, sub.SessionID)
				ok(t, err)
			},
			"that of its host": func(a submission.Admission) {
				h := start(t, db.Store, a.Key.Name, live(t, db.Store))
				a.WhenBusy = submission.Steer
				steer := admit(t, db.Store, a).Submission
				h.toTurn(t, 2)
				h.commit(t, h.joins(steer))
				h.commit(t, h.end(false))
			},
		} {
			h := ownRun(t, db.Store, newRun("w"))
			h.parked(t, h.park(lane.Never), true)
			a := admission(ident.New())
			a.Wakes = h.session()
			end(a)
			moveMail(t, db.Second)
			if got := claimRuns(t, db.Store, 10); len(got) != 1 {
				t.Errorf("%s: claimed %d", what, len(got))
			}
		}
	}},
	{"in every order, and nothing is lost", func(t *testing.T, db DB) {
		for range 10 {
			h := ownRun(t, db.Store, newRun("w"))
			child := ownRun(t, db.Second, childOf(h, false))
			var out lane.Committed
			together(t, 2, func(i int) (err error) {
				if i == 0 {
					out, err = db.Store.Commit(ctx(t), h.park(lane.Never).commit())
					return err
				}
				if _, err = db.Second.Commit(ctx(t), child.finish(lane.Completed).commit()); err == nil {
					_, err = db.Second.MoveMail(ctx(t))
				}
				return err
			})
			moveMail(t, db.Store)
			db.Advance(100 * time.Millisecond)
			if got := claimRuns(t, db.Second, 10); out.Parked != (len(got) == 1) {
				t.Fatalf("parked: %v, claimed %d", out.Parked, len(got))
			}
		}
	}},
	{"ends them when it is made to end, unless they are kept", func(t *testing.T, db DB) {
		for _, c := range []struct {
			outcome lane.Outcome
			keep    bool
			want    run.Status
		}{
			{lane.Aborted, false, run.Cancelled},
			{lane.Expired, false, run.Cancelled},
			{lane.Aborted, true, run.Queued},
			{lane.Completed, false, run.Queued},
			{lane.Failed, false, run.Queued},
		} {
			h := ownRun(t, db.Store, newRun("w"))
			active := ownRun(t, db.Second, childOf(h, c.keep))
			waits := childOf(h, c.keep)
			waits.Gate = &run.Gate{Key: ident.New(), Limit: 1}
			startRun(t, db.Store, waits)
			of := hold(db.Store, lane.Lease{Fence: lane.Fence{LaneID: waits.ID}})
			grand := startRun(t, db.Store, childOf(of, false))
			h.commit(t, h.finish(c.outcome))
			moveMail(t, db.Second)
			moveMail(t, db.Second) // of what is below them
			out := active.commit(t, active.step(0))
			if (out.Ends.Why == lane.Abort) != (c.want == run.Cancelled) {
				t.Errorf("%+v: the active one: %+v", c, out)
			}
			for _, id := range []string{waits.ID, grand.ID} {
				if got := getRun(t, db.Store, id); got.Status != c.want {
					t.Errorf("%+v: a queued one is %s", c, got.Status)
				}
			}
		}
	}},
}

// fullRun is a run with something in every table, that has ended.
func fullRun(t tester, db DB) *holder {
	t.Helper()
	n := newRun("w")
	n.Input, n.IdempotencyKey = json.RawMessage(`"`+strings.Repeat("x", 2*run.Inline)+`"`), ident.New()
	h := failedRun(t, db, n)
	out, err := db.Store.RetryRun(ctx(t), retry(h.session()))
	ok(t, err)
	_, err = tell(db.Store, t, out.Run.ID, "a", "", `1`)
	ok(t, err)
	h = claimRun(t, db.Store, out.Run.ID)
	h.withChild(t)
	h.commit(t, h.finish(lane.Failed))
	return h
}

// gone checks that nothing is left of a run.
func gone(t tester, db DB, id string) {
	t.Helper()
	for _, table := range []string{"runs", "run_steps", "run_signals", "run_blobs"} {
		none(db, `FROM `+table+` WHERE run_id = '`+id+`'`)
	}
	for _, table := range []string{"lanes", "sessions", "submissions", "segments"} {
		none(db, `FROM `+table+` WHERE lane_id = '`+id+`'`)
	}
	_, err := db.Store.GetRun(ctx(t), session.DefaultTenant, id)
	refused(t, err, run.ErrNotFound)
}

var runEndCases = []testCase{
	{"leave nothing when they are deleted, in batches", func(t *testing.T, db DB) {
		for _, limit := range []int{1, 1000} {
			other, h := fullRun(t, db), fullRun(t, db)
			before, steps := getRun(t, db.Store, other.session()), allSteps(t, db.Store, other.session())
			id := h.session()
			d := beginDeletion(t, db.Store, deletion.Deletion{
				ID: ident.New(), Kind: deletion.Session, Key: run.Key(session.DefaultTenant, "w", id), SessionID: id,
			})
			_, err := db.Second.RetryRun(ctx(t), retry(id))
			refused(t, err, session.ErrDeleting)
			purgeAll(t, db.Second, d, limit)
			gone(t, db, id)
			equal(t, "the other", getRun(t, db.Store, other.session()), before)
			sameSteps(t, "its steps", allSteps(t, db.Store, other.session()), steps)
		}
	}},
	{"long ago are deleted, and their definitions are kept until then", func(t *testing.T, db DB) {
		ok(t, db.Store.PutDefinition(ctx(t), "digest", "w", []byte("body")))
		h := fullRun(t, db)
		active := ownRun(t, db.Store, newRun("w"))
		db.Advance(month - time.Hour)
		if n := deleteAll(t, db.Store, retention.Runs, month, 10); n != 0 {
			t.Errorf("%d runs are deleted", n)
		}
		db.Advance(2 * time.Hour)
		deleteAll(t, db.Store, retention.Definitions, month, 10)
		_, err := db.Store.GetDefinition(ctx(t), "digest")
		ok(t, err)
		if n := deleteAll(t, db.Store, retention.Runs, month, 10); n != 1 {
			t.Errorf("%d runs are deleted", n)
		}
		if n := deleteAll(t, db.Second, retention.Runs, month, 10); n != 0 {
			t.Errorf("%d runs are deleted again", n)
		}
		due, err := db.Store.TakeDeletions(ctx(t), time.Minute, 10)
		if ok(t, err); len(due) != 1 || due[0].SessionID != h.session() {
			t.Fatalf("due: %+v", due)
		}
		if all, err := db.Store.ListDeletions(ctx(t), session.DefaultTenant, "", 10); err != nil || len(all) > 0 {
			t.Errorf("somebody is told of it: %+v, %v", all, err)
		}
		purgeAll(t, db.Second, due[0], 100)
		gone(t, db, h.session())
		none(db, `FROM deletions`)
		getRun(t, db.Store, active.session())
	}},
	{"are no work that is begun for a name that goes", func(t *testing.T, db DB) {
		_, err := db.Store.CreateTenant(ctx(t), "acme")
		ok(t, err)
		n := newRun("w")
		n.Tenant, n.Gate = "acme", &run.Gate{Key: "k", Limit: 1}
		out, err := db.Store.StartRun(ctx(t), n)
		ok(t, err)
		due := time.Now().Add(-time.Minute)
		ok(t, db.Store.SetSchedules(ctx(t), "acme", "w", []run.Schedule{{Cron: "* * * * *", Zone: "UTC"}},
			func(int, time.Time) time.Time { return due }))
		d := beginDeletion(t, db.Store, deletion.Deletion{
			ID: ident.New(), Kind: deletion.Tenant, Key: session.Key{Tenant: "acme"},
		})
		again := newRun("w")
		again.Tenant = "acme"
		_, err = db.Second.StartRun(ctx(t), again)
		refused(t, err, session.ErrDeleting)
		if all, _, err := db.Store.DueSchedules(ctx(t), run.Place{}, 10); err != nil || len(all) > 0 {
			t.Errorf("schedules are due: %+v, %v", all, err)
		}
		_, err = db.Store.RequestAbort(ctx(t), "acme", out.Run.SubmissionID)
		ok(t, err)
		db.Advance(time.Minute)
		for range 20 {
			_, done, err := db.Store.SplitDeletion(ctx(t), d.ID, 10)
			ok(t, err)
			parts, err := db.Store.TakeDeletions(ctx(t), time.Minute, 10)
			ok(t, err)
			for _, part := range parts {
				if part.Kind == deletion.Session {
					purgeAll(t, db.Store, part, 100)
				}
			}
			if done {
				break
			}
			db.Advance(time.Minute)
		}
		for _, table := range []string{"runs", "schedules", "conc_keys", "lanes", "submissions"} {
			none(db, `FROM `+table+` WHERE tenant = 'acme'`)
		}
	}},
}
