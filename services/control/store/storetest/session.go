package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var sessionCases = []testCase{
	{"are found by key and by id, by their tenant", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(2))
		queue(t, db.Store, "a")
		got := find(t, db.Second, "a")
		equal(t, "the session", got, session.Session{
			ID: h.session(), LaneID: h.session(), Key: key("a"), CreatedAt: got.CreatedAt, EntryHead: 3, EventHead: 3,
			Pending: 2,
		})
		if got.CreatedAt.IsZero() {
			t.Error("the session has no date")
		}
		byID, err := db.Second.GetSession(ctx(t), session.DefaultTenant, h.session())
		ok(t, err)
		equal(t, "the session by its id", byID, got)
		_, err = db.Store.FindSession(ctx(t), key("b"))
		refused(t, err, session.ErrNotFound)
		foreign := key("a")
		foreign.Tenant = "other"
		_, err = db.Store.FindSession(ctx(t), foreign)
		refused(t, err, session.ErrNotFound)
		_, err = db.Store.GetSession(ctx(t), session.DefaultTenant, ident.New())
		refused(t, err, session.ErrNotFound)
		_, err = db.Store.GetSession(ctx(t), "other", h.session())
		refused(t, err, session.ErrNotFound)
	}},
	{"are listed newest first, in pages", func(t *testing.T, db DB) {
		var all []session.Session
		for _, k := range []session.Key{
			{Agent: "x", Instance: "1", Name: "a"},
			{Agent: "y", Instance: "1", Name: "a"},
			{Agent: "x", Instance: "2", Name: "a"},
			{Agent: "x", Instance: "1", Name: "b"},
			{Agent: "y", Instance: "2", Name: "a"},
		} {
			k.Tenant = session.DefaultTenant
			a := admission("")
			a.Key = k
			admit(t, db.Store, a)
			s, err := db.Store.FindSession(ctx(t), k)
			ok(t, err)
			all = append(all, s)
		}
		slices.SortFunc(all, func(a, b session.Session) int {
			if a.ID > b.ID {
				return -1
			}
			return 1
		})
		for _, f := range []session.Filter{
			{},
			{Agent: "x"},
			{Instance: "1"},
			{Agent: "x", Instance: "1"},
			{Agent: "z"},
			{Tenant: "other"},
			{Agent: "x", Instance: "3"},
		} {
			if f.Tenant == "" {
				f.Tenant = session.DefaultTenant
			}
			var want []session.Session
			for _, s := range all {
				if s.Key.Tenant == f.Tenant && (f.Agent == "" || s.Key.Agent == f.Agent) &&
					(f.Instance == "" || s.Key.Instance == f.Instance) {
					want = append(want, s)
				}
			}
			f.Limit = 2
			var got []session.Session
			for {
				page, err := db.Second.ListSessions(ctx(t), f)
				ok(t, err)
				if len(page) > 2 {
					t.Fatalf("a page of %d", len(page))
				}
				got = append(got, page...)
				if len(page) == 0 {
					break
				}
				f.BeforeID = page[len(page)-1].ID
			}
			equal(t, "the list", got, want)
		}
	}},
	{"are bound to another executor by hand, and their owner gets mail", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		for _, id := range []string{h.session(), child.SessionID} {
			moveMail(t, db.Store)
			got, err := db.Second.Rebind(ctx(t), session.DefaultTenant, id, "executor of "+id)
			ok(t, err)
			if got.ID != id || got.Executor != "executor of "+id || find(t, db.Store, "a").Executor != got.Executor {
				t.Errorf("bound %+v", got)
			}
			equal(t, "the mail", moveMail(t, db.Store), []lane.Mailed{{LaneID: h.session(), Owner: h.owner(t)}})
		}
		for _, tenant := range []string{"other", session.DefaultTenant} {
			id := h.session()
			if tenant == session.DefaultTenant {
				id = ident.New()
			}
			_, err := db.Store.Rebind(ctx(t), tenant, id, "e")
			refused(t, err, session.ErrNotFound)
		}
		if heir := h.die(t, db.Second); heir.lease.Executor != "executor of "+child.SessionID || heir.lease.Mail != 2 {
			t.Errorf("the lease is %+v", heir.lease)
		}
	}},
	{"have entries, read in pages", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(4))
		for after := range int64(7) {
			for _, limit := range []int{0, 1, 3, 10} {
				got, err := db.Second.Entries(ctx(t), h.session(), after, limit)
				ok(t, err)
				if want := min(limit, max(0, 5-int(after))); len(got) != want {
					t.Fatalf("after %d, at most %d: %d entries, want %d", after, limit, len(got), want)
				}
				for i, e := range got {
					if e.Seq != after+int64(i)+1 {
						t.Errorf("after %d comes %d", after+int64(i), e.Seq)
					}
				}
			}
		}
		if got, err := db.Store.Entries(ctx(t), ident.New(), 0, 10); err != nil || len(got) != 0 {
			t.Errorf("no session has entries: %+v, %v", got, err)
		}
	}},
	{"have summaries, of which the last is found", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		if e, found, err := db.Second.LastSummary(ctx(t), h.session()); found || err != nil {
			t.Errorf("before there is one: %+v, %v", e, err)
		}
		for range 2 {
			h.commit(t, h.step(2))
			s := h.step(1)
			s.Entries[0].Kind = session.Summary
			s.Entries[0].Message.Summary = &model.Summary{From: 1, To: s.Entries[0].Seq - 1, Why: "threshold"}
			h.commit(t, s)
		}
		h.commit(t, h.step(1))
		got, found, err := db.Second.LastSummary(ctx(t), h.session())
		ok(t, err)
		all, err := db.Second.Entries(ctx(t), h.session(), got.Seq-1, 1)
		ok(t, err)
		if !found || got.Kind != session.Summary || got.Seq != 7 || got.Message.Summary.To != 6 {
			t.Errorf("the last summary is %+v", got)
		}
		equal(t, "the summary", got, all[0])
		for at, want := range map[int64]int64{8: 7, 5: 4, 3: 0} {
			made := forked(t, db.Store, h.session(), fmt.Sprint("fork", at), at)
			shared, _, err := db.Second.LastSummary(ctx(t), made.ID)
			ok(t, err)
			if shared.Seq != want {
				t.Errorf("the last summary of a fork at %d is entry %d, want %d", at, shared.Seq, want)
			}
		}
	}},
	{"have submissions, read newest first", func(t *testing.T, db DB) {
		var ids []string
		var id string
		for range 5 {
			sub := queue(t, db.Store, "a")
			ids, id = append(ids, sub.ID), sub.SessionID
		}
		slices.Reverse(ids)
		queue(t, db.Store, "b")
		var got []string
		for before := int64(0); ; {
			page, err := db.Second.ListSubmissions(ctx(t), id, before, 2)
			ok(t, err)
			if len(page) == 0 {
				break
			}
			for _, sub := range page {
				got = append(got, sub.ID)
				equal(t, "the submission", sub, get(t, db.Store, sub.ID))
			}
			if before = page[len(page)-1].Seq; before == 1 {
				break
			}
		}
		equal(t, "the order", got, ids)
		long := admission("long")
		long.Input = input(strings.Repeat("x", submission.MaxListed))
		sub := admit(t, db.Store, long).Submission
		page, err := db.Second.ListSubmissions(ctx(t), sub.SessionID, 0, 2)
		if ok(t, err); len(page) != 1 || page[0].ID != sub.ID || page[0].Input != nil {
			t.Errorf("a long one is listed as %+v", page)
		}
		equal(t, "a long input", get(t, db.Second, sub.ID).Input, long.Input)
		_, err = db.Store.GetSubmission(ctx(t), session.DefaultTenant, ident.New())
		refused(t, err, submission.ErrNotFound)
		_, err = db.Store.GetSubmission(ctx(t), "other", ids[0])
		refused(t, err, submission.ErrNotFound)
	}},
}
