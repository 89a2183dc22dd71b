package storetest

import (
	"context"
	"strings"
	"testing"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// losses are the ways to lose a lane. Each takes the holder's lane away and may leave it with somebody else.
var losses = map[string]func(t *testing.T, s store.Store, h *holder){
	"taken over": func(t *testing.T, s store.Store, h *holder) {
		ok(t, s.RemoveReplica(ctx(t), h.owner(t)))
		if n := len(takeOver(t, s, live(t, s))); n != 1 {
			t.Fatalf("took over %d lanes", n)
		}
	},
	"released": func(t *testing.T, s store.Store, h *holder) { ok(t, s.Release(ctx(t), h.lease.Fence)) },
	"released and claimed": func(t *testing.T, s store.Store, h *holder) {
		ok(t, s.Release(ctx(t), h.lease.Fence))
		claimOne(t, s, live(t, s))
	},
	"released and claimed by itself": func(t *testing.T, s store.Store, h *holder) {
		owner := h.owner(t)
		ok(t, s.Release(ctx(t), h.lease.Fence))
		claimOne(t, s, owner)
	},
	"settled": func(t *testing.T, s store.Store, h *holder) {
		_, err := s.Commit(ctx(t), h.end(false))
		ok(t, err)
	},
	"settled and started again": func(t *testing.T, s store.Store, h *holder) {
		owner := h.owner(t)
		_, err := s.Commit(ctx(t), h.end(false))
		ok(t, err)
		start(t, s, "a", owner)
	},
	"settled and continued": func(t *testing.T, s store.Store, h *holder) {
		queue(t, s, "a")
		out, err := s.Commit(ctx(t), h.end(true))
		ok(t, err)
		if out.Next == nil {
			t.Fatalf("no next lease")
		}
	},
	"never held: an older epoch": func(_ *testing.T, _ store.Store, h *holder) { h.lease.Fence.Epoch-- },
	"never held: a newer epoch":  func(_ *testing.T, _ store.Store, h *holder) { h.lease.Fence.Epoch++ },
	"never held: another session": func(t *testing.T, s store.Store, h *holder) {
		queue(t, s, "b")
		h.lease.Fence.SessionID = find(t, s, "b").ID
	},
	"never held: no such session": func(_ *testing.T, _ store.Store,
		h *holder,
	) {
		h.lease.Fence.SessionID = ident.New()
	},
}

func (h *holder) owner(t tester) string {
	r, found, err := h.s.OwnerOf(ctx(t), h.session())
	ok(t, err)
	if !found {
		t.Fatalf("the lane has no owner")
	}
	return r.ID
}

// ownerWrites are all writes that only the owner may make. open is a call of the session that is dispatched.
var ownerWrites = map[string]func(s store.Store, h *holder, open call.Call) error{
	"release": func(s store.Store, h *holder, _ call.Call) error {
		return s.Release(context.Background(), h.lease.Fence)
	},
	"release stalled": func(s store.Store, h *holder, _ call.Call) error {
		return s.ReleaseStalled(context.Background(), h.lease.Fence)
	},
	"event": committing(func(*submission.Commit, *holder, call.Call) {}),
	"entry": committing(func(c *submission.Commit, h *holder, _ call.Call) { c.Entries = h.step(1).Entries }),
	"call": committing(func(c *submission.Commit, h *holder, _ call.Call) {
		c.Calls = append(c.Calls, newCall(h, 1, 1))
	}),
	"dispatch": committing(func(c *submission.Commit, _ *holder, open call.Call) {
		c.Dispatches = append(c.Dispatches, call.Dispatch{CallID: open.ID, Executor: "zombie", Dispatch: 9})
	}),
	"outcome": committing(func(c *submission.Commit, _ *holder, open call.Call) {
		c.Outcomes = append(c.Outcomes, call.Outcome{CallID: open.ID, State: call.Cancelled})
	}),
	"lost": committing(func(c *submission.Commit, _ *holder, open call.Call) {
		c.Outcomes = append(c.Outcomes, call.Outcome{CallID: open.ID, State: call.Lost})
	}),
	"forget": committing(func(c *submission.Commit, _ *holder, _ call.Call) { c.ForgetReplies = true }),
	"progress": committing(func(c *submission.Commit, _ *holder, _ call.Call) {
		c.Progress = &submission.Progress{Phase: 2, Turn: 3}
	}),
	"executor": committing(func(c *submission.Commit, _ *holder, _ call.Call) { c.Executor = "zombie" }),
	"settle": committing(func(c *submission.Commit, _ *holder, _ call.Call) {
		c.Settle = &submission.Settlement{Outcome: submission.Failed}
	}),
	"settle and continue": committing(func(c *submission.Commit, _ *holder, _ call.Call) {
		c.Settle = &submission.Settlement{Outcome: submission.Failed, Continue: true}
	}),
}

// committing is a commit of one event and what change adds.
func committing(change func(*submission.Commit, *holder, call.Call)) func(store.Store, *holder, call.Call) error {
	return func(s store.Store, h *holder, open call.Call) error {
		c := h.step(0)
		c.Events[0].Text = "zombie"
		change(&c, h, open)
		_, err := s.Commit(context.Background(), c)
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
				CallID: done.ID, State: call.Done,
				Reply: []byte(`"r"`),
			})
			ok(t, err)
			id := h.session()
			lose(t, db.Second, h)
			before := read(t, db.Store, id)
			for name, write := range ownerWrites {
				for _, guess := range []bool{false, true} { // what it last knew, then with the heads of the new owner
					zombie := *h
					if guess {
						zombie.lease.EntryHead, zombie.lease.EventHead = before.Session.EntryHead, before.Session.EventHead
					}
					if lost == "settled and continued" && guess {
						continue // the epoch is its own: it owns the next submission
					}
					if lost == "settled and continued" && strings.HasPrefix(name, "release") {
						continue
					}
					refused(t, write(db.Store, &zombie, open), submission.ErrFenced)
					equal(t, name+": the session", read(t, db.Store, id), before)
				}
			}
			consistent(t, db.Store, id)
		}})
	}
	return cases
}
