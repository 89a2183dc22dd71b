package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store"
)

// begunStep is the record of a step that begins.
func begunStep(ord, parent int, path string) step.Record {
	return step.Record{
		Ord: ord, Parent: parent, Path: path, Kind: "log", State: step.Started, Try: 1, Wait: step.Never,
		Left: step.Never,
	}
}

// endedStep is the record of one that has completed.
func endedStep(ord, parent int, path string) step.Record {
	r := begunStep(ord, parent, path)
	r.State, r.Output, r.Took = step.Completed, json.RawMessage(`{"a":1}`), time.Second
	return r
}

func (h *holder) records(all ...step.Record) *draft {
	d := h.step(0)
	d.Records = all
	return d
}

func allSteps(t tester, s store.Store, id string) []step.Record {
	t.Helper()
	all, err := s.ListSteps(ctx(t), id, 0, 1000)
	ok(t, err)
	return all
}

func openPaths(t tester, s store.Store, id string) (paths []string) {
	t.Helper()
	all, err := s.OpenSteps(ctx(t), id, 0, 1000)
	ok(t, err)
	for _, r := range all {
		paths = append(paths, r.Path)
	}
	return paths
}

func sameSteps(t tester, what string, got, want []step.Record) {
	t.Helper()
	left := cmp.Comparer(func(a, b time.Duration) bool { return a == b || (a-b).Abs() < 10*time.Second })
	diff := cmp.Diff(want, got, left, large, cmpopts.IgnoreFields(step.Record{}, "Wait", "At", "StartedAt", "EndedAt"),
		cmpopts.EquateEmpty())
	if diff != "" {
		t.Errorf("%s differ (-want +got):\n%s", what, diff)
	}
}

