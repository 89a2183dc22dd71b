package storetest

import (
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// pinned is an admission to a session that is meant by its id, as a caller makes it that has found the session under a
// name. The hash of what such a caller sends has the id.
func pinned(name, id, idem string) submission.Admission {
	a := admission(name)
	a.SessionID, a.IdempotencyKey, a.InputHash = id, idem, []byte("hash of "+id)
	return a
}

// rewindTo takes the named session back to an entry, and returns the one that has the name then.
func rewindTo(t tester, s store.Store, id string, at int64) session.Session {
	t.Helper()
	made, err := s.ForkSession(ctx(t), session.Fork{
		New: session.New{Key: session.Key{Tenant: session.DefaultTenant}}, From: id, At: at, Rewinds: true,
	})
	ok(t, err)
	return made
}

// admitAgain repeats an admission, by both handles, and wants the answer to the first one.
func admitAgain(t tester, db DB, a submission.Admission, first submission.Submission) {
	t.Helper()
	for _, s := range []store.Store{db.Store, db.Second} {
		for _, only := range []bool{false, true} {
			a.ID, a.ReplayOnly = ident.New(), only
			got := admit(t, s, a)
			if !got.Replayed || got.Submission.ID != first.ID || got.Lease != nil {
				t.Errorf("the replay: %+v", got)
			}
		}
	}
}

var pinnedCases = []testCase{
	{"that means a session by its id goes there, and makes none", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 3)
		a := pinned("a", h.session(), "key")
		a.Owner = live(t, db.Store)
		out := admit(t, db.Store, a)
		if out.Submission.SessionID != h.session() || out.Lease == nil || out.Submission.Key != key("a") {
			t.Errorf("admitted %+v", out)
		}
		admitAgain(t, db, a, out.Submission)
		foreign := pinned("a", h.session(), "")
		foreign.Key.Tenant = "other"
		for name, other := range map[string]submission.Admission{
			"nobody's id":      pinned("a", ident.New(), ""),
			"nobody's, a key":  pinned("a", ident.New(), "another"),
			"another tenant's": foreign,
		} {
			for _, s := range []store.Store{db.Store, db.Second} {
				other.ID = ident.New()
				if _, err := s.Admit(ctx(t), other); err == nil {
					t.Errorf("%s was admitted", name)
				} else {
					refused(t, err, session.ErrNotFound)
				}
			}
		}
		conflict := a
		conflict.ID, conflict.InputHash = ident.New(), []byte("another")
		_, err := db.Second.Admit(ctx(t), conflict)
		refused(t, err, submission.ErrIdempotencyConflict)
		consistent(t, db.Store, h.session())
	}},
	{"that means a session which was rewound is refused, and a replay is not", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 3)
		a := pinned("a", h.session(), "key")
		a.Owner = live(t, db.Store)
		out := admit(t, db.Store, a)
		own := hold(db.Store, *out.Lease)
		own.commit(t, own.end(false))
		made := rewindTo(t, db.Second, h.session(), 2)
		// whether the caller has found it before it was rewound or after
		for _, name := range []string{"a", session.Rewound(h.session())} {
			again := a
			again.Key.Name = name
			admitAgain(t, db, again, out.Submission)
			for _, idem := range []string{"", "new"} {
				for _, s := range []store.Store{db.Store, db.Second} {
					_, err := s.Admit(ctx(t), pinned(name, h.session(), idem))
					refused(t, err, session.ErrRewound)
				}
			}
		}
		// what the key stands for in the one session it does not in the other
		_, err := db.Store.Admit(ctx(t), pinned("a", made.ID, "key"))
		refused(t, err, submission.ErrIdempotencyConflict)
		if sub := admit(t, db.Second, pinned("a", made.ID, "new")).Submission; sub.SessionID != made.ID {
			t.Errorf("the fork's goes to %s", sub.SessionID)
		}
		consistent(t, db.Store, h.session())
	}},
	{"that means a session which is deleted is refused, and never goes to one of its name", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 3)
		a := pinned("a", h.session(), "key")
		a.Owner = live(t, db.Store)
		out := admit(t, db.Store, a)
		own := hold(db.Store, *out.Lease)
		own.commit(t, own.end(false))
		d := deleteNamed(t, db.Store, "a", h.session())
		for _, s := range []store.Store{db.Store, db.Second} {
			_, err := s.Admit(ctx(t), pinned("a", h.session(), ""))
			refused(t, err, session.ErrDeleting)
		}
		admitAgain(t, db, a, out.Submission)
		purgeAll(t, db.Second, d, 100)
		queue(t, db.Store, "a")
		for _, s := range []store.Store{db.Store, db.Second} {
			_, err := s.Admit(ctx(t), pinned("a", h.session(), ""))
			refused(t, err, session.ErrNotFound)
		}
		admitAgain(t, db, a, out.Submission) // of which the receipt is left
	}},
}

var idleDeletionCases = []testCase{
	{"of a session that must be idle are refused while it is not", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		d := deletion.Deletion{
			ID: ident.New(), Kind: deletion.Session, Key: key("a"), SessionID: h.session(), IfIdle: true,
		}
		for _, s := range []store.Store{db.Store, db.Second} {
			_, err := s.BeginDeletion(ctx(t), d)
			refused(t, err, session.ErrBusy)
		}
		queue(t, db.Second, "a") // nothing was begun
		d.IfIdle = false
		begun, err := db.Store.BeginDeletion(ctx(t), d)
		ok(t, err)
		d.ID, d.IfIdle = ident.New(), true
		again, err := db.Second.BeginDeletion(ctx(t), d)
		ok(t, err)
		equal(t, "the deletion that is under way", again, begun)
	}},
	{"of a session by an old name are of the session, and not of the name", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 3)
		made := rewindTo(t, db.Store, h.session(), 2)
		old := deleteNamed(t, db.Second, "a", h.session())
		if old.Key.Name != session.Rewound(h.session()) || old.SessionID != h.session() {
			t.Errorf("the deletion: %+v", old)
		}
		if sub := queue(t, db.Store, "a"); sub.SessionID != made.ID {
			t.Errorf("the name leads to %s", sub.SessionID)
		}
		if other := deleteNamed(t, db.Store, "a", made.ID); other.ID == old.ID || other.SessionID != made.ID {
			t.Errorf("the deletion of the fork: %+v", other)
		}
		purgeAll(t, db.Store, old, 100)
		db.Advance(time.Second)
		_, err := db.Store.BeginDeletion(ctx(t), deletion.Deletion{
			ID: ident.New(), Kind: deletion.Session, Key: key("a"), SessionID: h.session(),
		})
		refused(t, err, session.ErrNotFound)
	}},
}
