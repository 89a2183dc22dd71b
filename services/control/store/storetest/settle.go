package storetest

import (
	"encoding/json"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var settleCases = []testCase{
	{"records the settlement and idles the lane", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		c := h.step(1)
		c.End = &lane.Settlement{
			Outcome: lane.Failed, Reason: "REASON", Message: "message", Model: "p/m", Usage: someUsage, ResultEntry: 2,
			Data: json.RawMessage(`{"a":"\u0000"}`), Cancellation: &call.Cancellation{Unconfirmed: []call.Unconfirmed{{
				CallID: "c", Tool: "bash", Executor: "x", Reason: call.ExecutorAway, Message: "a\x00b",
			}}},
		}
		want := get(t, db.Second, h.id())
		equal(t, "the answer", h.commit(t, c), lane.Committed{Ends: lane.Ends{In: lane.Never}})
		got := get(t, db.Second, want.ID)
		want.Status, want.Outcome, want.Reason, want.Message = submission.SettledStatus, lane.Failed, "REASON", "message"
		want.Model, want.Usage, want.ResultEntry, want.EntryHead, want.SettledAt = "p/m", someUsage, 2, 2, got.SettledAt
		want.Cancellation, want.Data = c.End.Cancellation, c.End.Data
		equal(t, "the submission", got, want)
		if got.SettledAt.Before(got.StartedAt) {
			t.Errorf("settled at %v, started at %v", got.SettledAt, got.StartedAt)
		}
		if c := consistent(t, db.Store, h.session()); c.Owner != "" || c.Session.Pending != 0 {
			t.Errorf("the lane is not idle: %+v", c)
		}
	}},
	{"hands the lane back when others wait", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "a", owner)
		next := queue(t, db.Store, "a")
		if out := h.commit(t, h.end(false)); !out.Ready || out.Next != nil {
			t.Errorf("answered %+v, want ready", out)
		}
		if c := consistent(t, db.Store, h.session()); c.Owner != "" {
			t.Errorf("the lane still has owner %q", c.Owner)
		}
		got := claimOne(t, db.Second, owner)
		if got.id() != next.ID || got.lease.Fence.Epoch != 2 || got.root().EntryHead != 2 || got.lease.EventHead != 2 {
			t.Errorf("claimed %+v", got.lease)
		}
	}},
	{"continues with the next one in the same epoch", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		aborted := queue(t, db.Store, "a")
		a := admission("a")
		a.Timeout = time.Minute
		next := admit(t, db.Store, a).Submission
		_, err := db.Store.RequestAbort(ctx(t), "default", aborted.ID)
		ok(t, err)
		db.Advance(time.Hour)
		c := h.end(true)
		c.lane.Executor = "executor"
		out := h.commit(t, c)
		if out.Next == nil || out.Ready {
			t.Fatalf("answered %+v, want the next lease", out)
		}
		next.Status, next.StartedAt, next.EntryHead = submission.Running, out.Next.Root().StartedAt, 2
		equal(t, "the lease", *out.Next, lane.Lease{
			Fence: h.lease.Fence, Kind: lane.KindSession, Loops: []lane.Loop{next.Loop}, EventHead: 2, Executor: "executor",
			Ends: lane.Ends{In: time.Minute, Why: lane.Deadline},
		})
		if next.StartedAt.Sub(next.AcceptedAt) < time.Hour {
			t.Errorf("started at %v, accepted at %v", next.StartedAt, next.AcceptedAt)
		}
		equal(t, "the submission", get(t, db.Second, next.ID), next)
		consistent(t, db.Store, h.session())
		h = hold(db.Store, *out.Next)
		if out := h.commit(t, h.end(true)); out.Next != nil || out.Ready {
			t.Errorf("nothing waits and the answer is %+v", out)
		}
		if c := consistent(t, db.Store, h.session()); c.Owner != "" || c.Session.Pending != 0 {
			t.Errorf("the lane is not idle: %+v", c.Session)
		}
	}},
	{"happens once", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		const n = 8
		var won atomic.Int32
		together(t, n, func(i int) error {
			c := h.step(1)
			c.Events[0].Text = string(rune('a' + i)) // no two are retries of one
			c.End = &lane.Settlement{Outcome: lane.Failed, Message: c.Events[0].Text}
			if _, err := either(db, i).Commit(ctx(t), c.commit()); err == nil {
				won.Add(1)
			}
			return nil
		})
		if won.Load() != 1 {
			t.Errorf("%d of %d settled", won.Load(), n)
		}
		c := consistent(t, db.Store, h.session())
		if c.Submissions[0].Message != c.Events[1].Text {
			t.Errorf("the submission and its event come from different commits")
		}
	}},
	{"leaves no pending work on an idle lane, whatever comes between", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		const rounds = 8
		h := start(t, db.Store, "a", owner)
		for i := range rounds {
			together(t, 3, func(j int) error {
				switch j {
				case 0:
					_, err := db.Store.Commit(ctx(t), h.end(i%2 == 0).commit())
					return err
				case 1:
					a := admission("a")
					a.Owner = owner
					_, err := db.Second.Admit(ctx(t), a)
					return err
				default:
					_, err := db.Store.Admit(ctx(t), admission("a"))
					return err
				}
			})
			c := consistent(t, db.Store, h.session())
			for c.Session.Pending > 0 { // every one is reachable
				if c.Owner == "" {
					h = claimOne(t, db.Store, owner)
				} else {
					h = hold(db.Store, takeOver(t, db.Second, live(t, db.Second), owner)[0])
				}
				h.commit(t, h.end(false))
				c = consistent(t, db.Store, h.session())
			}
			h = start(t, db.Store, "a", owner)
		}
	}},
	{"is told of many at once", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		settled := h.id()
		h.commit(t, h.end(false))
		aborted := queue(t, db.Store, "b").ID
		_, err := db.Store.RequestAbort(ctx(t), session.DefaultTenant, aborted)
		ok(t, err)
		queued := queue(t, db.Store, "c").ID
		runs := start(t, db.Store, "d", live(t, db.Store)).id()
		got, err := db.Second.Settled(ctx(t), []string{queued, aborted, ident.New(), settled, runs, "no id"})
		ok(t, err)
		slices.Sort(got)
		want := []string{settled, aborted}
		slices.Sort(want)
		equal(t, "the settled ones", got, want)
	}},
}
