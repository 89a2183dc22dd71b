package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

func beginDeletion(t tester, s store.Store, d deletion.Deletion) deletion.Deletion {
	t.Helper()
	d.ID = ident.New()
	got, err := s.BeginDeletion(ctx(t), d)
	ok(t, err)
	return got
}

func deleteNamed(t tester, s store.Store, name, id string) deletion.Deletion {
	t.Helper()
	return beginDeletion(t, s, deletion.Deletion{Kind: deletion.Session, Key: key(name), SessionID: id})
}

// purgeAll closes a session and deletes its rows in batches of limit.
func purgeAll(t tester, s store.Store, d deletion.Deletion, limit int) (deleted int) {
	t.Helper()
	closed, err := s.CloseSession(ctx(t), d.SessionID)
	if ok(t, err); !closed {
		t.Fatalf("the session is not closed")
	}
	for batches := 0; ; batches++ {
		b, err := s.PurgeSession(ctx(t), d.ID, time.Minute, limit)
		ok(t, err)
		if deleted += b.Deleted; b.Done {
			return deleted
		}
		if b.Deleted == 0 || b.Deleted > limit+1 || batches > 10_000 {
			t.Fatalf("batch %d: %+v of at most %d", batches, b, limit)
		}
	}
}

// full is a session that has something in every table, settled.
func full(t tester, db DB, name string) *holder {
	t.Helper()
	h, _ := called(t, db, name, 3)
	for turn := range 5 {
		c := h.step(1)
		c.Turn = &lane.Turn{Turn: turn + 1, Model: "m"}
		h.commit(t, c)
		h.commit(t, h.deltas(1, event.Text))
	}
	gate, asked := h.gated(0)
	gate.Calls[0].Index = 3
	h.commit(t, gate)
	allowed := yes(asked)
	allowed.Scope = approval.Session
	decide(t, db.Store, allowed, true)
	child := h.withChild(t)
	k := newCall(h, 1, 0)
	k.LoopID = child.ID
	c := h.stepOf(child, 2)
	c.Calls = []call.Call{k}
	h.commit(t, c)
	_, err := db.Store.End(ctx(t), h.lease.Fence, lane.Failed, "R", "m")
	ok(t, err)
	return h
}

// none fails when there is a row of this kind: a cursor without a name is refused.
func none(db DB, from string) { db.Exec(`INSERT INTO cursors (name) SELECT NULL ` + from) }

