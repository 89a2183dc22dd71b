package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store"
)

// noKeys checks that no key counts anything any more.
func noKeys(t tester, db DB) {
	t.Helper()
	if n := db.Count(`SELECT count(*) FROM conc_keys`); n != 0 {
		t.Errorf("%d keys are left, with %d runs", n,
			db.Count(`SELECT CAST(sum(active + waiting) AS int) FROM conc_keys`))
	}
}

// workAll claims and ends runs with many workers at once until so many have ended. All the while it checks that never
// more are past the gate of a key than that allows.
func workAll(t *testing.T, db DB, total, limit int) {
	t.Helper()
	var ended atomic.Int32
	work := func(s store.Store, owner string, worker int) error {
		out, err := s.Claim(ctx(t), owner, lane.KindRun, 2)
		if err != nil {
			return err
		}
		for n, l := range out.Leases {
			if h := hold(s, l); (worker+n)%3 == 0 {
				_, err = s.End(ctx(t), l.Fence, lane.Failed, "R", "m")
			} else {
				_, err = s.Commit(ctx(t), h.finish(lane.Completed).commit())
			}
			if err != nil {
				return err
			}
			ended.Add(1)
		}
		_, err = s.MoveMail(ctx(t))
		return err
	}
	together(t, 13, func(i int) error {
		s := either(db, i)
		owner := live(t, s)
		for round := 0; int(ended.Load()) < total; round++ {
			switch {
			case round > 20_000:
				return errors.New("some runs are never claimed")
			case i > 0:
				if err := work(s, owner, i); err != nil {
					return err
				}
			default:
				if n := db.Count(`SELECT COALESCE(max(k.n), 0) FROM (SELECT count(*) AS n FROM runs
					WHERE status < 2 AND NOT blocked GROUP BY conc_key) k`); n > limit {
					return fmt.Errorf("%d runs of a key have passed", n)
				}
			}
		}
		return nil
	})
}