var stepCases = []testCase{
	{"are recorded in the commit that tells of them, with what is left of their time", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		a, b, c := begunStep(1, 0, "a"), begunStep(2, 1, "a.b"), begunStep(3, 0, "c")
		a.Wait, a.Left, a.Ref = time.Hour, time.Hour, "ref"
		b.Failed = &step.Failure{Reason: "R", Message: "\x00 m", Step: "s"}
		b.Pausing, b.Try = true, 2
		c.At = getRun(t, db.Store, h.session()).CreatedAt.Add(time.Minute)
		c.Left = time.Minute
		h.commit(t, h.records(a, b, c))
		all := allSteps(t, db.Second, h.session())
		sameSteps(t, "the steps", all, []step.Record{a, b, c})
		if all[0].StartedAt.IsZero() || !all[0].EndedAt.IsZero() {
			t.Errorf("times: %+v", all[0])
		}
		done := endedStep(1, 0, "a")
		h.commit(t, h.records(done))
		db.Advance(2 * time.Minute)
		c.Left = -time.Minute
		all = allSteps(t, db.Second, h.session())
		sameSteps(t, "the steps then", all, []step.Record{done, b, c})
		if all[0].EndedAt.Before(all[0].StartedAt) || getRun(t, db.Second, h.session()).LastOrd != 3 {
			t.Errorf("times: %+v", all[0])
		}
		page, err := db.Second.ListSteps(ctx(t), h.session(), 1, 1)
		ok(t, err)
		sameSteps(t, "a page", page, []step.Record{b})
	}},
	{"that have ended do not change, and the owner alone records", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		h.commit(t, h.records(endedStep(1, 0, "a"), begunStep(2, 0, "b")))
		before := allSteps(t, db.Store, h.session())
		again := endedStep(1, 0, "a")
		again.State = step.Failed
		for what, d := range map[string]*draft{
			"another end":     h.records(begunStep(3, 0, "c"), again),
			"an end and more": h.records(endedStep(2, 0, "b"), begunStep(2, 0, "b")),
			"another step":    h.records(begunStep(2, 0, "x")),
			"another attempt": h.records(begunStep(1, 0, "a")),
		} {
			if _, err := db.Store.Commit(ctx(t), d.commit()); !errors.Is(err, step.ErrEnded) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := db.Store.Commit(ctx(t), h.records(begunStep(4, 0, "b")).commit()); err == nil {
			t.Errorf("a step has two records")
		}
		sameSteps(t, "the steps", allSteps(t, db.Store, h.session()), before)
		heir := h.die(t, db.Second)
		_, err := db.Store.Commit(ctx(t), h.records(endedStep(2, 0, "b")).commit())
		refused(t, err, lane.ErrFenced)
		d := heir.records(endedStep(2, 0, "b"))
		heir.commit(t, d)
		_, err = db.Second.Commit(ctx(t), d.commit()) // its answer was lost
		ok(t, err)
		session := start(t, db.Store, "a", live(t, db.Store))
		if _, err = db.Store.Commit(ctx(t), session.records(begunStep(1, 0, "a")).commit()); err == nil {
			t.Errorf("a session has records of steps")
		}
	}},
	{"that have ended are progress, and those that begin are none", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		for i, r := range []step.Record{begunStep(1, 0, "a"), endedStep(1, 0, "a")} {
			h = h.die(t, db.Second).die(t, db.Store)
			h.commit(t, h.records(r))
			sub := get(t, db.Store, h.id())
			if want := []int{2, 0}[i]; sub.Stalls != want || sub.EntryHead != 0 {
				t.Errorf("%d stalls after step %d, want %d", sub.Stalls, i, want)
			}
		}
	}},
	{"whose outputs are large are kept apart", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		large := endedStep(1, 0, "a")
		large.Output = json.RawMessage(`"` + strings.Repeat("x", 3*run.Inline) + `"`)
		same := large
		same.Ord, same.Path = 2, "b"
		h.commit(t, h.records(large, same))
		sameSteps(t, "the steps", allSteps(t, db.Second, h.session()), []step.Record{large, same})
		if n := db.Count(`SELECT count(*) FROM run_blobs`); n != 1 {
			t.Errorf("there are %d blobs", n)
		}
		large.Output = json.RawMessage(`"` + strings.Repeat("y", step.PageBytes-2) + `"`)
		large.Ord, large.Path = 3, "c"
		h.commit(t, h.records(large, endedStep(4, 0, "d")))
		page, err := db.Second.OpenSteps(ctx(t), h.session(), 0, 10)
		ok(t, err)
		rest, err := db.Second.OpenSteps(ctx(t), h.session(), 3, 10)
		ok(t, err)
		if len(page) != 3 || len(rest) != 1 {
			t.Errorf("pages of %d and %d", len(page), len(rest))
		}
	}},
	{"that tell what their parts came to are read without those", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		h.commit(t, h.records(begunStep(1, 0, "a"), endedStep(2, 1, "a[0]"), endedStep(3, 2, "a[0].x")))
		folds := begunStep(1, 0, "a")
		folds.Folds = true
		// The part that is recorded after it is needed.
		h.commit(t, h.records(endedStep(4, 1, "a[1]"), folds, begunStep(5, 1, "a[2]")))
		equal(t, "what is open", openPaths(t, db.Second, h.session()), []string{"a", "a[0].x", "a[2]"})
		h.commit(t, h.records(endedStep(5, 1, "a[2]")))
		equal(t, "what is open then", openPaths(t, db.Second, h.session()), []string{"a", "a[0].x", "a[2]"})
		if all := allSteps(t, db.Second, h.session()); len(all) != 5 {
			t.Errorf("%d steps are shown", len(all))
		}
		parts, err := db.Second.PartsOf(ctx(t), h.session(), 1, 2, 10)
		ok(t, err)
		if len(parts) != 2 || parts[0].Ord != 4 || parts[1].Ord != 5 {
			t.Errorf("the parts: %+v", parts)
		}
		top, err := db.Second.PartsOf(ctx(t), h.session(), 0, 0, 10)
		if ok(t, err); len(top) != 1 {
			t.Errorf("at the top: %+v", top)
		}
	}},
	{"that are damaged end the reading of what is needed, and no list", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		large := endedStep(3, 0, "c")
		large.Output = json.RawMessage(`"` + strings.Repeat("x", 3*run.Inline) + `"`)
		failed := endedStep(2, 0, "b")
		failed.State, failed.Output, failed.Failed = step.Failed, nil, &step.Failure{Reason: "R"}
		h.commit(t, h.records(endedStep(1, 0, "a"), failed, large))
		for _, damage := range []string{
			`UPDATE run_steps SET failed = '[1]' WHERE ord = 2`,
			`DELETE FROM run_blobs`,
			`UPDATE run_steps SET state = 77 WHERE ord = 1`,
		} {
			db.Exec(damage)
			_, err := db.Second.OpenSteps(ctx(t), h.session(), 0, 10)
			refused(t, err, step.ErrUnreadable)
		}
		h.commit(t, h.records(endedStep(4, 0, "d")))
		for range 2 {
			if all := allSteps(t, db.Store, h.session()); len(all) != 1 || all[0].Ord != 4 {
				t.Errorf("the list: %+v", all)
			}
		}
		loggedOnce(t, db, "step b of run")
		good := startRun(t, db.Store, newRun("w"))
		db.Exec(`UPDATE runs SET status = 9 WHERE run_id = '` + h.session() + `'`)
		equal(t, "the runs", listRuns(t, db.Store, run.Filter{}), []string{good.ID})
	}},
}

