package storetest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
)

func newSession(name string, labels map[string]string) session.New {
	return session.New{Key: key(name), Labels: labels, Metadata: json.RawMessage(`{"a":"\u0000"}`)}
}

// forked is a fork of a session at an entry.
func forked(t tester, s store.Store, from, name string, at int64) session.Session {
	t.Helper()
	made, err := s.ForkSession(ctx(t), session.Fork{New: session.New{Key: key(name)}, From: from, At: at})
	ok(t, err)
	return made
}

// conversation begins a session of n entries and ends its submission.
func conversation(t tester, db DB, name string, n int) *holder {
	t.Helper()
	h := start(t, db.Store, name, live(t, db.Store))
	h.commit(t, h.step(n-2))
	h.commit(t, h.end(false))
	return h
}

// wantEntries compares the entries of a session with those of others, and reads them in small pages, too.
func wantEntries(t tester, s store.Store, id string, want []session.Entry) {
	t.Helper()
	equal(t, "the entries", entriesOf(t, s, id), want)
	var paged []session.Entry
	for {
		page, err := s.Entries(ctx(t), id, int64(len(paged)), 2)
		ok(t, err)
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
	}
	equal(t, "the entries in pages", paged, want)
	if got := sessionOf(t, s, id).EntryHead; got != int64(len(want)) {
		t.Errorf("the head is %d, of %d entries", got, len(want))
	}
}

