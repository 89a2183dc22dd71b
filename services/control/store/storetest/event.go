package storetest

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
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
					if len(got) != len(want) || len(got) > 0 && (got[0].Seq != want[0].Seq ||
						got[len(got)-1].Seq != want[len(want)-1].Seq) {
						t.Fatalf("after %d, at most %d: got %d events", after, limit, len(got))
					}
				}
			}
		})
		_, err := db.Store.Events(ctx(t), ident.New(), 0, 10)
		refused(t, err, session.ErrNotFound)
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
					c := h.step(n % 3).commit()
					if _, err := db.Store.Commit(ctx(t), c); err != nil {
						return err
					}
					h.wrote(c)
				}
				c := h.step(0)
				c.Events[0].Type = event.Settled
				_, err := db.Store.Commit(ctx(t), c.commit())
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
	{"that are too old are deleted, and cursors below them are refused", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(5))
		quiet := start(t, db.Store, "b", live(t, db.Store))
		db.Advance(time.Hour)
		h.commit(t, h.step(4))
		db.Advance(time.Minute)
		before := read(t, db.Store, h.session())
		if n := deleteAll(t, db.Store, retention.Events, 2*time.Hour, 100); n != 0 {
			t.Errorf("%d segments expired early", n)
		}
		if n := deleteAll(t, db.Second, retention.Events, 30*time.Minute, 100); n != 3 {
			t.Errorf("%d segments expired, want 3", n)
		}
		if n := deleteAll(t, db.Store, retention.Events, 30*time.Minute, 100); n != 0 {
			t.Errorf("%d segments expired again", n)
		}
		twice(t, db, func(t *testing.T, s store.Store) {
			for after := range int64(6) {
				_, err := s.Events(ctx(t), h.session(), after, 10)
				refused(t, err, event.ErrCursorTooOld)
				if floor, ok := event.FloorOf(err); !ok || floor != 6 {
					t.Errorf("after %d: told to go on after %d: %v", after, floor, err)
				}
			}
			got, err := s.Events(ctx(t), h.session(), 6, 10)
			ok(t, err)
			equal(t, "what is left", got, before.Events[6:])
			_, err = s.Events(ctx(t), quiet.session(), 0, 10)
			refused(t, err, event.ErrCursorTooOld)
			if got, err := s.Events(ctx(t), quiet.session(), 1, 10); err != nil || len(got) != 0 {
				t.Errorf("the emptied stream has %v, %v", got, err)
			}
			entries, err := s.Entries(ctx(t), h.session(), 0, 100)
			ok(t, err)
			equal(t, "the entries", entries, before.Entries)
		})
		h.commit(t, h.step(2)) // its stream goes on
		quiet.commit(t, quiet.end(false))
		got, err := db.Second.Events(ctx(t), quiet.session(), 1, 10)
		ok(t, err)
		if len(got) != 1 || got[0].Seq != 2 {
			t.Errorf("the emptied stream goes on with %v", got)
		}
	}},
	{"expire in batches, oldest first", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for range 10 {
			db.Advance(time.Minute)
			h.commit(t, h.step(1))
		}
		db.Advance(time.Hour)
		for floor := int64(3); floor < 12; floor += 3 {
			b, err := db.Store.DeleteBatch(ctx(t), retention.Events, 0, 3)
			ok(t, err)
			if b.Deleted != 3 || !b.More {
				t.Fatalf("%+v, want 3 segments", b)
			}
			_, err = db.Second.Events(ctx(t), h.session(), floor-1, 10)
			refused(t, err, event.ErrCursorTooOld)
			got, err := db.Second.Events(ctx(t), h.session(), floor, 1)
			ok(t, err)
			if len(got) != 1 || got[0].Seq != floor+1 {
				t.Fatalf("after %d comes %v", floor, got)
			}
		}
	}},
	{"of covered deltas are compacted, and readers pass over the holes", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store)) // 1
		deltas := func(n int) { h.commit(t, h.deltas(n, event.Text)) }
		deltas(3)                                  // 2 to 4
		h.commit(t, h.deltas(2, event.ToolOutput)) // 5, 6
		h.commit(t, h.deltas(1, event.Restarted))  // 7
		deltas(2)                                  // 8, 9
		h.commit(t, h.answer(1))                   // 10
		deltas(1)                                  // 11: of an answer that never came
		h.commit(t, h.bound())                     // 12
		deltas(4)                                  // 13 to 16: nobody knows yet
		all, err := db.Store.Events(ctx(t), h.session(), 0, 100)
		ok(t, err)
		if n := deleteAll(t, db.Store, retention.Deltas, time.Hour, 100); n != 0 {
			t.Errorf("%d segments compacted early", n)
		}
		db.Advance(2 * time.Hour)
		deleted := 0
		for deleted == 0 { // the first batch that finds one
			b, err := db.Store.DeleteBatch(ctx(t), retention.Deltas, time.Hour, 1)
			ok(t, err)
			if deleted += b.Deleted; deleted > 1 || !b.More {
				t.Fatalf("%+v, want 1 segment and more to come", b)
			}
		}
		if n := deleteAll(t, db.Second, retention.Deltas, time.Hour, 100); n != 2 {
			t.Errorf("%d segments compacted, want 2", n)
		}
		if n := deleteAll(t, db.Store, retention.Deltas, time.Hour, 100); n != 0 {
			t.Errorf("%d segments compacted again", n)
		}
		var left []event.Event
		for _, e := range all {
			if e.Seq == 1 || e.Seq == 7 || e.Seq >= 10 {
				left = append(left, e)
			}
		}
		twice(t, db, func(t *testing.T, s store.Store) {
			for after := range int64(18) {
				for _, limit := range []int{1, 2, 3, 100} {
					var got []event.Event
					for seen := after; ; {
						page, err := s.Events(ctx(t), h.session(), seen, limit)
						ok(t, err)
						if len(page) == 0 {
							break
						}
						if len(page) > limit {
							t.Fatalf("%d events, at most %d were wanted", len(page), limit)
						}
						got, seen = append(got, page...), page[len(page)-1].Seq
					}
					want := left
					for len(want) > 0 && want[0].Seq <= after {
						want = want[1:]
					}
					if len(got) != len(want) {
						t.Fatalf("after %d, %d at a time: %d events, want %d", after, limit, len(got), len(want))
					}
					for i := range got {
						equal(t, "an event", got[i], want[i])
					}
				}
			}
		})
	}},
	{"come in pages of a bounded size, and singly when they are larger", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		for range 5 {
			c := h.deltas(1, event.Text)
			c.Events[0].Text = strings.Repeat("x", 200<<10)
			h.commit(t, c)
		}
		c := h.deltas(1, event.Text)
		c.Events[0].Text = strings.Repeat("x", 6<<20)
		h.commit(t, c)
		for after := int64(0); after < 7; {
			page, err := db.Second.Events(ctx(t), h.session(), after, 100)
			ok(t, err)
			if len(page) == 0 || len(page) > 3 || page[0].Seq != after+1 {
				t.Fatalf("after %d come %d events", after, len(page))
			}
			after = page[len(page)-1].Seq
		}
	}},
	{"are thinned out under a live writer and readers", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		const commits = 120
		var done atomic.Bool
		answers := map[int64]bool{} // by seq
		for n, seq := 0, int64(1); n < commits; n++ {
			if n%4 == 3 {
				seq++
				answers[seq] = true
			} else {
				seq += int64(1 + n%3)
			}
		}
		together(t, 6, func(i int) error {
			switch i {
			case 0:
				defer done.Store(true)
				for n := range commits {
					c := h.deltas(1+n%3, event.Text)
					if n%4 == 3 {
						c = h.answer(1)
					}
					h.commit(t, c)
					db.Advance(time.Minute)
				}
				c := h.step(0)
				c.Events[0].Type = event.Settled
				h.commit(t, c)
				return nil
			case 1, 2:
				for !done.Load() {
					if _, err := either(db, i).DeleteBatch(ctx(t), retention.Deltas, 5*time.Minute, 2); err != nil {
						return err
					}
					if _, err := either(db, i).DeleteBatch(ctx(t), retention.Events, 20*time.Minute, 2); err != nil {
						return err
					}
				}
				return nil
			}
			for seen := int64(0); ; {
				page, err := either(db, i).Events(ctx(t), h.session(), seen, 4)
				if at, old := event.FloorOf(err); old {
					if at <= seen {
						return fmt.Errorf("refused at %d, and told to continue after %d", seen, at)
					}
					seen = at
					continue
				}
				if err != nil {
					return err
				}
				for _, e := range page {
					if e.Seq <= seen {
						return fmt.Errorf("after %d comes %d", seen, e.Seq)
					}
					for missed := seen + 1; missed < e.Seq; missed++ {
						if answers[missed] {
							return fmt.Errorf("after %d comes %d: answer %d is missing", seen, e.Seq, missed)
						}
					}
					seen = e.Seq
					if e.Type == event.Settled {
						return nil
					}
				}
			}
		})
	}},
}

// deltas is a commit of n events of one type and no entry.
func (h *holder) deltas(n int, kind event.Type) *draft {
	c := h.step(n)
	c.Entries = nil
	for i := range c.Events {
		c.Events[i].Type = kind
		if kind == event.ToolOutput {
			c.Events[i].Text, c.Events[i].Call = "", &event.Call{ID: "c"}
			c.Events[i].Output = &event.Output{Data: []byte("x")}
		}
	}
	return c
}

// answer is a commit of n entries and the events that tell of them.
func (h *holder) answer(n int) *draft {
	c := h.step(n)
	for i := range c.Events {
		c.Events[i].Type, c.Events[i].EntrySeq = event.EntryAdded, c.Entries[i].Seq
	}
	return c
}

// bound is a commit that says that a submission has settled, and has no entry.
func (h *holder) bound() *draft {
	c := h.step(0)
	c.Events[0].Type, c.Events[0].Settlement = event.Settled, &event.Settlement{Outcome: "aborted"}
	return c
}