func tell(s store.Store, t tester, id, name, message, body string) (step.Signal, error) {
	told, _, err := s.Tell(ctx(t), run.Telling{
		Tenant: session.DefaultTenant, RunID: id,
		Signal: step.Signal{Name: name, MessageID: message, Body: json.RawMessage(body), By: "somebody"},
	})
	return told, err
}

func untaken(t tester, s store.Store, id string) []step.Signal {
	t.Helper()
	all, err := s.Untaken(ctx(t), id)
	ok(t, err)
	return all
}

var signalCases = []testCase{
	{"are received once, in order, and repeated ones not at all", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		first, err := tell(db.Second, t, h.session(), "a", "m", `1`)
		ok(t, err)
		again, err := tell(db.Store, t, h.session(), "a", "m", `2`)
		ok(t, err)
		equal(t, "the repetition", again, first)
		_, err = tell(db.Store, t, h.session(), "b", "m", `3`)
		ok(t, err)
		all := untaken(t, db.Second, h.session())
		if len(all) != 2 || all[0].Seq != 1 || all[1].Seq != 2 || string(all[1].Body) != `3` || all[0].At.IsZero() ||
			all[0].By != "somebody" {
			t.Fatalf("untaken: %+v", all)
		}
		moveMail(t, db.Store)
		d := h.records(endedStep(1, 0, "x"))
		d.Taken = []step.Taken{{Seq: 1, Path: "x"}}
		if out := h.commit(t, d); out.Mail != 2 {
			t.Errorf("the mail is %d", out.Mail)
		}
		d = h.records(endedStep(2, 0, "y"))
		d.Taken = []step.Taken{{Seq: 1, Path: "y"}}
		_, err = db.Store.Commit(ctx(t), d.commit())
		refused(t, err, step.ErrTaken)
		if got := untaken(t, db.Second, h.session()); len(got) != 1 || len(allSteps(t, db.Store, h.session())) != 1 {
			t.Errorf("untaken: %+v", got)
		}
		h.done(t)
		again, err = tell(db.Store, t, h.session(), "a", "m", `2`)
		if ok(t, err); again.Seq != 1 || again.TakenBy != "x" {
			t.Errorf("the repetition after the end: %+v", again)
		}
		_, err = tell(db.Store, t, h.session(), "a", "", `2`)
		refused(t, err, run.ErrEnded)
		_, err = tell(db.Store, t, ident.New(), "a", "", `2`)
		refused(t, err, run.ErrNotFound)
	}},
	{"of many at once are all there, each once", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		together(t, 24, func(i int) error {
			_, err := tell(either(db, i), t, h.session(), "a", fmt.Sprint(i%12), `1`)
			return err
		})
		all := untaken(t, db.Store, h.session())
		for i, s := range all {
			if s.Seq != int64(i)+1 {
				t.Errorf("signal %d has seq %d", i, s.Seq)
			}
		}
		if len(all) != 12 {
			t.Errorf("there are %d", len(all))
		}
	}},
	{"that nobody receives are bounded", func(t *testing.T, db DB) {
		h := ownRun(t, db.Store, newRun("w"))
		big := `"` + strings.Repeat("x", step.MaxSignalBytes/2) + `"`
		_, err := tell(db.Store, t, h.session(), "a", "", big)
		ok(t, err)
		_, err = tell(db.Store, t, h.session(), "a", "", big)
		refused(t, err, run.ErrSignals)
		d := h.step(0)
		d.Taken = []step.Taken{{Seq: 1, Path: "x"}}
		h.commit(t, d)
		_, err = tell(db.Store, t, h.session(), "a", "", `1`)
		ok(t, err)
		for n := 1; n < step.MaxSignals; n *= 2 {
			db.Exec(fmt.Sprintf(`INSERT INTO run_signals (run_id, seq, tenant, name, body, told_by, at)
				SELECT run_id, seq + %d, tenant, name, body, told_by, at
				FROM run_signals WHERE taken_by IS NULL LIMIT %d`,
				n, min(n, step.MaxSignals-n)))
		}
		_, err = tell(db.Store, t, h.session(), "a", "", `1`)
		refused(t, err, run.ErrSignals)
		if n := len(untaken(t, db.Second, h.session())); n != step.MaxSignals {
			t.Errorf("%d wait", n)
		}
	}},
	{"wake runs in every order, and are not lost", func(t *testing.T, db DB) {
		for range 10 {
			h := ownRun(t, db.Store, newRun("w"))
			var out lane.Committed
			var told atomic.Bool
			together(t, 3, func(i int) (err error) {
				switch i {
				case 0:
					out, err = db.Store.Commit(ctx(t), h.park(lane.Never).commit())
				case 1:
					_, err = tell(db.Second, t, h.session(), "a", "", `1`)
					told.Store(true)
				default:
					for !told.Load() && err == nil {
						_, err = either(db, i).MoveMail(ctx(t))
					}
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
}
