package storetest

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func newRun(workflow string) run.Start {
	return run.Start{
		ID: ident.New(), SubmissionID: ident.New(), Tenant: session.DefaultTenant, Workflow: workflow, Digest: "digest",
		Input: json.RawMessage(`{"a": 1}`), InputHash: []byte("hash"),
	}
}

// again is the start of another run that is the same.
func again(n run.Start) run.Start {
	n.ID, n.SubmissionID = ident.New(), ident.New()
	return n
}

// keyedRun is a run of a concurrency key.
func keyedRun(key string, limit int, p run.Policy) run.Start {
	s := newRun("w")
	s.Gate = &run.Gate{Key: key, Limit: limit, Policy: p}
	return s
}

func startRun(t tester, s store.Store, n run.Start) run.Run {
	t.Helper()
	out, err := s.StartRun(ctx(t), n)
	ok(t, err)
	equal(t, "the answer", out.Run, getRun(t, s, n.ID))
	return out.Run
}

// ownRun starts a run that somebody owns at once.
func ownRun(t tester, s store.Store, n run.Start) *holder {
	t.Helper()
	n.Owner = live(t, s)
	out, err := s.StartRun(ctx(t), n)
	ok(t, err)
	if out.Lease == nil {
		t.Fatalf("the run has no owner: %+v", out.Run)
	}
	equal(t, "the answer", out.Run, getRun(t, s, n.ID))
	return hold(s, *out.Lease)
}

func getRun(t tester, s store.Store, id string) run.Run {
	t.Helper()
	got, err := s.GetRun(ctx(t), session.DefaultTenant, id)
	ok(t, err)
	return got
}

func claimRuns(t tester, s store.Store, limit int) (all []*holder) {
	t.Helper()
	out, err := s.Claim(ctx(t), live(t, s), lane.KindRun, limit)
	ok(t, err)
	for _, l := range out.Leases {
		all = append(all, hold(s, l))
	}
	return all
}

func claimRun(t tester, s store.Store, id string) *holder {
	t.Helper()
	all := claimRuns(t, s, 100)
	if len(all) != 1 || all[0].session() != id {
		t.Fatalf("claimed %d runs, want run %s", len(all), id)
	}
	return all[0]
}

// finish is a step that ends the attempt of a run.
func (h *holder) finish(o lane.Outcome) *draft {
	d := h.step(0)
	d.End = &lane.Settlement{Outcome: o}
	return d
}

func (h *holder) done(t tester) {
	t.Helper()
	h.commit(t, h.finish(lane.Completed))
}

