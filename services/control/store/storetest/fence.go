package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store"
)

// losses are the ways to lose a lane. Each takes the holder's lane away and may leave it with somebody else.
var losses = map[string]func(t *testing.T, db DB, h *holder){
	"taken over": func(t *testing.T, db DB, h *holder) { h.die(t, db.Second) },
	"released":   func(t *testing.T, _ DB, h *holder) { h.release(t, lane.Release{}) },
	"released after an error": func(t *testing.T, _ DB, h *holder) {
		h.release(t, lane.Release{Stalled: h.id(), Pause: time.Hour})
	},
	"released and claimed": func(t *testing.T, db DB, h *holder) {
		h.release(t, lane.Release{})
		claimOne(t, db.Second, live(t, db.Second))
	},
	"released and claimed by itself": func(t *testing.T, db DB, h *holder) {
		owner := h.owner(t)
		h.release(t, lane.Release{})
		claimOne(t, db.Second, owner)
	},
	"parked": func(t *testing.T, db DB, h *holder) {
		_, err := db.Second.Commit(ctx(t), h.park(time.Hour).commit())
		ok(t, err)
	},
	"parked, woken and claimed": func(t *testing.T, db DB, h *holder) {
		_, err := db.Second.Commit(ctx(t), h.park(lane.Never).commit())
		ok(t, err)
		mail(t, db.Second, h.session())
		claimOne(t, db.Second, live(t, db.Second))
	},
	"raised": func(t *testing.T, db DB, h *holder) {
		_, err := db.Second.Raise(ctx(t), h.lease.Fence, 7)
		ok(t, err)
	},
	"ended from rows": func(t *testing.T, db DB, h *holder) {
		_, err := db.Second.End(ctx(t), h.lease.Fence, lane.Interrupted, "R", "m")
		ok(t, err)
	},
	"forced": func(t *testing.T, db DB, h *holder) {
		abort(t, db.Second, h.id())
		db.Advance(lane.ForceGrace + time.Second)
		if got := force(t, db.Second); len(got) != 1 {
			t.Fatalf("forced %+v", got)
		}
	},
	"settled": func(t *testing.T, db DB, h *holder) {
		_, err := db.Second.Commit(ctx(t), h.end(false).commit())
		ok(t, err)
	},
	"settled and started again": func(t *testing.T, db DB, h *holder) {
		owner := h.owner(t)
		_, err := db.Second.Commit(ctx(t), h.end(false).commit())
		ok(t, err)
		start(t, db.Second, "a", owner)
	},
	"settled and continued": func(t *testing.T, db DB, h *holder) {
		queue(t, db.Second, "a")
		out, err := db.Second.Commit(ctx(t), h.end(true).commit())
		ok(t, err)
		if out.Next == nil {
			t.Fatalf("no next lease")
		}
	},
	"never held: an older epoch": func(_ *testing.T, _ DB, h *holder) { h.lease.Fence.Epoch-- },
	"never held: a newer epoch":  func(_ *testing.T, _ DB, h *holder) { h.lease.Fence.Epoch++ },
	"never held: another lane": func(t *testing.T, db DB, h *holder) {
		queue(t, db.Second, "b")
		h.lease.Fence.LaneID = find(t, db.Second, "b").ID
	},
	"never held: no such lane": func(_ *testing.T, _ DB, h *holder) { h.lease.Fence.LaneID = ident.New() },
}