var deletionCases = []testCase{
	{"refuse prompts, and let the name be used again once done", func(t *testing.T, db DB) {
		a := keyed("a", "key")
		first := admit(t, db.Store, a).Submission
		d := deleteNamed(t, db.Store, "a", first.SessionID)
		for _, s := range []store.Store{db.Store, db.Second} {
			_, err := s.Admit(ctx(t), admission("a"))
			refused(t, err, session.ErrDeleting)
			again := deleteNamed(t, s, "a", first.SessionID)
			equal(t, "the deletion asked for again", again, d)
			replayed := a
			replayed.ID = ident.New()
			if got := admit(t, s, replayed); !got.Replayed || got.Submission.ID != first.ID {
				t.Errorf("the replay while it is deleted: %+v", got)
			}
		}
		queue(t, db.Store, "b")
		if closed, err := db.Store.CloseSession(ctx(t), first.SessionID); err != nil || closed {
			t.Errorf("closed with something queued: %v, %v", closed, err)
		}
		_, _, err := db.Store.RequestAbortSession(ctx(t), session.DefaultTenant, first.SessionID)
		ok(t, err)
		purgeAll(t, db.Store, d, 100)
		fresh := queue(t, db.Second, "a")
		if fresh.SessionID == first.SessionID || fresh.Seq != 1 {
			t.Errorf("the new session: %+v", fresh)
		}
		a.ID = ident.New()
		if got := admit(t, db.Store, a); !got.Replayed || got.Submission.ID != first.ID {
			t.Errorf("the replay: %+v", got)
		}
	}},
	{"remove all rows of a session and its sub-agents, in batches, and nobody else's", func(t *testing.T, db DB) {
		for _, limit := range []int{1, 7, 1000} {
			name := fmt.Sprint("gone", limit)
			other := full(t, db, fmt.Sprint("other", limit))
			before := read(t, db.Store, other.session())
			h := full(t, db, name)
			d := deleteNamed(t, db.Store, name, h.session())
			if n := purgeAll(t, db.Second, d, limit); n < 20 {
				t.Errorf("%d rows went", n)
			}
			for _, table := range []string{
				"lanes", "sessions", "submissions", "tool_calls", "turns", "segments",
				"approvals", "grants",
			} {
				none(db, `FROM `+table+` WHERE lane_id = '`+h.session()+`'`)
			}
			for _, id := range []string{h.session(), h.lease.Loops[1].SessionID} {
				if left := entriesOf(t, db.Store, id); len(left) > 0 {
					t.Errorf("%d entries are left", len(left))
				}
				_, err := db.Store.GetSession(ctx(t), session.DefaultTenant, id)
				refused(t, err, session.ErrNotFound)
			}
			_, err := db.Store.GetSubmission(ctx(t), session.DefaultTenant, h.id())
			refused(t, err, submission.ErrNotFound)
			_, err = db.Second.Events(ctx(t), h.session(), 0, 10)
			refused(t, err, session.ErrNotFound)
			equal(t, "the other session", read(t, db.Store, other.session()), before)
			asked, _, err := db.Store.ListApprovals(ctx(t), approval.Filter{
				Tenant: session.DefaultTenant, SessionID: other.session(), Limit: 10,
			})
			grants, err2 := db.Store.LaneGrants(ctx(t), other.session())
			if err != nil || err2 != nil || len(asked) != 1 || len(grants) != 1 {
				t.Errorf("the other session's approvals: %+v, grants: %+v; %v, %v", asked, grants, err, err2)
			}
			got, err := db.Store.GetDeletion(ctx(t), session.DefaultTenant, d.ID)
			ok(t, err)
			if got.DoneAt.IsZero() || got.Key.Instance != "" || got.Key.Name != "" || got.SessionID != h.session() {
				t.Errorf("what is left: %+v", got)
			}
		}
	}},
	{"wait for what runs", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		d := deleteNamed(t, db.Store, "a", h.session())
		if closed, err := db.Store.CloseSession(ctx(t), h.session()); err != nil || closed {
			t.Errorf("closed while it runs: %v, %v", closed, err)
		}
		h.commit(t, h.end(false))
		purgeAll(t, db.Store, d, 10)
		_, err := db.Store.Commit(ctx(t), h.step(1).commit())
		refused(t, err, lane.ErrFenced)
	}},
	{"are taken by one, and again when they do not get on", func(t *testing.T, db DB) {
		sub := queue(t, db.Store, "a")
		d := deleteNamed(t, db.Store, "a", sub.SessionID)
		take := func(s store.Store, want int) {
			t.Helper()
			got, err := s.TakeDeletions(ctx(t), time.Minute, 10)
			if ok(t, err); len(got) != want {
				t.Fatalf("%d deletions are due, want %d", len(got), want)
			}
		}
		take(db.Store, 1)
		take(db.Second, 0)
		db.Advance(2 * time.Minute)
		take(db.Second, 1)
		ok(t, db.Store.PostponeDeletion(ctx(t), d.ID, time.Hour, "a \x00 cause"))
		take(db.Store, 0)
		db.Advance(2 * time.Hour)
		take(db.Store, 1)
		got, err := db.Store.DeletionOf(ctx(t), session.DefaultTenant, sub.SessionID)
		if ok(t, err); got.Attempts != 1 || got.Cause != "a \uFFFD cause" {
			t.Errorf("the deletion: %+v", got)
		}
		got, err = db.Store.AdvanceDeletion(ctx(t), d.ID, deletion.Owned)
		if ok(t, err); got.State != deletion.Owned || got.Attempts != 0 {
			t.Errorf("the deletion that got on: %+v", got)
		}
	}},
	{"of an instance are split into its sessions", func(t *testing.T, db DB) {
		for i := range 7 {
			full(t, db, fmt.Sprint("s", i))
		}
		other := admission("other")
		other.Key.Instance = "instance2"
		admit(t, db.Store, other)
		d := beginDeletion(t, db.Store, deletion.Deletion{Kind: deletion.Instance, Key: session.Key{
			Tenant: session.DefaultTenant, Agent: "agent", Instance: "instance",
		}})
		_, err := db.Store.Admit(ctx(t), admission("new"))
		refused(t, err, session.ErrDeleting)
		for round := 0; ; round++ {
			_, done, err := db.Second.SplitDeletion(ctx(t), d.ID, 3)
			if ok(t, err); done {
				break
			}
			due, err := db.Store.TakeDeletions(ctx(t), time.Minute, 100)
			ok(t, err)
			for _, part := range due {
				if part.Kind == deletion.Session {
					if part.ParentID != d.ID {
						t.Errorf("a part: %+v", part)
					}
					purgeAll(t, db.Store, part, 100)
				}
			}
			if len(due) > 4 || round > 20 {
				t.Fatalf("%d are due in round %d", len(due), round)
			}
		}
		left, err := db.Store.ListSessions(ctx(t), session.Filter{Tenant: session.DefaultTenant, Limit: 100})
		if ok(t, err); len(left) != 1 || left[0].Key.Instance != "instance2" {
			t.Errorf("what is left: %+v", left)
		}
		listed, err := db.Store.ListDeletions(ctx(t), session.DefaultTenant, "", 10)
		if ok(t, err); len(listed) != 1 || listed[0].ID != d.ID || listed[0].DoneAt.IsZero() {
			t.Errorf("the deletions: %+v", listed)
		}
		if foreign, err := db.Store.ListDeletions(ctx(t), "other", "", 10); err != nil || len(foreign) != 0 {
			t.Errorf("another tenant's: %+v, %v", foreign, err)
		}
		_, err = db.Store.GetDeletion(ctx(t), "other", d.ID)
		refused(t, err, deletion.ErrNotFound)
		queue(t, db.Store, "new")
	}},
	{"of a tenant leave its name, its receipts' hashes and nothing else", func(t *testing.T, db DB) {
		const acme = "acme"
		_, err := db.Store.CreateTenant(ctx(t), acme)
		ok(t, err)
		ours := func(name, idem string) submission.Admission {
			a := keyed(name, idem)
			a.Key.Tenant, a.Key.Instance = acme, "secret-"+name
			return a
		}
		var ids []string
		for i := range 3 {
			ids = append(ids, admit(t, db.Store, ours(fmt.Sprint("s", i), "a client's key")).Submission.SessionID)
		}
		other := admit(t, db.Store, keyed("theirs", "key")).Submission
		for i, tenant := range []string{acme, acme, session.DefaultTenant} {
			_, err := db.Store.CreateToken(ctx(t), auth.Token{
				ID: ident.New(), Tenant: tenant, Kind: auth.Client, Hash: []byte{byte(i)},
			}, 0)
			ok(t, err)
		}
		dead := live(t, db.Store)
		connect(t, db.Store, fleet.Executor{ID: "ours", Tenant: acme, Replica: dead})
		connect(t, db.Store, fleet.Executor{ID: "theirs", Replica: dead})
		target := deletion.Deletion{Kind: deletion.Tenant, Key: session.Key{Tenant: acme}}
		d := beginDeletion(t, db.Store, target)
		equal(t, "the deletion asked for again", beginDeletion(t, db.Second, target), d)

		for _, s := range []store.Store{db.Store, db.Second} {
			_, err := s.Admit(ctx(t), ours("new", "k"))
			refused(t, err, session.ErrDeleting)
			_, err = s.SuspendTenant(ctx(t), acme, false)
			refused(t, err, tenancy.ErrDeleting)
			if got, err := s.FindToken(ctx(t), []byte{0}); err != nil || !got.Suspended {
				t.Errorf("its token meanwhile: %+v, %v", got, err)
			}
		}
		split := func(want bool) {
			t.Helper()
			for range 20 {
				gone, done, err := db.Second.SplitDeletion(ctx(t), d.ID, 2)
				if ok(t, err); done != want && (done || gone == 0) {
					t.Fatalf("done: %v, want %v", done, want)
				}
				due, err := db.Store.TakeDeletions(ctx(t), time.Minute, 10)
				ok(t, err)
				for _, part := range due {
					if part.Kind == deletion.Session {
						_, _, err := db.Store.RequestAbortSession(ctx(t), acme, part.SessionID)
						ok(t, err)
						purgeAll(t, db.Store, part, 3)
					}
				}
				if gone == 0 && len(due) < 2 {
					return
				}
			}
			t.Fatal("it does not come to an end")
		}
		split(false) // its executor is connected
		if _, err := db.Store.GetExecutor(ctx(t), "ours"); err != nil {
			t.Errorf("an executor that is connected: %v", err)
		}
		db.Advance(leaseTTL + time.Second)
		split(true)

		gone, err := db.Store.GetTenant(ctx(t), acme)
		if ok(t, err); gone.DeletedAt.IsZero() || gone.DeletingAt.IsZero() || gone.SuspendedAt.IsZero() {
			t.Errorf("the tenant: %+v", gone)
		}
		_, err = db.Second.CreateTenant(ctx(t), acme)
		refused(t, err, tenancy.ErrExists)
		_, err = db.Store.SuspendTenant(ctx(t), acme, false)
		refused(t, err, tenancy.ErrDeleting)
		for i := range 2 {
			_, err := db.Store.FindToken(ctx(t), []byte{byte(i)})
			refused(t, err, auth.ErrTokenNotFound)
		}
		_, err = db.Store.GetExecutor(ctx(t), "ours")
		refused(t, err, fleet.ErrNotFound)
		for _, id := range ids {
			_, err := db.Store.GetSession(ctx(t), acme, id)
			refused(t, err, session.ErrNotFound)
		}
		none(db, `FROM receipts WHERE tenant = 'acme' AND (scope LIKE '%secret%' OR idem_key <> '' OR hash IS NULL)`)
		none(db, `FROM (SELECT count(*) AS n FROM receipts WHERE tenant = 'acme') r WHERE n <> 3`)
		for _, table := range []string{"lanes", "submissions", "entries", "segments", "tool_calls", "turns"} {
			none(db, `FROM `+table+` WHERE tenant = 'acme'`)
		}
		if d = beginDeletion(t, db.Store, target); d.DoneAt.IsZero() {
			t.Errorf("the deletion asked for once more: %+v", d)
		}

		_, err = db.Store.FindToken(ctx(t), []byte{2})
		ok(t, err)
		executor(t, db.Store, "theirs")
		sessionOf(t, db.Store, other.SessionID)
		replay := keyed("theirs", "key")
		if got := admit(t, db.Store, replay); !got.Replayed || got.Submission.ID != other.ID {
			t.Errorf("another tenant's receipt: %+v", got)
		}
		_, err = db.Store.BeginDeletion(ctx(t), deletion.Deletion{
			ID: ident.New(), Kind: deletion.Tenant, Key: session.Key{Tenant: "nobody"},
		})
		refused(t, err, tenancy.ErrNotFound)
	}},
	{"are forgotten when they are done for long", func(t *testing.T, db DB) {
		sub := queue(t, db.Store, "a")
		d := deleteNamed(t, db.Store, "a", sub.SessionID)
		db.Advance(2 * month)
		if n := deleteAll(t, db.Store, retention.Deletions, month, 10); n != 0 {
			t.Errorf("%d open deletions are forgotten", n)
		}
		_, _, err := db.Store.RequestAbortSession(ctx(t), session.DefaultTenant, sub.SessionID)
		ok(t, err)
		purgeAll(t, db.Store, d, 10)
		db.Advance(2 * month)
		if n := deleteAll(t, db.Store, retention.Deletions, month, 10); n != 1 {
			t.Errorf("%d deletions are forgotten, want 1", n)
		}
	}},
	{"leave compaction where it has to go on", func(t *testing.T, db DB) {
		gone := full(t, db, "gone")
		h := start(t, db.Store, "a", live(t, db.Store))
		db.Advance(time.Hour)
		deleteAll(t, db.Store, retention.Deltas, time.Minute, 100)
		purgeAll(t, db.Store, deleteNamed(t, db.Store, "gone", gone.session()), 100)
		for range 5 {
			h.commit(t, h.deltas(1, event.Text))
		}
		h.commit(t, h.answer(1))
		db.Advance(time.Hour)
		if n := deleteAll(t, db.Store, retention.Deltas, time.Minute, 100); n != 5 {
			t.Errorf("%d deltas went, want 5", n)
		}
	}},
}
