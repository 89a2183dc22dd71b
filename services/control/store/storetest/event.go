package storetest

import (
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/store"
)

var eventCases = []testCase{
	{"are read from any position, in pages", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for _, n := range []int{1, 5, 1, 12, 3} {
			h.commit(t, h.step(n))
		}
		other := start(t, db.Store, "b", live(t, db.Store))
		other.commit(t, other.step(4))
		twice(t, db, func(t *testing.T, s store.Store) {
			all, err := s.Events(ctx(t), h.session(), 0, 1000)
			ok(t, err)
			if len(all) != 23 {
				t.Fatalf("%d events, want 23", len(all))
			}
			for after := range len(all) + 2 {
				for _, limit := range []int{0, 1, 2, 7, 100} {
					got, err := s.Events(ctx(t), h.session(), int64(after), limit)
					ok(t, err)
					from := min(after, len(all))
					want := all[from:min(from+limit, len(all))]
					if len(got) != len(want) || len(got) > 0 && (got[0].Seq != want[0].Seq || got[len(got)-1].Seq != want[len(want)-1].Seq) {
						t.Fatalf("after %d, at most %d: got %d events", after, limit, len(got))
					}
				}
			}
		})
		if got, err := db.Store.Events(ctx(t), ident.New(), 0, 10); err != nil || len(got) != 0 {
			t.Errorf("no session has events: %+v, %v", got, err)
		}
	}},
	{"have heads", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(6))
		quiet := queue(t, db.Store, "b").SessionID
		unknown := ident.New()
		got, err := db.Second.EventHeads(ctx(t), []string{h.session(), quiet, unknown})
		ok(t, err)
		if got[h.session()] != 7 || got[quiet] != 0 || got[unknown] != 0 {
			t.Errorf("the heads are %v", got)
		}
		if got, err = db.Second.EventHeads(ctx(t), nil); err != nil || len(got) != 0 {
			t.Errorf("the heads of nothing are %v, %v", got, err)
		}
	}},
	{"show readers one growing prefix", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		const commits = 40
		together(t, 4, func(i int) error {
			if i == 0 {
				for n := range commits {
					if _, err := db.Store.Commit(ctx(t), h.step(n%3)); err != nil {
						return err
					}
					h.lease.EntryHead += int64(n % 3)
					h.lease.EventHead += int64(max(n%3, 1))
				}
				c := h.step(0)
				c.Events[0].Type = event.Settled
				_, err := db.Store.Commit(ctx(t), c)
				return err
			}
			for seen := int64(0); ; {
				page, err := either(db, i).Events(ctx(t), h.session(), seen, 5)
				if err != nil {
					return err
				}
				for _, e := range page {
					if seen++; e.Seq != seen {
						t.Errorf("after %d comes %d", seen-1, e.Seq)
						return nil
					}
					if e.Type == event.Settled {
						return nil
					}
				}
			}
		})
	}},
}