var makingCases = []testCase{
	{"are made once, and refused when they differ", func(t *testing.T, db DB) {
		n := newSession("a", map[string]string{"team": "x=y", "env": "prod"})
		first, created, err := db.Store.CreateSession(ctx(t), n)
		if ok(t, err); !created || first.EntryHead != 0 || first.Pending != 0 || !n.Same(first) {
			t.Errorf("made: %v, %+v", created, first)
		}
		again, created, err := db.Second.CreateSession(ctx(t), n)
		if ok(t, err); created {
			t.Error("it was made again")
		}
		equal(t, "the session made again", again, first)
		n.Labels = map[string]string{"team": "z"}
		_, _, err = db.Store.CreateSession(ctx(t), n)
		refused(t, err, session.ErrExists)
		prompted := queue(t, db.Store, "a")
		if prompted.SessionID != first.ID || prompted.Seq != 1 {
			t.Errorf("its first prompt went to %s, %d", prompted.SessionID, prompted.Seq)
		}
		h := claimOne(t, db.Store, live(t, db.Store))
		h.commit(t, h.step(1))
		consistent(t, db.Store, first.ID)
		deleteNamed(t, db.Store, "a", first.ID)
		_, _, err = db.Store.CreateSession(ctx(t), n)
		refused(t, err, session.ErrDeleting)
	}},
	{"are changed in labels and metadata", func(t *testing.T, db DB) {
		first, _, err := db.Store.CreateSession(ctx(t), newSession("a", map[string]string{"a": "1", "b": "1"}))
		ok(t, err)
		got, err := db.Second.UpdateSession(ctx(t), session.DefaultTenant, first.ID, session.Change{
			Set: map[string]string{"b": "2", "c": "2"}, Remove: []string{"a", "none"},
		})
		ok(t, err)
		want := first
		want.Labels = map[string]string{"b": "2", "c": "2"}
		equal(t, "the session", got, want)
		equal(t, "the session as it is stored", sessionOf(t, db.Store, first.ID), want)
		want.Metadata = json.RawMessage(`{}`)
		got, err = db.Store.UpdateSession(ctx(t), session.DefaultTenant, first.ID,
			session.Change{Metadata: want.Metadata})
		ok(t, err)
		equal(t, "the session with other metadata", got, want)
		many := session.Change{Set: map[string]string{}}
		for i := range session.MaxLabels {
			many.Set[fmt.Sprint("l", i)] = "v"
		}
		_, err = db.Store.UpdateSession(ctx(t), session.DefaultTenant, first.ID, many)
		refused(t, err, session.ErrLabels)
		_, err = db.Store.UpdateSession(ctx(t), "other", first.ID, session.Change{})
		refused(t, err, session.ErrNotFound)
	}},
	{"are listed by their labels", func(t *testing.T, db DB) {
		var ids []string
		for i := range 6 {
			labels := map[string]string{"even": fmt.Sprint(i%2 == 0), "third": fmt.Sprint(i % 3)}
			s, _, err := db.Store.CreateSession(ctx(t), newSession(fmt.Sprint("s", i), labels))
			ok(t, err)
			ids = append([]string{s.ID}, ids...)
		}
		queue(t, db.Store, "without")
		foreign := newSession("foreign", map[string]string{"even": "true"})
		foreign.Key.Tenant = "other"
		_, _, err := db.Store.CreateSession(ctx(t), foreign)
		ok(t, err)
		list := func(f session.Filter, want ...string) {
			t.Helper()
			f.Tenant = session.DefaultTenant
			if f.Limit == 0 {
				f.Limit = 100
			}
			page, err := db.Second.ListSessions(ctx(t), f)
			ok(t, err)
			var got []string
			for _, s := range page {
				got = append(got, s.ID)
			}
			equal(t, "the list", got, want)
		}
		even := map[string]string{"even": "true"}
		list(session.Filter{Labels: even}, ids[1], ids[3], ids[5])
		list(session.Filter{Labels: even, Limit: 2}, ids[1], ids[3])
		list(session.Filter{Labels: even, Limit: 2, BeforeID: ids[3]}, ids[5])
		list(session.Filter{Labels: map[string]string{"even": "true", "third": "0"}}, ids[5])
		list(session.Filter{Labels: map[string]string{"even": "maybe"}})
		list(session.Filter{Labels: even, Agent: "agent", Instance: "instance"}, ids[1], ids[3], ids[5])
		list(session.Filter{Labels: even, Agent: "another"})
		list(session.Filter{Labels: even, InstancePrefix: "x"})
		_, err = db.Store.UpdateSession(ctx(t), session.DefaultTenant, ids[3], session.Change{Remove: []string{"even"}})
		ok(t, err)
		list(session.Filter{Labels: even}, ids[1], ids[5])
	}},
	{"are forked without a copy, and go on apart", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 5)
		all := entriesOf(t, db.Store, h.session())
		fork := forked(t, db.Store, h.session(), "b", 3)
		if fork.ForkedFrom != h.session() || fork.ForkedAt != 3 || fork.LaneID != fork.ID || fork.EventHead != 0 {
			t.Errorf("the fork: %+v", fork)
		}
		equal(t, "the fork made again", forked(t, db.Second, h.session(), "b", 3), fork)
		_, err := db.Store.ForkSession(ctx(t), session.Fork{New: session.New{Key: key("b")}, From: h.session(), At: 2})
		refused(t, err, session.ErrExists)
		wantEntries(t, db.Second, fork.ID, all[:3])
		none(db, `FROM entries WHERE session_id = '`+fork.ID+`'`)

		own := start(t, db.Second, "b", live(t, db.Second))
		if own.root().EntryHead != 4 || own.root().InputEntry != 4 {
			t.Errorf("the first prompt of the fork: %+v", own.root())
		}
		own.commit(t, own.step(1))
		own.commit(t, own.end(false))
		more := entriesOf(t, db.Store, fork.ID)
		if len(more) != 6 {
			t.Fatalf("the fork has %d entries", len(more))
		}
		equal(t, "what it shares", more[:3], all[:3])
		wantEntries(t, db.Store, h.session(), all)
		// a fork of the fork, above the cut and below it
		wantEntries(t, db.Store, forked(t, db.Store, fork.ID, "c", 5).ID, more[:5])
		below := forked(t, db.Store, fork.ID, "d", 2)
		wantEntries(t, db.Store, below.ID, more[:2])
		// queued, and then claimed
		sub := queue(t, db.Store, "d")
		claimed := claimOne(t, db.Store, live(t, db.Store))
		if claimed.id() != sub.ID || claimed.root().EntryHead != 2 {
			t.Errorf("what was claimed: %+v", claimed.root())
		}
		// one that begins empty
		wantEntries(t, db.Store, forked(t, db.Store, h.session(), "e", 0).ID, nil)
	}},
	{"that are deleted leave to forks what these share, and nothing else", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 9)
		all := entriesOf(t, db.Store, h.session())
		fork := forked(t, db.Store, h.session(), "b", 6)
		second := forked(t, db.Store, fork.ID, "c", 4)
		purgeAll(t, db.Store, deleteNamed(t, db.Store, "a", h.session()), 3)
		none(db, `FROM entries WHERE session_id = '`+h.session()+`' AND seq > 6`)
		wantEntries(t, db.Store, fork.ID, all[:6])
		third := forked(t, db.Store, fork.ID, "d", 5)
		purgeAll(t, db.Second, deleteNamed(t, db.Store, "b", fork.ID), 3)
		none(db, `FROM entries WHERE session_id = '`+h.session()+`' AND seq > 5`)
		wantEntries(t, db.Store, second.ID, all[:4])
		wantEntries(t, db.Store, third.ID, all[:5])
		purgeAll(t, db.Store, deleteNamed(t, db.Store, "d", third.ID), 2)
		wantEntries(t, db.Store, second.ID, all[:4])
		purgeAll(t, db.Second, deleteNamed(t, db.Store, "c", second.ID), 2)
		for _, table := range []string{
			"entries", "images", "session_bases", "session_labels", "sessions", "lanes",
		} {
			none(db, `FROM `+table)
		}
		_, err := db.Store.ForkSession(ctx(t), session.Fork{New: session.New{Key: key("x")}, From: h.session(), At: 1})
		refused(t, err, session.ErrNotFound)
	}},
	{"of sub-agents have labels that go with them", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		for _, id := range []string{h.session(), child.SessionID} {
			_, err := db.Store.UpdateSession(ctx(t), session.DefaultTenant, id,
				session.Change{Set: map[string]string{"l": "v"}})
			ok(t, err)
		}
		_, err := db.Store.End(ctx(t), h.lease.Fence, lane.Failed, "R", "m")
		ok(t, err)
		purgeAll(t, db.Second, deleteNamed(t, db.Store, "a", h.session()), 100)
		none(db, `FROM session_labels`)
	}},
	{"that are being deleted are not forked once they are closed", func(t *testing.T, db DB) {
		h := conversation(t, db, "a", 3)
		deleteNamed(t, db.Store, "a", h.session())
		closed, err := db.Store.CloseSession(ctx(t), h.session())
		if ok(t, err); !closed {
			t.Fatal("not closed")
		}
		_, err = db.Store.ForkSession(ctx(t), session.Fork{New: session.New{Key: key("b")}, From: h.session(), At: 1})
		refused(t, err, session.ErrNotFound)
	}},
	{"are rewound: a fork has the name, and the old one its id", func(t *testing.T, db DB) {
		a := keyed("a", "key")
		a.Owner = live(t, db.Store)
		out := admit(t, db.Store, a)
		h := hold(db.Store, *out.Lease)
		_, err := db.Store.UpdateSession(ctx(t), session.DefaultTenant, h.session(),
			session.Change{Set: map[string]string{"l": "v"}})
		ok(t, err)
		rewind := session.Fork{
			New: session.New{Key: session.Key{Tenant: session.DefaultTenant}}, From: h.session(), At: 2, Rewinds: true,
		}
		h.commit(t, h.step(3))
		_, err = db.Store.ForkSession(ctx(t), rewind)
		refused(t, err, session.ErrBusy)
		h.commit(t, h.end(false))
		all := entriesOf(t, db.Store, h.session())
		made, err := db.Store.ForkSession(ctx(t), rewind)
		if ok(t, err); made.Key != key("a") || made.ID == h.session() || made.Labels["l"] != "v" {
			t.Errorf("the session that has the name: %+v", made)
		}
		again, err := db.Second.ForkSession(ctx(t), rewind)
		ok(t, err)
		equal(t, "the rewind asked for again", again, made)
		rewind.At = 1
		_, err = db.Store.ForkSession(ctx(t), rewind)
		refused(t, err, session.ErrRewound)
		old := sessionOf(t, db.Store, h.session())
		if old.Key.Name != session.Rewound(h.session()) || old.RewoundTo != made.ID {
			t.Errorf("the old one: %+v", old)
		}
		wantEntries(t, db.Store, old.ID, all)
		wantEntries(t, db.Store, made.ID, all[:2])
		// a prompt under its key is answered as before, by every replica
		for _, s := range []store.Store{db.Store, db.Second} {
			got := admit(t, s, keyed("a", "key"))
			if !got.Replayed || got.Submission.ID != a.ID || got.Submission.SessionID != old.ID {
				t.Errorf("the replay: %+v", got.Submission)
			}
		}
		if sub := queue(t, db.Store, "a"); sub.SessionID != made.ID {
			t.Errorf("the next prompt goes to %s", sub.SessionID)
		}
		// both are deleted by their names
		k := old.Key
		purgeAll(t, db.Store, beginDeletion(t, db.Store, deletion.Deletion{
			Kind: deletion.Session, Key: k, SessionID: old.ID,
		}), 100)
		db.Advance(time.Second)
		wantEntries(t, db.Store, made.ID, all[:2])
	}},
}