func listRuns(t tester, s store.Store, f run.Filter) (ids []string) {
	t.Helper()
	f.Tenant, f.Limit = session.DefaultTenant, max(f.Limit, 1)
	if f.Limit == 1 {
		f.Limit = 100
	}
	all, err := s.ListRuns(ctx(t), f)
	ok(t, err)
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

func abortRun(t tester, s store.Store, r run.Run) {
	t.Helper()
	_, err := s.RequestAbort(ctx(t), session.DefaultTenant, r.SubmissionID)
	ok(t, err)
}

var runCases = []testCase{
	{"are started, claimed and ended, and are no sessions of agents", func(t *testing.T, db DB) {
		n := newRun("w")
		n.Timeout = time.Hour
		got := startRun(t, db.Store, n)
		want := run.Run{
			ID: n.ID, Tenant: session.DefaultTenant, Workflow: "w", Digest: "digest", Input: n.Input, Attempt: 1,
			SubmissionID: n.SubmissionID, CreatedAt: got.CreatedAt,
		}
		equal(t, "the run", got, want)
		equal(t, "the run in the row", getRun(t, db.Second, n.ID), want)
		h := claimRun(t, db.Second, n.ID)
		if h.id() != n.SubmissionID || h.lease.Kind != lane.KindRun || h.root().Key != run.Key(n.Tenant, "w", n.ID) ||
			h.root().AgentDigest != "digest" {
			t.Errorf("the lease: %+v", h.lease)
		}
		equal(t, "its end", h.lease.Ends, lane.Ends{In: time.Hour, Why: lane.Deadline})
		if got = getRun(t, db.Store, n.ID); got.Status != run.Active || got.StartedAt.IsZero() || got.Resting {
			t.Errorf("claimed: %+v", got)
		}
		h.parked(t, h.park(time.Hour), true)
		if got = getRun(t, db.Store, n.ID); got.Status != run.Active || !got.Resting {
			t.Errorf("at rest: %+v", got)
		}
		mail(t, db.Store, n.ID)
		h = claimRun(t, db.Store, n.ID)
		end := h.finish(lane.Completed)
		end.End.Data = json.RawMessage(`{"b":2}`)
		h.commit(t, end)
		got = getRun(t, db.Second, n.ID)
		if got.Status != run.Completed || got.EndedAt.IsZero() || string(got.Output) != `{"b":2}` {
			t.Errorf("ended: %+v", got)
		}
		queue(t, db.Store, "a")
		for _, f := range []session.Filter{{}, {Agent: run.Name + "w"}} {
			f.Tenant, f.Limit = session.DefaultTenant, 10
			all, err := db.Store.ListSessions(ctx(t), f)
			ok(t, err)
			for _, s := range all {
				if s.Key.Agent != "agent" {
					t.Errorf("a list of sessions has %+v", s)
				}
			}
		}
		if got := claimRuns(t, db.Store, 10); len(got) != 0 {
			t.Errorf("claimed %d ended runs", len(got))
		}
		_, err := db.Store.GetRun(ctx(t), "other", n.ID)
		refused(t, err, run.ErrNotFound)
	}},
	{"are owned at once by who wants that", func(t *testing.T, db DB) {
		n := newRun("w")
		n.Timeout = time.Hour
		h := ownRun(t, db.Store, n)
		if got := getRun(t, db.Second, n.ID); got.Status != run.Active || h.lease.Fence.Epoch != 1 {
			t.Errorf("%+v, %+v", got, h.lease)
		}
		if got := claimRuns(t, db.Second, 10); len(got) != 0 {
			t.Errorf("claimed by another")
		}
		heir, want := h.die(t, db.Second), *h.root()
		want.Stalls, want.Attempts, want.StartedAt = 1, 1, heir.root().StartedAt
		equal(t, "the loop of who takes it over", *heir.root(), want)
		equal(t, "its end", heir.lease.Ends, h.lease.Ends)
		heir.done(t)
		if got := getRun(t, db.Second, n.ID); got.Status != run.Completed {
			t.Errorf("%+v", got)
		}
	}},
	{"have the status of how they end, whoever ends them", func(t *testing.T, db DB) {
		for status, end := range map[run.Status]func(n run.Start){
			run.Failed: func(n run.Start) {
				h := ownRun(t, db.Store, n)
				_, err := db.Second.End(ctx(t), h.lease.Fence, lane.Failed, "R", "m")
				ok(t, err)
			},
			run.Interrupted: func(n run.Start) {
				h := ownRun(t, db.Store, n)
				h.commit(t, h.finish(lane.Interrupted))
			},
			run.Expired: func(n run.Start) {
				n.Timeout = time.Minute
				ownRun(t, db.Store, n)
				db.Advance(time.Minute + 2*lane.RunGrace)
				_, err := db.Second.Force(ctx(t), 10)
				ok(t, err)
			},
			run.Cancelled: func(n run.Start) { abortRun(t, db.Second, startRun(t, db.Store, n)) },
		} {
			n := newRun("w")
			end(n)
			if got := getRun(t, db.Second, n.ID); got.Status != status || got.EndedAt.IsZero() {
				t.Errorf("%s: %+v", status, got)
			}
		}
	}},
	{"have a longer grace than submissions, in which they undo and finish what they did", func(t *testing.T, db DB) {
		short := newRun("w")
		short.Timeout = time.Minute
		for what, h := range map[string]func() *holder{
			"owned from its start": func() *holder { return ownRun(t, db.Store, again(short)) },
			"claimed": func() *holder {
				return claimRun(t, db.Store, startRun(t, db.Store, again(short)).ID)
			},
			"another attempt": func() *holder {
				r := retry(failedRun(t, db, newRun("w")).session())
				r.Owner, r.Timeout = live(t, db.Store), time.Minute
				out, err := db.Store.RetryRun(ctx(t), r)
				ok(t, err)
				return hold(db.Store, *out.Lease)
			},
			"cancelled": func() *holder {
				h := ownRun(t, db.Store, newRun("w"))
				abortRun(t, db.Second, getRun(t, db.Store, h.session()))
				return h
			},
			"taken over after its end": func() *holder {
				ownRun(t, db.Store, again(short))
				db.Advance(time.Hour)
				return hold(db.Second, takeOver(t, db.Second, live(t, db.Second))[0])
			},
		} {
			end := h()
			db.Advance(lane.RunGrace - time.Second)
			if end.lease.Ends.Why == lane.Deadline {
				db.Advance(max(end.lease.Ends.In, 0))
			}
			if got := force(t, db.Second); len(got) != 0 {
				t.Fatalf("%s: forced %+v too early", what, got)
			}
			db.Advance(2 * time.Second)
			got := force(t, db.Second)
			if len(got) != 1 || got[0].HeadID != end.id() {
				t.Fatalf("%s: forced %+v", what, got)
			}
			if m := getRun(t, db.Store, end.session()).Message; !strings.Contains(m, lane.RunGrace.String()) {
				t.Errorf("%s: %q does not say what it was given", what, m)
			}
		}
	}},
	{"are started once for an idempotency key", func(t *testing.T, db DB) {
		n := newRun("w")
		n.IdempotencyKey, n.ReplayOnly = "key", true
		_, err := db.Store.StartRun(ctx(t), n)
		refused(t, err, run.ErrNotFound)
		n.ReplayOnly = false
		first := startRun(t, db.Store, n)
		again := newRun("w")
		again.IdempotencyKey, again.ReplayOnly = "key", true
		out, err := db.Second.StartRun(ctx(t), again)
		if ok(t, err); !out.Replayed || out.Run.ID != first.ID {
			t.Errorf("looked for: %+v", out)
		}
		again.ReplayOnly = false
		out, err = db.Second.StartRun(ctx(t), again)
		if ok(t, err); !out.Replayed || out.Run.ID != first.ID || out.Lease != nil {
			t.Errorf("the replay: %+v", out)
		}
		same, err := db.Second.StartRun(ctx(t), n) // its answer was lost
		if ok(t, err); same.Replayed || same.Run.ID != first.ID {
			t.Errorf("the same again: %+v", same)
		}
		other := newRun("w")
		other.IdempotencyKey, other.InputHash = "key", []byte("other")
		_, err = db.Store.StartRun(ctx(t), other)
		refused(t, err, submission.ErrIdempotencyConflict)
		other.Workflow = "v"
		if got := startRun(t, db.Store, other); got.ID != other.ID {
			t.Errorf("of another workflow: %+v", got)
		}
		db.Advance(submission.ReceiptLife + time.Hour)
		if out, err = db.Store.StartRun(ctx(t), again); err != nil || !out.Replayed {
			t.Errorf("while the run is there: %+v, %v", out, err)
		}
		if n := len(listRuns(t, db.Store, run.Filter{})); n != 2 {
			t.Errorf("there are %d runs", n)
		}
	}},
	{"are started once by many at once", func(t *testing.T, db DB) {
		together(t, 12, func(i int) error {
			n := newRun("w")
			n.IdempotencyKey, n.Gate = "key", &run.Gate{Key: "k", Limit: 1}
			_, err := either(db, i).StartRun(ctx(t), n)
			return err
		})
		if n := len(listRuns(t, db.Store, run.Filter{})); n != 1 {
			t.Errorf("there are %d runs", n)
		}
		claimRuns(t, db.Store, 10)[0].done(t)
		if n := db.Count(`SELECT count(*) FROM conc_keys`); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	}},
	{"keep large inputs", func(t *testing.T, db DB) {
		n := newRun("w")
		n.Input = json.RawMessage(`"` + strings.Repeat("x", 2*run.Inline) + `"`)
		startRun(t, db.Store, n)
		if got := getRun(t, db.Second, n.ID); string(got.Input) != string(n.Input) {
			t.Errorf("the input has %d bytes", len(got.Input))
		}
		if n := db.Count(`SELECT count(*) FROM runs WHERE input IS NULL AND input_blob IS NOT NULL`); n != 1 {
			t.Errorf("it is stored with its row")
		}
	}},
	{"are listed by workflow, status, parent and key, newest first", func(t *testing.T, db DB) {
		var ids []string
		for i, w := range []string{"a", "b", "a", "b", "a"} {
			n := newRun(w)
			if i == 3 {
				n.Parent = &run.Parent{RunID: ids[0], Path: "p"}
			}
			if i == 4 {
				n.Gate = &run.Gate{Key: "k", Limit: 1}
			}
			startRun(t, db.Store, n)
			ids = append([]string{n.ID}, ids...)
		}
		for _, h := range claimRuns(t, db.Store, 3) {
			if w := getRun(t, db.Store, h.session()).Workflow; w == "b" {
				h.commit(t, h.finish(lane.Failed))
			} else if h.session() == ids[4] {
				h.done(t)
			}
		}
		for _, c := range []struct {
			what string
			f    run.Filter
			want []string
		}{
			{"all", run.Filter{}, ids},
			{"before one", run.Filter{Before: ids[1], Limit: 2}, ids[2:4]},
			{"of a workflow", run.Filter{Workflows: []string{"b"}}, []string{ids[1], ids[3]}},
			{"of two", run.Filter{Workflows: []string{"b", "a"}, Limit: 2}, ids[:2]},
			{"completed", run.Filter{Statuses: []run.Status{run.Completed}}, ids[4:]},
			{"failed or active", run.Filter{Statuses: []run.Status{run.Failed, run.Active}}, ids[2:4]},
			{"failed of a", run.Filter{Workflows: []string{"a"}, Statuses: []run.Status{run.Failed}}, nil},
			{"completed of a", run.Filter{Workflows: []string{"a"}, Statuses: []run.Status{run.Completed}}, ids[4:]},
			{"of a parent", run.Filter{Parent: ids[2]}, ids[1:2]},
			{"of one that is none", run.Filter{Parent: ids[1]}, nil},
			{"of a key", run.Filter{Workflows: []string{"a"}, Key: "k"}, ids[:1]},
		} {
			equal(t, c.what, listRuns(t, db.Second, c.f), c.want)
		}
	}},
}