// ownerWrites are all writes that only the owner may make. open is a call of the lane that is dispatched.
var ownerWrites = map[string]func(s store.Store, h *holder, open call.Call) error{
	"release": func(s store.Store, h *holder, _ call.Call) error {
		return s.Release(context.Background(), h.lease.Fence, lane.Release{})
	},
	"release after an error": func(s store.Store, h *holder, _ call.Call) error {
		return s.Release(context.Background(), h.lease.Fence, lane.Release{Stalled: h.id(), Cause: "zombie", Pause: 1})
	},
	"end": func(s store.Store, h *holder, _ call.Call) error {
		_, err := s.End(context.Background(), h.lease.Fence, lane.Interrupted, "zombie", "")
		return err
	},
	"raise": func(s store.Store, h *holder, _ call.Call) error {
		_, err := s.Raise(context.Background(), h.lease.Fence, h.lease.Fence.Epoch+3)
		return err
	},
	"event": committing(func(*draft, *holder, call.Call) {}),
	"entry": committing(func(c *draft, h *holder, _ call.Call) { c.Entries = h.step(1).Entries }),
	"call": committing(func(c *draft, h *holder, _ call.Call) {
		c.Calls = append(c.Calls, newCall(h, 1, 1))
	}),
	"dispatch": committing(func(c *draft, _ *holder, open call.Call) {
		c.Dispatches = append(c.Dispatches, call.Dispatch{CallID: open.ID, Executor: "zombie", Dispatch: 9})
	}),
	"outcome": committing(func(c *draft, _ *holder, open call.Call) {
		c.Outcomes = append(c.Outcomes, call.Outcome{CallID: open.ID, State: call.Cancelled})
	}),
	"lost": committing(func(c *draft, _ *holder, open call.Call) {
		c.Outcomes = append(c.Outcomes, call.Outcome{CallID: open.ID, State: call.Lost})
	}),
	"shown": committing(func(c *draft, _ *holder, open call.Call) {
		c.Shown = append(c.Shown, call.Shown{CallID: open.ID, Stdout: 99})
	}),
	"forget": committing(func(c *draft, _ *holder, _ call.Call) { c.ForgetReplies = true }),
	"progress": committing(func(c *draft, _ *holder, _ call.Call) {
		c.Progress = &lane.Progress{Phase: 2, Turn: 3}
	}),
	"begin": committing(func(c *draft, h *holder, _ call.Call) {
		merge(c, h.child(h.root()))
	}),
	"executor": committing(func(c *draft, _ *holder, _ call.Call) { c.lane.Executor = "zombie" }),
	"park": committing(func(c *draft, h *holder, _ call.Call) {
		c.lane.Park = &lane.Park{Mail: h.lease.Mail, For: lane.Never}
	}),
	"settle": committing(func(c *draft, _ *holder, _ call.Call) {
		c.End = &lane.Settlement{Outcome: lane.Failed}
	}),
	"settle and continue": committing(func(c *draft, _ *holder, _ call.Call) {
		c.End, c.lane.Continue = &lane.Settlement{Outcome: lane.Failed}, true
	}),
}

// committing is a commit of one event and what change adds.
func committing(change func(*draft, *holder, call.Call)) func(store.Store, *holder, call.Call) error {
	return func(s store.Store, h *holder, open call.Call) error {
		c := h.step(0)
		c.Events[0].Text = "zombie"
		change(c, h, open)
		_, err := s.Commit(context.Background(), c.commit())
		return err
	}
}

// fenceCases tries every write after every loss.
func fenceCases() (cases []testCase) {
	for lost, lose := range losses {
		cases = append(cases, testCase{lost, func(t *testing.T, db DB) {
			h := start(t, db.Store, "a", live(t, db.Store))
			c := h.step(1)
			open, done := newCall(h, 1, 0), newCall(h, 1, 2)
			open.State, open.Executor, open.Dispatch = call.Dispatched, "executor", 1
			c.Calls = append(c.Calls, open, done)
			h.commit(t, c)
			_, err := db.Store.CompleteCall(ctx(t), call.Outcome{
				CallID: done.ID, State: call.Done, Reply: []byte(`"r"`),
			})
			ok(t, err)
			id := h.session()
			lose(t, db, h)
			before := read(t, db.Store, id)
			for name, write := range ownerWrites {
				for _, guess := range []bool{false, true} { // what it last knew, then with the heads of the new owner
					zombie := hold(h.s, h.lease)
					if guess {
						zombie.root().EntryHead, zombie.lease.EventHead = before.Session.EntryHead, before.Session.EventHead
					}
					owner := lost == "settled and continued" // the epoch is its own: it owns the next submission
					if owner && (guess || name == "end" || name == "raise" || strings.HasPrefix(name, "release")) {
						continue
					}
					if err := write(db.Store, zombie, open); !errors.Is(err, lane.ErrFenced) {
						t.Errorf("%s: error = %v", name, err)
					}
					equal(t, name+": the session", read(t, db.Store, id), before)
				}
			}
			consistent(t, db.Store, id)
		}})
	}
	return cases
}