var keyCases = []testCase{
	{"never let more pass than they allow, and lose nobody", func(t *testing.T, db DB) {
		const runs, limit = 64, 2
		together(t, 8, func(i int) error {
			for n := range runs / 8 {
				if _, err := either(db, i).StartRun(ctx(t), keyedRun(fmt.Sprint(n%4), limit, run.Queue)); err != nil {
					return err
				}
			}
			return nil
		})
		workAll(t, db, runs, limit)
		noKeys(t, db)
		if n := db.Count(`SELECT count(*) FROM runs WHERE status < 2 OR blocked`); n != 0 {
			t.Errorf("%d runs have not ended", n)
		}
	}},
	{"let runs pass in the order of their start", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, keyedRun("k", 1, run.Queue))
		var waits []string
		for range 3 {
			r := startRun(t, db.Second, keyedRun("k", 1, run.Queue))
			if !r.Blocked || len(claimRuns(t, db.Store, 10)) > 0 {
				t.Fatalf("it waits for nobody: %+v", r)
			}
			waits = append(waits, r.ID)
		}
		other := startRun(t, db.Store, keyedRun("other", 1, run.Queue))
		claimRun(t, db.Store, other.ID).done(t)
		for _, id := range waits {
			h.done(t)
			moveMail(t, db.Second)
			h = claimRun(t, db.Store, id)
			if getRun(t, db.Store, id).Blocked {
				t.Errorf("it is blocked while it runs")
			}
		}
		h.done(t)
		noKeys(t, db)
	}},
	{"are free when runs end that never began", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, keyedRun("k", 1, run.Queue))
		second := startRun(t, db.Store, keyedRun("k", 1, run.Queue))
		third := startRun(t, db.Store, keyedRun("k", 1, run.Queue))
		abortRun(t, db.Second, second)
		if got := getRun(t, db.Store, second.ID); got.Status != run.Cancelled || got.Blocked {
			t.Errorf("the second: %+v", got)
		}
		h.done(t)
		moveMail(t, db.Store)
		abortRun(t, db.Second, getRun(t, db.Store, third.ID)) // which could begin
		noKeys(t, db)
		if got := claimRuns(t, db.Store, 10); len(got) > 0 {
			t.Errorf("claimed %+v", got)
		}
	}},
	{"that allow more later let more pass, and fewer later let fewer", func(t *testing.T, db DB) {
		startRun(t, db.Store, keyedRun("k", 1, run.Queue))
		second := startRun(t, db.Store, keyedRun("k", 1, run.Queue))
		if third := startRun(t, db.Second, keyedRun("k", 3, run.Queue)); third.Blocked {
			t.Errorf("the third waits: %+v", third)
		}
		moveMail(t, db.Store)
		if getRun(t, db.Store, second.ID).Blocked {
			t.Errorf("the second waits")
		}
		all := claimRuns(t, db.Store, 10)
		if len(all) != 3 {
			t.Fatalf("claimed %d", len(all))
		}
		last := startRun(t, db.Store, keyedRun("k", 1, run.Queue))
		for i, h := range all {
			if h.done(t); getRun(t, db.Store, last.ID).Blocked != (i < 2) {
				t.Errorf("after %d", i)
			}
		}
		moveMail(t, db.Store)
		claimRun(t, db.Store, last.ID).done(t)
		noKeys(t, db)
	}},
	{"refuse where that is wanted", func(t *testing.T, db DB) {
		n := keyedRun("k", 1, run.Reject)
		n.IdempotencyKey = "once"
		h := ownRun(t, db.Store, n)
		again := keyedRun("k", 1, run.Reject)
		_, err := db.Second.StartRun(ctx(t), again)
		refused(t, err, run.ErrKeyBusy)
		_, err = db.Second.GetRun(ctx(t), session.DefaultTenant, again.ID)
		refused(t, err, run.ErrNotFound)
		again.IdempotencyKey = "once"
		if out, err := db.Second.StartRun(ctx(t), again); err != nil || !out.Replayed {
			t.Errorf("the replay: %+v, %v", out, err)
		}
		h.done(t)
		noKeys(t, db)
		again.IdempotencyKey = ""
		startRun(t, db.Second, again)
	}},
	{"cancel the oldest where that is wanted", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, keyedRun("k", 1, run.CancelOldest))
		second := startRun(t, db.Second, keyedRun("k", 1, run.CancelOldest))
		moveMail(t, db.Second)
		out := h.commit(t, h.step(0))
		if !second.Blocked || out.Ends.Why != lane.Abort || out.Mail == 0 {
			t.Fatalf("the second: %+v; the first: %+v", second, out)
		}
		third := startRun(t, db.Second, keyedRun("k", 1, run.CancelOldest))
		moveMail(t, db.Second)
		if got := getRun(t, db.Store, second.ID); got.Status != run.Cancelled || !third.Blocked {
			t.Errorf("the second: %+v", got)
		}
		h.commit(t, h.finish(lane.Aborted))
		moveMail(t, db.Store)
		claimRun(t, db.Store, third.ID).done(t)
		noKeys(t, db)
	}},
	{"hold runs back from what else they are told", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, keyedRun("k", 1, run.Queue))
		second := startRun(t, db.Store, keyedRun("k", 1, run.Queue))
		_, _, err := db.Second.Tell(ctx(t), run.Telling{
			Tenant: session.DefaultTenant, RunID: second.ID, Signal: step.Signal{Name: "s"},
		})
		ok(t, err)
		mail(t, db.Store, second.ID, ident.New())
		if got := claimRuns(t, db.Store, 10); len(got) > 0 {
			t.Fatalf("claimed %+v", got[0].lease)
		}
		h.done(t)
		moveMail(t, db.Second)
		claimRun(t, db.Second, second.ID)
		if got, err := db.Second.Untaken(ctx(t), second.ID); err != nil || len(got) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	}},
}
