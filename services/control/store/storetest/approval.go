package storetest

import (
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

var somebody = audit.Who{TokenID: "token", Kind: "client", Role: "approver", Name: "alice"}

// gated is a step of a call that waits for an approval.
func (h *holder) gated(timeout time.Duration) (*draft, approval.Approval) {
	k := newCall(h, 1, 0)
	k.Approval = ident.New()
	a := approval.Approval{
		ID: k.Approval, Tenant: session.DefaultTenant, LaneID: h.session(), SessionID: h.root().SessionID,
		LoopID: h.id(),
		RootID: h.id(), Turn: 1, CallID: k.ID, Key: h.root().Key, Digest: []byte("digest"), Timeout: timeout,
		Subject: approval.Subject{
			Call: k.ID, Tool: "bash", Arguments: json.RawMessage(`{"command":"rm \u0000"}`), Diff: "- a\n+ b",
			Path: []approval.Stage{{Agent: "agent"}},
			Asks: []approval.Ask{{
				Agent: "agent", Number: 1, Rule: approval.Rule{Tools: []string{"*"}, Do: approval.DoAsk},
			}},
			Requesters: []model.Speaker{{TokenID: "user"}},
		},
	}
	d := h.step(1)
	d.Calls, d.Approvals = []call.Call{k}, []approval.Approval{a}
	return d, a
}

// asking starts a session with a call that waits for an approval.
func asking(t tester, db DB, timeout time.Duration) (*holder, approval.Approval) {
	t.Helper()
	h := start(t, db.Store, ident.New(), live(t, db.Store))
	d, a := h.gated(timeout)
	h.commit(t, d)
	return h, a
}

func yes(a approval.Approval) approval.Decision {
	return approval.Decision{
		Tenant: a.Tenant, ID: a.ID, Digest: a.Digest, Approve: true, Comment: "go ahead", By: somebody,
	}
}

func decide(t tester, s store.Store, d approval.Decision, want bool) approval.Approval {
	t.Helper()
	a, decided, err := s.DecideApproval(ctx(t), d)
	if ok(t, err); decided != want {
		t.Fatalf("decided: %v, want %v: %+v", decided, want, a)
	}
	return a
}

func stateOf(t tester, s store.Store, a approval.Approval, want approval.State) approval.Approval {
	t.Helper()
	got, err := s.GetApproval(ctx(t), a.Tenant, a.ID)
	if ok(t, err); got.State != want {
		t.Errorf("it is %s, want %s", got.State, want)
	}
	return got
}

// approvalCases: a park against a decision is forced in every order, with what else may happen to the lane.
var approvalCases = []testCase{
	{"are committed with their calls, which nobody grants a slot", func(t *testing.T, db DB) {
		h, a := asking(t, db, time.Hour)
		got := stateOf(t, db.Second, a, approval.Open)
		if got.Left <= 59*time.Minute || got.Left > time.Hour || got.AskedAt.IsZero() || got.Key != a.Key {
			t.Errorf("got %+v", got)
		}
		want := a
		want.AskedAt, want.ExpiresAt, want.Left = got.AskedAt, got.ExpiresAt, got.Left
		equal(t, "the approval", got, want)
		calls, err := db.Second.TurnCalls(ctx(t), h.id(), 1)
		if ok(t, err); len(calls) != 1 || calls[0].Approval != a.ID || calls[0].State != call.Pending {
			t.Fatalf("the call: %+v", calls)
		}
		of, err := db.Second.TurnApprovals(ctx(t), h.id(), 1)
		if ok(t, err); len(of) != 1 || of[0].ID != a.ID {
			t.Errorf("of the turn: %+v", of)
		}
		epoch := connect(t, db.Store, fleet.Executor{ID: "executor", Replica: h.owner(t)})
		waiting, err := db.Store.WaitingCalls(ctx(t), "executor")
		if ok(t, err); len(waiting) != 0 || len(granted(t, db.Second, epoch, a.CallID)) != 0 {
			t.Errorf("it waits for a slot, or has got one: %+v", waiting)
		}
	}},
	{"are those of one turn of one loop", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		asking(t, db, 0)
		h.toTurn(t, 2)
		d, b := h.gated(0)
		d.Calls[0].Turn, d.Approvals[0].Turn = 2, 2
		h.commit(t, d)
		for turn, want := range map[int][]string{1: {a.ID}, 2: {b.ID}, 3: nil} {
			all, err := db.Second.TurnApprovals(ctx(t), h.id(), turn)
			ok(t, err)
			var ids []string
			for _, one := range all {
				ids = append(ids, one.ID)
			}
			equal(t, "the turn's", ids, want)
		}
	}},
	{"of a stale owner are not stored", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		d, a := h.gated(0)
		h.die(t, db.Second)
		_, err := db.Store.Commit(ctx(t), d.commit())
		refused(t, err, lane.ErrFenced)
		_, err = db.Store.GetApproval(ctx(t), a.Tenant, a.ID)
		refused(t, err, approval.ErrNotFound)
	}},
	{"are decided once, and the second is told what was decided", func(t *testing.T, db DB) {
		_, a := asking(t, db, 0)
		first := decide(t, db.Store, yes(a), true)
		if !first.Allows() || first.By == nil || *first.By != somebody || first.Comment != "go ahead" {
			t.Errorf("decided %+v", first)
		}
		no := yes(a)
		no.Approve, no.By.Name = false, "bob"
		second := decide(t, db.Second, no, false)
		if second.State != approval.Approved || second.By.Name != "alice" || no.Same(&second) {
			t.Errorf("the second was told %+v", second)
		}
		again := yes(a)
		if repeated := decide(t, db.Second, again, false); !again.Same(&repeated) {
			t.Errorf("the first, repeated, was told %+v", repeated)
		}
		if got := stateOf(t, db.Store, a, approval.Approved); got.Since < 0 || got.DecidedAt.IsZero() {
			t.Errorf("got %+v", got)
		}
	}},
	{"are decided once by many at once, with one grant and one record", func(t *testing.T, db DB) {
		for range 10 {
			h, a := asking(t, db, 0)
			var won atomic.Int32
			together(t, 6, func(i int) error {
				d := yes(a)
				d.Approve, d.Scope = true, approval.Session
				d.Record = &audit.Event{
					ID: ident.New(), Tenant: a.Tenant, Verb: "decide", Resource: a.ID, Allowed: true,
				}
				_, decided, err := either(db, i).DecideApproval(ctx(t), d)
				if decided {
					won.Add(1)
				}
				return err
			})
			grants, err := db.Store.LaneGrants(ctx(t), h.session())
			ok(t, err)
			log, _, err := db.Store.ListAudit(ctx(t), audit.Filter{Verb: "decide", Limit: 100})
			ok(t, err)
			log = slices.DeleteFunc(log, func(e audit.Event) bool { return e.Resource != a.ID })
			if won.Load() != 1 || len(grants) != 1 || len(log) != 1 {
				t.Fatalf("%d have decided, %d grants, %d records", won.Load(), len(grants), len(log))
			}
		}
	}},
	{"are decided by their digest, and by their tenant", func(t *testing.T, db DB) {
		_, a := asking(t, db, 0)
		d := yes(a)
		d.Digest = []byte("another")
		_, _, err := db.Store.DecideApproval(ctx(t), d)
		refused(t, err, approval.ErrDigest)
		for _, wrong := range []approval.Decision{
			{Tenant: "other", ID: a.ID}, {Tenant: a.Tenant, ID: ident.New()}, {ID: "x"},
		} {
			_, _, err = db.Store.DecideApproval(ctx(t), wrong)
			refused(t, err, approval.ErrNotFound)
		}
		_, err = db.Store.GetApproval(ctx(t), "other", a.ID)
		refused(t, err, approval.ErrNotFound)
		stateOf(t, db.Store, a, approval.Open)
	}},
	{"expire at their time, and not before", func(t *testing.T, db DB) {
		_, a := asking(t, db, time.Minute)
		got, err := db.Store.ExpireApproval(ctx(t), a.ID)
		if ok(t, err); got.State != approval.Open {
			t.Fatalf("expired too early: %+v", got)
		}
		db.Advance(time.Minute)
		if late := decide(t, db.Second, yes(a), false); late.State != approval.Expired {
			t.Errorf("decided too late: %+v", late)
		}
		got, err = db.Store.ExpireApproval(ctx(t), a.ID)
		if ok(t, err); got.State != approval.Expired || got.Allows() {
			t.Errorf("got %+v", got)
		}
	}},
	{"that are decided do not expire", func(t *testing.T, db DB) {
		_, a := asking(t, db, time.Minute)
		decide(t, db.Second, yes(a), true)
		db.Advance(time.Hour)
		got, err := db.Store.ExpireApproval(ctx(t), a.ID)
		if ok(t, err); got.State != approval.Approved {
			t.Errorf("got %+v", got)
		}
	}},
	{"are withdrawn by the owner, unless they are decided", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		note := h.step(0)
		note.Noted = []approval.Note{{ID: a.ID, Withdraw: true}}
		h.commit(t, note)
		first := stateOf(t, db.Second, a, approval.Withdrawn)
		if !first.Told || first.DecidedAt.IsZero() {
			t.Errorf("got %+v", first)
		}
		if late := decide(t, db.Second, yes(a), false); late.State != approval.Withdrawn {
			t.Errorf("got %+v", late)
		}
		db.Advance(time.Second)
		twice := h.step(0) // as an owner does that comes after a death
		twice.Noted = note.Noted
		h.commit(t, twice)
		if again := stateOf(t, db.Second, a, approval.Withdrawn); !again.DecidedAt.Equal(first.DecidedAt) {
			t.Errorf("withdrawn at %v, and at %v", first.DecidedAt, again.DecidedAt)
		}
		h, a = asking(t, db, 0)
		decide(t, db.Second, yes(a), true)
		before := consistent(t, db.Store, h.session())
		note = h.step(1)
		note.Noted = []approval.Note{{ID: a.ID, Withdraw: true}}
		_, err := db.Store.Commit(ctx(t), note.commit())
		refused(t, err, approval.ErrDecided)
		equal(t, "what is there", consistent(t, db.Store, h.session()), before)
		if got := stateOf(t, db.Second, a, approval.Approved); got.Told {
			t.Errorf("got %+v", got)
		}
		note.Noted[0].Withdraw = false
		h.commit(t, note)
		if got := stateOf(t, db.Second, a, approval.Approved); !got.Told {
			t.Errorf("got %+v", got)
		}
	}},
	{"are withdrawn or decided, if both happen at once, and the owner knows which", func(t *testing.T, db DB) {
		for range 20 {
			h, a := asking(t, db, 0)
			note := h.step(0)
			note.Noted = []approval.Note{{ID: a.ID, Withdraw: true}}
			var decided, withdrawn bool
			together(t, 2, func(i int) (err error) {
				if i == 0 {
					_, decided, err = db.Second.DecideApproval(ctx(t), yes(a))
					return err
				}
				_, err = db.Store.Commit(ctx(t), note.commit())
				if withdrawn = err == nil; errors.Is(err, approval.ErrDecided) {
					return nil
				}
				return err
			})
			want := approval.Approved
			if withdrawn {
				want = approval.Withdrawn
			}
			if stateOf(t, db.Store, a, want); decided == withdrawn {
				t.Fatalf("decided: %v, withdrawn: %v", decided, withdrawn)
			}
		}
	}},
	{"are withdrawn by the owner of their lane alone", func(t *testing.T, db DB) {
		h, _ := asking(t, db, 0)
		_, other := asking(t, db, 0)
		note := h.step(0)
		note.Noted = []approval.Note{{ID: other.ID, Withdraw: true}}
		h.commit(t, note)
		if got := stateOf(t, db.Store, other, approval.Open); got.Told {
			t.Errorf("got %+v", got)
		}
		decide(t, db.Second, yes(other), true)
		note = h.step(0)
		note.Noted = []approval.Note{{ID: other.ID, Withdraw: true}} // which is nothing to this lane
		h.commit(t, note)
		if got := stateOf(t, db.Store, other, approval.Approved); got.Told {
			t.Errorf("got %+v", got)
		}
		h, a := asking(t, db, 0)
		note = h.step(0)
		note.Noted = []approval.Note{{ID: a.ID, Withdraw: true}}
		h.die(t, db.Second)
		_, err := db.Store.Commit(ctx(t), note.commit())
		refused(t, err, lane.ErrFenced)
		stateOf(t, db.Store, a, approval.Open)
	}},
	{"stay open when a note withdraws nothing", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		note := h.step(0)
		note.Noted = []approval.Note{{ID: a.ID}}
		h.commit(t, note)
		if got := stateOf(t, db.Second, a, approval.Open); !got.DecidedAt.IsZero() {
			t.Errorf("got %+v", got)
		}
		decide(t, db.Second, yes(a), true)
	}},
	{"that are refused to be withdrawn concern their own loop", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		decide(t, db.Second, yes(a), true)
		d := h.step(0)
		d.Noted = []approval.Note{{ID: a.ID, Withdraw: true}}
		_, err := db.Store.Commit(ctx(t), d.commit())
		var which *lane.Refused
		if !errors.As(err, &which) || which.LoopID != h.id() {
			t.Errorf("refused: %v", err)
		}
	}},
	{"are withdrawn when the head is settled from rows", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		_, other := asking(t, db, 0)
		d, approved := h.gated(0)
		d.Calls[0].Index = 1
		h.commit(t, d)
		decide(t, db.Second, yes(approved), true)
		_, err := db.Store.End(ctx(t), h.lease.Fence, lane.Interrupted, "R", "m")
		ok(t, err)
		stateOf(t, db.Second, a, approval.Withdrawn)
		stateOf(t, db.Second, approved, approval.Approved)
		stateOf(t, db.Second, other, approval.Open)
		h = startWithin(t, db.Store, "b", live(t, db.Store), time.Minute)
		d, a = h.gated(0)
		h.commit(t, d)
		db.Advance(time.Minute + lane.ForceGrace)
		_, err = db.Second.Force(ctx(t), 10)
		ok(t, err)
		stateOf(t, db.Second, a, approval.Withdrawn)
	}},
	{"are not withdrawn when a stale owner settles the head from rows", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		stale := h.lease.Fence
		h.die(t, db.Second)
		_, err := db.Store.End(ctx(t), stale, lane.Interrupted, "R", "m")
		refused(t, err, lane.ErrFenced)
		stateOf(t, db.Second, a, approval.Open)
	}},
	{"wake the lane that rests", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		h.parked(t, h.park(lane.Never), true)
		owner := live(t, db.Second)
		if got := claim(t, db.Second, owner, 10); len(got) != 0 {
			t.Fatalf("claimed before: %+v", got)
		}
		decide(t, db.Second, yes(a), true)
		moveMail(t, db.Second)
		if got := claimOne(t, db.Second, owner); got.session() != h.session() {
			t.Errorf("claimed %+v", got.lease)
		}
	}},
	{"decided before the look: it parks, having seen the decision", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		decide(t, db.Second, yes(a), true)
		moveMail(t, db.Second)
		h.lease.Mail = h.commit(t, h.step(0)).Mail
		stateOf(t, db.Store, a, approval.Approved) // the look
		h.parked(t, h.park(lane.Never), true)
	}},
	{"decided between the look and the park: it stays, or is woken when the mail is moved", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		stateOf(t, db.Store, a, approval.Open) // the look
		decide(t, db.Second, yes(a), true)
		if out := h.commit(t, h.park(lane.Never)); !out.Parked { // a database where a decision wakes at once
			return
		}
		moveMail(t, db.Second)
		claimOne(t, db.Second, live(t, db.Second))
	}},
	{"decided, with the mail moved between the look and the park: it stays", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		stateOf(t, db.Store, a, approval.Open)
		decide(t, db.Second, yes(a), true)
		moveMail(t, db.Second)
		h.parked(t, h.park(lane.Never), false)
	}},
	{"decided while the lane is taken over: whoever has it is told", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		decide(t, db.Second, yes(a), true) // posted to the owner that dies
		heir := h.die(t, db.Second)
		calls, err := db.Second.TurnApprovals(ctx(t), h.id(), 1) // its first look
		if ok(t, err); len(calls) != 1 || calls[0].State != approval.Approved {
			t.Fatalf("the heir sees %+v", calls)
		}
		moveMail(t, db.Second)
		if out := heir.commit(t, heir.park(lane.Never)); out.Parked && out.Mail == 0 {
			t.Errorf("the mail is lost: %+v", out)
		}
	}},
	{"decided as the lane parks lose no wake-up", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for range 20 {
			h := start(t, db.Store, ident.New(), owner)
			d, a := h.gated(0)
			h.commit(t, d)
			var out lane.Committed
			together(t, 2, func(i int) (err error) {
				if i == 0 {
					out, err = db.Store.Commit(ctx(t), h.park(lane.Never).commit())
					return err
				}
				_, _, err = db.Second.DecideApproval(ctx(t), yes(a))
				return err
			})
			moveMail(t, db.Store)
			db.Advance(100 * time.Millisecond)
			if got := claim(t, db.Second, owner, 10); out.Parked != (len(got) == 1) {
				t.Fatalf("parked: %v, claimed %+v", out.Parked, got)
			}
		}
	}},
	{"are listed by state, session and agent, newest first, in pages", func(t *testing.T, db DB) {
		var all []approval.Approval
		for range 5 {
			_, a := asking(t, db, 0)
			all = append([]approval.Approval{a}, all...)
		}
		decide(t, db.Store, yes(all[1]), true)
		list := func(f approval.Filter) (ids []string) {
			if f.Tenant == "" {
				f.Tenant = session.DefaultTenant
			}
			f.Limit = 2
			for pages := 0; pages < 10; pages++ {
				page, next, err := db.Second.ListApprovals(ctx(t), f)
				ok(t, err)
				for _, a := range page {
					ids = append(ids, a.ID)
				}
				if f.Before = next; next == "" {
					return ids
				}
			}
			t.Fatal("the pages have no end")
			return nil
		}
		ids := func(some ...int) (ids []string) {
			for _, i := range some {
				ids = append(ids, all[i].ID)
			}
			return ids
		}
		open, approved := approval.Open, approval.Approved
		equal(t, "all", list(approval.Filter{}), ids(0, 1, 2, 3, 4))
		equal(t, "open ones", list(approval.Filter{State: &open}), ids(0, 2, 3, 4))
		equal(t, "approved ones", list(approval.Filter{State: &approved}), ids(1))
		equal(t, "of a session", list(approval.Filter{SessionID: all[3].LaneID}), ids(3))
		equal(t, "of the agent", list(approval.Filter{Agent: "agent", State: &open}), ids(0, 2, 3, 4))
		equal(t, "of another agent", list(approval.Filter{Agent: "other"}), ids())
		equal(t, "of some agents", list(approval.Filter{Agents: []string{"x", "agent"}}), ids(0, 1, 2, 3, 4))
		equal(t, "of none", list(approval.Filter{Agents: []string{}}), ids())
		equal(t, "of a prefix", list(approval.Filter{InstancePrefix: "inst"}), ids(0, 1, 2, 3, 4))
		equal(t, "of another prefix", list(approval.Filter{InstancePrefix: "x"}), ids())
		equal(t, "of another tenant", list(approval.Filter{Tenant: "other"}), ids())
		equal(t, "open ones of another tenant", list(approval.Filter{Tenant: "other", State: &open}), ids())
		equal(t, "of a session of another tenant", list(approval.Filter{Tenant: "other", SessionID: all[3].LaneID}),
			ids())
	}},
	{"make grants, which are listed and revoked", func(t *testing.T, db DB) {
		h, a := asking(t, db, 0)
		d := yes(a)
		d.Scope = approval.Session
		decide(t, db.Store, d, true)
		of, err := db.Second.LaneGrants(ctx(t), h.session())
		if ok(t, err); len(of) != 1 {
			t.Fatalf("grants: %+v", of)
		}
		ask := a.Subject.Asks[0]
		want := approval.Grant{
			ID: of[0].ID, Tenant: a.Tenant, LaneID: a.LaneID, Key: a.Key, Tool: "bash", Rule: ask.Key(),
			Said:       ask.String(),
			ApprovalID: a.ID, By: somebody, CreatedAt: of[0].CreatedAt,
		}
		equal(t, "the grant", of[0], want)
		page, _, err := db.Store.ListGrants(ctx(t), approval.Filter{Tenant: a.Tenant, SessionID: a.LaneID, Limit: 10})
		ok(t, err)
		equal(t, "the list", page, of)
		_, err = db.Store.RevokeGrant(ctx(t), "other", of[0].ID, somebody)
		refused(t, err, approval.ErrGrantNotFound)
		bob := audit.Who{Kind: "operator", Name: "bob"}
		for _, by := range []audit.Who{bob, somebody} {
			got, err := db.Store.RevokeGrant(ctx(t), a.Tenant, of[0].ID, by)
			if ok(t, err); got.RevokedAt.IsZero() || got.RevokedBy == nil || got.RevokedBy.Name != "bob" {
				t.Errorf("revoked: %+v", got)
			}
		}
		of, err = db.Second.LaneGrants(ctx(t), h.session())
		active, _, err2 := db.Store.ListGrants(ctx(t), approval.Filter{Tenant: a.Tenant, Active: true, Limit: 10})
		every, _, err3 := db.Store.ListGrants(ctx(t), approval.Filter{Tenant: a.Tenant, Limit: 10})
		if len(of) != 0 || len(active) != 0 || len(every) != 1 || err != nil || err2 != nil || err3 != nil {
			t.Errorf("grants %+v, active %+v, all %+v", of, active, every)
		}
		no := yes(a)
		no.Approve, no.Scope = false, approval.Session
		h2, b := asking(t, db, 0)
		no.ID = b.ID
		decide(t, db.Store, no, true)
		if of, err := db.Store.LaneGrants(ctx(t), h2.session()); err != nil || len(of) != 0 {
			t.Errorf("a denial made %+v, %v", of, err)
		}
	}},
	{"make grants that are listed by session and agent, newest first, in pages", func(t *testing.T, db DB) {
		var lanes, none []string
		for range 4 {
			_, a := asking(t, db, 0)
			d := yes(a)
			d.Scope = approval.Session
			decide(t, db.Store, d, true)
			lanes = append([]string{a.LaneID}, lanes...)
			_, once := asking(t, db, 0)
			decide(t, db.Store, yes(once), true) // makes none
		}
		list := func(f approval.Filter) (of []string) {
			if f.Tenant == "" {
				f.Tenant = session.DefaultTenant
			}
			f.Limit = 3
			for pages := 0; pages < 10; pages++ {
				page, next, err := db.Second.ListGrants(ctx(t), f)
				ok(t, err)
				for _, g := range page {
					of = append(of, g.LaneID)
				}
				if f.Before = next; next == "" {
					return of
				}
			}
			t.Fatal("the pages have no end")
			return nil
		}
		equal(t, "all", list(approval.Filter{}), lanes)
		equal(t, "of a session", list(approval.Filter{SessionID: lanes[1]}), lanes[1:2])
		equal(t, "of the agent", list(approval.Filter{Agent: "agent"}), lanes)
		equal(t, "of another agent", list(approval.Filter{Agent: "other"}), none)
		equal(t, "of some agents", list(approval.Filter{Agents: []string{"x", "agent"}}), lanes)
		equal(t, "of none", list(approval.Filter{Agents: []string{}}), none)
		equal(t, "of a prefix", list(approval.Filter{InstancePrefix: "inst"}), lanes)
		equal(t, "of another prefix", list(approval.Filter{InstancePrefix: "x"}), none)
		equal(t, "of another tenant", list(approval.Filter{Tenant: "other"}), none)
		equal(t, "of a session of another tenant", list(approval.Filter{Tenant: "other", SessionID: lanes[1]}), none)
		of, err := db.Store.LaneGrants(ctx(t), lanes[2])
		if ok(t, err); len(of) != 1 || of[0].LaneID != lanes[2] {
			t.Fatalf("of one lane: %+v", of)
		}
		_, err = db.Store.GetGrant(ctx(t), "other", of[0].ID)
		refused(t, err, approval.ErrGrantNotFound)
	}},
	{"are kept while they are open, and deleted a month after they ended", func(t *testing.T, db DB) {
		_, open := asking(t, db, 0)
		_, a := asking(t, db, 0)
		d := yes(a)
		d.Scope = approval.Session
		decide(t, db.Store, d, true)
		db.Advance(month - time.Hour)
		if n := deleteAll(t, db.Second, retention.Approvals, month, 1); n != 0 {
			t.Errorf("%d went too early", n)
		}
		db.Advance(2 * time.Hour)
		if n := deleteAll(t, db.Second, retention.Approvals, month, 1); n != 1 {
			t.Errorf("%d went", n)
		}
		stateOf(t, db.Store, open, approval.Open)
		grants, err := db.Store.LaneGrants(ctx(t), a.LaneID) // it still counts
		if ok(t, err); len(grants) != 1 {
			t.Fatalf("grants: %+v", grants)
		}
		_, err = db.Store.RevokeGrant(ctx(t), a.Tenant, grants[0].ID, somebody)
		ok(t, err)
		db.Advance(month - time.Hour)
		if n := deleteAll(t, db.Second, retention.Approvals, month, 1); n != 0 {
			t.Errorf("%d grants went too early", n)
		}
		db.Advance(2 * time.Hour)
		if n := deleteAll(t, db.Second, retention.Approvals, month, 1); n != 1 {
			t.Errorf("%d grants went", n)
		}
	}},
}
