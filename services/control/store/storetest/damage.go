package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// loggedOnce checks that the log has been told of a row once, however often the row was read.
func loggedOnce(t tester, db DB, row string) {
	t.Helper()
	if n := strings.Count(db.Logged(), row); n != 1 {
		t.Errorf("the log was told of %s %d times, want once:\n%s", row, n, db.Logged())
	}
}

// A row that cannot be decoded fails no list, and is reported.
var damageCases = []testCase{
	{"a token lets nobody in, and keeps no other from being listed", func(t *testing.T, db DB) {
		bad, worse, good := token("bad"), token("worse"), token("good")
		bad.Kind, bad.Role, bad.Labels = auth.Executor, "", auth.Labels{"k": "v"}
		worse.Limits.Agents = []string{"a"}
		for _, tok := range []*auth.Token{&bad, &good, &worse} {
			*tok = keep(t, db.Store, *tok)
		}
		db.Exec(`UPDATE tokens SET labels = '[1]' WHERE name = 'bad'`)
		db.Exec(`UPDATE tokens SET agents = '{"a": 1}' WHERE name = 'worse'`)
		for range 2 {
			all, _, err := db.Store.ListTokens(ctx(t), session.DefaultTenant, "", 10)
			ok(t, err)
			equal(t, "the tokens", all, []auth.Token{good})
		}
		for _, tok := range []auth.Token{bad, worse} {
			loggedOnce(t, db, "token "+tok.ID)
			// What a token is limited to is never guessed.
			if got, err := db.Store.FindToken(ctx(t), tok.Hash); err == nil {
				t.Errorf("a token was found whose limits cannot be read: %+v", got)
			}
		}
	}},
	{"an executor is known without its labels", func(t *testing.T, db DB) {
		for _, id := range []string{"bad", "good"} {
			connect(t, db.Store, fleet.Executor{ID: id, Labels: map[string]string{"k": "v"}})
		}
		db.Exec(`UPDATE executors SET labels = '[1]' WHERE executor_id = 'bad'`)
		for range 2 {
			all, err := db.Store.ListExecutors(ctx(t))
			ok(t, err)
			if len(all) != 2 || len(all[0].Labels) != 0 || len(all[1].Labels) != 1 {
				t.Errorf("the executors are %+v", all)
			}
		}
		loggedOnce(t, db, "executor bad")
	}},
	{"an executor is known without its tools", func(t *testing.T, db DB) {
		connect(t, db.Store, fleet.Executor{ID: "bad", Slots: 3})
		db.Exec(`UPDATE executors SET tools = '[1]'`)
		for range 2 {
			e, err := db.Store.GetExecutor(ctx(t), "bad")
			ok(t, err)
			if len(e.Tools) != 0 || e.Slots != 3 {
				t.Errorf("the executor is %+v", e)
			}
		}
		loggedOnce(t, db, "executor bad")
	}},
	{"a session is known without its labels, and can be given new ones", func(t *testing.T, db DB) {
		made, _, err := db.Store.CreateSession(ctx(t), newSession("a", map[string]string{"l": "v"}))
		ok(t, err)
		db.Exec(`UPDATE sessions SET labels = '[1]', metadata = '{'`)
		for range 2 {
			if got := sessionOf(t, db.Store, made.ID); got.Key != made.Key || len(got.Labels) != 0 {
				t.Errorf("the session is %+v", got)
			}
		}
		loggedOnce(t, db, "session "+made.ID)
		_, err = db.Store.UpdateSession(ctx(t), session.DefaultTenant, made.ID,
			session.Change{Set: map[string]string{"l": "w"}})
		ok(t, err)
		if got := sessionOf(t, db.Store, made.ID); got.Labels["l"] != "w" {
			t.Errorf("the session is %+v", got)
		}
	}},
	{"an entry is listed in its place, and says that it cannot be read", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(3))
		db.Exec(`UPDATE entries SET body = substr(body, 2) WHERE seq = 3`)
		for range 2 {
			page, err := db.Store.Entries(ctx(t), h.session(), 0, 10)
			ok(t, err)
			if len(page) != 4 {
				t.Fatalf("%d entries, want 4", len(page))
			}
			for _, e := range page {
				if damaged := e.Seq == 3; (e.Unreadable != nil) != damaged || e.Message.Role == "" ||
					damaged && !strings.Contains(e.Message.Text(), "cannot be read") {
					t.Errorf("entry %d: %+v", e.Seq, e)
				}
			}
		}
		loggedOnce(t, db, "entry 3")
	}},
}

// Rows of lanes that do not fit together or cannot be decoded: no other lane must suffer from them.
var damagedLaneCases = []testCase{
	{"one bad row in a claim of many settles its head alone", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		var subs []submission.Submission
		for i := range 5 {
			a := admission(string(rune('a' + i)))
			a.Timeout = time.Minute
			subs = append(subs, admit(t, db.Store, a).Submission)
		}
		bad := subs[2]
		next := queue(t, db.Store, bad.Key.Name)
		db.Exec(`UPDATE submissions SET usage = '"x"' WHERE submission_id = '` + bad.ID + `'`)
		out := claimed(t, db.Second, owner, 10)
		if len(out.Leases) != 4 || len(out.Unreadable) != 1 || out.Unreadable[0].Err == nil {
			t.Fatalf("claimed %d lanes, %+v cannot be read", len(out.Leases), out.Unreadable)
		}
		h := hold(db.Store, lane.Lease{Fence: lane.Fence{LaneID: bad.SessionID}, Loops: []lane.Loop{bad.Loop}})
		endedFromRows(t, db, h, out.Unreadable[0].Ended, lane.Settlement{
			Outcome: lane.Interrupted, Reason: lane.ReasonUnreadable, Cancellation: &call.Cancellation{Confirmed: true},
		})
		if !out.Unreadable[0].Ready {
			t.Error("what is queued behind it is not told")
		}
		if got := claimOne(t, db.Second, owner); got.id() != next.ID {
			t.Errorf("claimed %+v", got.lease)
		}
	}},
	{"options that cannot be read settle their submission", func(t *testing.T, db DB) {
		bad := queue(t, db.Store, "a")
		db.Exec(`UPDATE submissions SET options = '[1]' WHERE submission_id = '` + bad.ID + `'`)
		out := claimed(t, db.Second, live(t, db.Second), 10)
		if len(out.Leases) != 0 || len(out.Unreadable) != 1 || out.Unreadable[0].HeadID != bad.ID {
			t.Fatalf("claimed %+v", out)
		}
		loggedOnce(t, db, "submission "+get(t, db.Store, bad.ID).ID)
	}},
	{"a bad row behind a head is left to a claim", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		bad := queue(t, db.Store, "a")
		db.Exec(`UPDATE submissions SET usage = '"x"' WHERE submission_id = '` + bad.ID + `'`)
		if out := h.commit(t, h.end(true)); !out.Ready || out.Next != nil {
			t.Fatalf("answered %+v", out)
		}
		if c := consistent(t, db.Store, h.session()); c.Owner != "" {
			t.Errorf("it is owned by %q", c.Owner)
		}
		if out := claimed(t, db.Second, owner, 10); len(out.Leases) != 0 || len(out.Unreadable) != 1 ||
			out.Unreadable[0].HeadID != bad.ID || out.Unreadable[0].Ready {
			t.Errorf("claimed %+v", out)
		}
	}},
	{"a row behind a head that goes bad is left to a claim by a commit that is repeated", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		bad, c := queue(t, db.Store, "a"), h.end(true).commit()
		if out, err := db.Store.Commit(ctx(t), c); err != nil || out.Next == nil {
			t.Fatalf("answered %+v, %v", out, err)
		}
		db.Exec(`UPDATE submissions SET usage = '"x"' WHERE submission_id = '` + bad.ID + `'`)
		if out, err := db.Store.Commit(ctx(t), c); err != nil || !out.Ready || out.Next != nil {
			t.Fatalf("answered %+v, %v", out, err)
		}
		if out := claimed(t, db.Second, owner, 10); len(out.Unreadable) != 1 || out.Unreadable[0].HeadID != bad.ID {
			t.Errorf("claimed %+v", out)
		}
	}},
	{"a bad row of a sub-agent ends the head that is taken over, and no other", func(t *testing.T, db DB) {
		dead := live(t, db.Store)
		h, good := start(t, db.Store, "a", dead), start(t, db.Store, "b", dead)
		child := h.withChild(t)
		db.Exec(`UPDATE submissions SET usage = '"x"' WHERE submission_id = '` + child.ID + `'`)
		out, err := db.Second.TakeOver(ctx(t), live(t, db.Second), []string{dead}, 10)
		ok(t, err)
		if len(out.Leases) != 1 || out.Leases[0].Fence.LaneID != good.session() || len(out.Unreadable) != 1 {
			t.Fatalf("took over %+v", out)
		}
		endedFromRows(t, db, h, out.Unreadable[0].Ended, lane.Settlement{
			Outcome: lane.Interrupted, Reason: lane.ReasonUnreadable, Cancellation: &call.Cancellation{Confirmed: true},
		})
		start(t, db.Store, "a", dead) // it is idle
	}},
	{"a lane that counts what is not there is counted anew", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		db.Exec(`UPDATE lanes SET pending = 5 WHERE lane_id = '` + h.session() + `'`)
		good := queue(t, db.Store, "b")
		if out := h.commit(t, h.end(false)); !out.Ready {
			t.Fatalf("answered %+v", out)
		}
		if got := claimOne(t, db.Second, owner); got.id() != good.ID {
			t.Errorf("claimed %+v", got.lease)
		}
		if c := consistent(t, db.Store, h.session()); c.Owner != "" || c.Session.Pending != 0 {
			t.Errorf("the lane is %+v", c.Session)
		}
		if got := claim(t, db.Second, owner, 10); len(got) != 0 {
			t.Errorf("claimed it again: %+v", got)
		}
		start(t, db.Store, "a", owner)
	}},
	{"a lane that says wrongly where its queue begins is counted anew", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for name, end := range map[string]func(*holder) *holder{
			"claimed": func(h *holder) *holder {
				h.release(t, lane.Release{})
				claim(t, db.Store, owner, 10)
				return claimOne(t, db.Second, owner)
			},
			"taken over": func(h *holder) *holder {
				takeOver(t, db.Second, live(t, db.Second), h.owner(t))
				return claimOne(t, db.Second, owner)
			},
			"settled from rows": func(h *holder) *holder {
				got, err := db.Second.End(ctx(t), h.lease.Fence, lane.Failed, "", "")
				if ok(t, err); got.HeadID != "" || len(got.Events) != 0 {
					t.Errorf("ended %+v", got)
				}
				return claimOne(t, db.Second, owner)
			},
			"forced": func(h *holder) *holder {
				abort(t, db.Store, h.id())
				db.Exec(`UPDATE lanes SET first_open = 99 WHERE lane_id = '` + h.session() + `'`)
				db.Advance(2 * lane.ForceGrace)
				force(t, db.Second)
				return claimOne(t, db.Second, owner)
			},
		} {
			h := start(t, db.Store, name, live(t, db.Store))
			next := queue(t, db.Store, name)
			db.Exec(`UPDATE lanes SET first_open = 99, pending = 7 WHERE lane_id = '` + h.session() + `'`)
			heir := end(h)
			if heir.id() != h.id() {
				t.Fatalf("%s: %+v", name, heir.lease)
			}
			if heir.commit(t, heir.end(true)).Next.Root().ID != next.ID {
				t.Errorf("%s: what was queued is not the next", name)
			}
			consistent(t, db.Store, h.session())
			_, err := db.Store.End(ctx(t), heir.lease.Fence, lane.Failed, "", "")
			ok(t, err)
		}
	}},
	{"events that cannot be read are passed over, and the log is told once", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for range 3 {
			h.commit(t, h.step(2))
		}
		db.Exec(`UPDATE segments SET body = substr(body, 2) WHERE first_seq IN (2, 4)`)
		for after, want := range map[int64][]int64{0: {1, 6, 7}, 1: {6, 7}, 3: {6, 7}, 6: {7}} {
			for limit := range int64(4) {
				got, err := db.Store.Events(ctx(t), h.session(), after, int(limit))
				ok(t, err)
				var seqs []int64
				for _, e := range got {
					seqs = append(seqs, e.Seq)
				}
				if n := len(seqs); n == 0 && limit > 0 || !slices.Equal(seqs, want[:n]) {
					t.Errorf("after %d at most %d events: %v, want of %v", after, limit, seqs, want)
				}
			}
		}
		loggedOnce(t, db, "events from 2")
	}},
	{"what is listed leaves out what cannot be read", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.end(false))
		good := queue(t, db.Store, "a")
		db.Exec(`UPDATE submissions SET usage = '"x"', cancellation = '"x"' WHERE submission_id = '` + h.id() + `'`)
		subs, err := db.Store.ListSubmissions(ctx(t), h.session(), 0, 10)
		ok(t, err)
		if len(subs) != 2 || subs[0].ID != good.ID || subs[1].Outcome != lane.Completed || subs[1].Cancellation != nil {
			t.Errorf("listed %+v", subs)
		}
		get(t, db.Store, h.id())
		loggedOnce(t, db, "submission "+h.id())
	}},
	{"an owner ends what it finds wrong", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.lease.EventHead++
		_, err := db.Store.Commit(ctx(t), h.step(1).commit())
		refused(t, err, lane.ErrFenced)
		_, err = db.Store.End(ctx(t), lane.Fence{LaneID: ident.New(), Epoch: 1}, lane.Failed, "", "")
		refused(t, err, lane.ErrFenced)
	}},
}
