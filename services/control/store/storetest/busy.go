package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// sent admits to a session that may be busy.
func sent(t tester, s store.Store, name string, w submission.WhenBusy) submission.Submission {
	t.Helper()
	a := admission(name)
	a.WhenBusy = w
	return admit(t, s, a).Submission
}

// joins is a step in which submissions join the head.
func (h *holder) joins(subs ...submission.Submission) *draft {
	d := h.step(len(subs))
	for i, sub := range subs {
		d.Entries[i].Kind, d.Entries[i].SubmissionID = session.Input, sub.ID
		d.Joins = append(d.Joins, lane.Join{SubmissionID: sub.ID, InputEntry: d.Entries[i].Seq})
	}
	return d
}

// toTurn moves the head on to a turn: nothing joins before the second.
func (h *holder) toTurn(t tester, turn int) {
	t.Helper()
	d := h.step(1)
	d.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: turn}
	h.commit(t, d)
}

func steersOf(t tester, s store.Store, id string) (ids []string) {
	t.Helper()
	found, err := s.Steers(ctx(t), id, 0, 10)
	ok(t, err)
	for _, one := range found {
		ids = append(ids, one.ID)
	}
	return ids
}

func did(t tester, what string, sub submission.Submission, w submission.WhenBusy, host string) {
	t.Helper()
	if sub.WhenBusy != w || sub.Host != host {
		t.Errorf("%s: did %d to %q, want %d to %q", what, sub.WhenBusy, sub.Host, w, host)
	}
}

// steered is a running head with a submission that has joined it, and one that is queued behind.
func steered(t tester, db DB) (h *holder, steer, queued submission.Submission) {
	t.Helper()
	h = start(t, db.Store, "a", live(t, db.Store))
	queued = queue(t, db.Second, "a")
	steer = sent(t, db.Second, "a", submission.Steer)
	h.toTurn(t, 2)
	h.commit(t, h.joins(steer))
	return h, steer, queued
}

// settledLike checks that what has joined a head has settled as that.
func settledLike(t tester, s store.Store, steer, host string) {
	t.Helper()
	got, of := get(t, s, steer), get(t, s, host)
	if got.Status != submission.SettledStatus || got.Outcome != of.Outcome || got.Reason != of.Reason ||
		got.ResultEntry != of.ResultEntry || !got.SettledAt.Equal(of.SettledAt) || got.Host != host {
		t.Errorf("what has joined is %+v, the host %+v", got, of)
	}
}

// interrupted is a lane whose head was interrupted n times over, before it had settled each time.
func interrupted(t tester, db DB, h *holder, name string, n int) *holder {
	t.Helper()
	for i := range n {
		next := sent(t, db.Second, name, submission.Interrupt)
		if i%3 == 2 {
			_, err := db.Second.End(ctx(t), h.lease.Fence, lane.Aborted, "R", "m")
			ok(t, err)
			h = claimOne(t, db.Store, live(t, db.Store))
		} else {
			done := h.commit(t, h.end(true))
			if done.Next == nil {
				t.Fatalf("nothing is next")
			}
			h = hold(db.Store, *done.Next)
		}
		if h.id() != next.ID {
			t.Fatalf("%s is next, want %s", h.id(), next.ID)
		}
	}
	return h
}

// queueFrom fails where a lane is looked through from before a submission.
func queueFrom(t tester, db DB, id string, seq int64) {
	t.Helper()
	none(db, fmt.Sprintf(`FROM lanes WHERE lane_id = '%s' AND first_open < %d`, id, seq))
}

var busyCases = []testCase{
	{"a session that is interrupted all the time knows where its queue begins", func(t *testing.T, db DB) {
		h := interrupted(t, db, start(t, db.Store, "a", live(t, db.Store)), "a", 12)
		sent(t, db.Store, "a", submission.Interrupt) // which looks for the head
		queueFrom(t, db, h.session(), 12)
		consistent(t, db.Store, h.session())

		h = start(t, db.Store, "b", live(t, db.Store))
		waits := queue(t, db.Second, "b")
		h = interrupted(t, db, h, "b", 12)
		last := queue(t, db.Second, "b")
		done := h.commit(t, h.end(true))
		if h = hold(db.Store, *done.Next); h.id() != waits.ID {
			t.Fatalf("%s is next, want what has waited all the time", h.id())
		}
		done = h.commit(t, h.end(true))
		if h = hold(db.Store, *done.Next); h.id() != last.ID {
			t.Fatalf("%s is next, want the last one", h.id())
		}
		queueFrom(t, db, h.session(), last.Seq)
		consistent(t, db.Store, h.session())
		h.commit(t, h.end(false))
		h = hold(db.Store, *admit(t, db.Store, func() submission.Admission {
			a := admission("b")
			a.Owner = live(t, db.Store)
			return a
		}()).Lease)
		h.commit(t, h.end(false))
		consistent(t, db.Store, h.session())
	}},
	{"what comes to an idle session is queued, whatever it wants", func(t *testing.T, db DB) {
		for name, w := range map[string]submission.WhenBusy{"a": submission.Steer, "b": submission.Interrupt} {
			a := admission(name)
			a.WhenBusy, a.Owner = w, live(t, db.Store)
			out := admit(t, db.Store, a)
			did(t, "the answer", out.Submission, submission.Queue, "")
			did(t, "the row", get(t, db.Second, a.ID), submission.Queue, "")
			if out.Lease == nil {
				t.Error("it did not take the lane")
			}
			did(t, "without an owner", sent(t, db.Store, name+name, w), submission.Queue, "")
		}
	}},
	{"a steer is told whom it joins, joins it, and settles with it", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		queued := queue(t, db.Second, "a")
		a := keyed("a", "key")
		a.WhenBusy = submission.Steer
		before := h.lease.Mail
		steer := admit(t, db.Second, a).Submission
		did(t, "the answer", steer, submission.Steer, h.id())
		if steer.Status != submission.Queued {
			t.Errorf("it is %d", steer.Status)
		}
		equal(t, "what waits to join", steersOf(t, db.Store, h.id()), []string{steer.ID})
		h.toTurn(t, 2)
		out := h.commit(t, h.joins(steer))
		if out.Mail != before+1 {
			t.Errorf("the mail is %d, was %d", out.Mail, before)
		}
		equal(t, "what waits to join then", steersOf(t, db.Store, h.id()), []string(nil))
		got := get(t, db.Second, steer.ID)
		if got.Status != submission.Joined || got.InputEntry != 3 || got.Input != nil || got.StartedAt.IsZero() {
			t.Errorf("what has joined: %+v", got)
		}
		consistent(t, db.Store, h.session())
		replay := a
		replay.ID = ident.New()
		again := admit(t, db.Store, replay)
		if did(t, "the replay", again.Submission, submission.Steer, h.id()); !again.Replayed {
			t.Error("it was not replayed")
		}
		end := h.end(true)
		settled := h.commit(t, end)
		if settled.Next == nil || settled.Next.Root().ID != queued.ID {
			t.Fatalf("what comes next: %+v", settled.Next)
		}
		settledLike(t, db.Second, steer.ID, h.id())
		consistent(t, db.Store, h.session())
		next := hold(db.Store, *settled.Next)
		next.commit(t, next.end(true))
		if s := sessionOf(t, db.Store, h.session()); s.Pending != 0 {
			t.Errorf("%d are pending", s.Pending)
		}
		consistent(t, db.Store, h.session())
	}},
	{"what has joined settles with a head that is settled from rows", func(t *testing.T, db DB) {
		h, steer, queued := steered(t, db)
		ended, err := db.Store.End(ctx(t), h.lease.Fence, lane.Interrupted, "R", "m")
		if ok(t, err); !ended.Ready {
			t.Error("nothing is queued")
		}
		settledLike(t, db.Second, steer.ID, h.id())
		if next := claimOne(t, db.Store, live(t, db.Store)); next.id() != queued.ID {
			t.Error("what comes next is another one")
		}
		consistent(t, db.Store, h.session())
	}},
	{"what has joined settles with a head that is forced", func(t *testing.T, db DB) {
		h, steer, _ := steered(t, db)
		_, err := db.Store.RequestAbort(ctx(t), session.DefaultTenant, h.id())
		ok(t, err)
		db.Advance(lane.ForceGrace + time.Second)
		ended, err := db.Second.Force(ctx(t), 10)
		if ok(t, err); len(ended) != 1 {
			t.Fatalf("forced: %+v", ended)
		}
		settledLike(t, db.Store, steer.ID, h.id())
		consistent(t, db.Store, h.session())
	}},
	{"what has joined stays so when the owner dies", func(t *testing.T, db DB) {
		h, steer, _ := steered(t, db)
		h = h.die(t, db.Second)
		equal(t, "what waits to join", steersOf(t, db.Store, h.id()), []string(nil))
		h.commit(t, h.end(false))
		settledLike(t, db.Store, steer.ID, h.id())
		consistent(t, db.Store, h.session())
	}},
	{"a steer joins once", func(t *testing.T, db DB) {
		h, steer, _ := steered(t, db)
		before := consistent(t, db.Store, h.session())
		_, err := db.Store.Commit(ctx(t), h.joins(steer).commit())
		refused(t, err, lane.ErrNotQueued)
		again := h.joins(sent(t, db.Store, "a", submission.Steer))
		again.Joins = append(again.Joins, lane.Join{SubmissionID: steer.ID, InputEntry: 4})
		_, err = db.Store.Commit(ctx(t), again.commit())
		refused(t, err, lane.ErrNotQueued)
		equal(t, "the entries", consistent(t, db.Store, h.session()).Entries, before.Entries)
		_, err = db.Store.RequestAbort(ctx(t), session.DefaultTenant, steer.ID)
		ok(t, err)
		if got := get(t, db.Store, steer.ID); got.Status != submission.Joined || got.AbortRequested {
			t.Errorf("what has joined, after an abort: %+v", got)
		}
	}},
	{"a commit whose answer was lost has joined once", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		steer := sent(t, db.Store, "a", submission.Steer)
		h.toTurn(t, 2)
		d := h.joins(steer)
		_, err := db.Store.Commit(ctx(t), d.commit())
		ok(t, err)
		h.commit(t, d)
		consistent(t, db.Store, h.session())
	}},
	{"a steer that is withdrawn joins nothing", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		steer, other := sent(t, db.Store, "a", submission.Steer), sent(t, db.Store, "a", submission.Steer)
		h.toTurn(t, 2)
		d := h.joins(steer, other)
		sub, err := db.Second.RequestAbort(ctx(t), session.DefaultTenant, steer.ID)
		if ok(t, err); sub.Outcome != lane.Aborted {
			t.Errorf("withdrawn: %+v", sub)
		}
		_, err = db.Store.Commit(ctx(t), d.commit())
		refused(t, err, lane.ErrNotQueued)
		equal(t, "what waits to join", steersOf(t, db.Store, h.id()), []string{other.ID})
		h.commit(t, h.joins(other))
		consistent(t, db.Store, h.session())
	}},
	{"a steer that comes too late runs in its place, and joins nobody else", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		queued, steer := queue(t, db.Store, "a"), sent(t, db.Store, "a", submission.Steer)
		h.toTurn(t, 2)
		out := h.commit(t, h.end(true))
		next := hold(db.Store, *out.Next)
		if next.id() != queued.ID {
			t.Fatal("what comes next is another one")
		}
		equal(t, "what waits to join that", steersOf(t, db.Store, next.id()), []string(nil))
		next.toTurn(t, 2)
		_, err := db.Store.Commit(ctx(t), next.joins(steer).commit())
		refused(t, err, lane.ErrNotQueued)
		next.commit(t, next.end(false))
		last := claimOne(t, db.Store, live(t, db.Store))
		if last.id() != steer.ID || last.root().Input == nil {
			t.Fatalf("the last one: %+v", last.root())
		}
		did(t, "the steer that runs", get(t, db.Second, steer.ID), submission.Queue, "")
		consistent(t, db.Store, h.session())
	}},
	{"a steer of what rests is mail", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.toTurn(t, 2)
		if out := h.commit(t, h.park(lane.Never)); !out.Parked {
			t.Fatal("not parked")
		}
		steer := sent(t, db.Second, "a", submission.Steer)
		did(t, "the answer", steer, submission.Steer, h.id())
		woken := claimOne(t, db.Store, live(t, db.Store))
		woken.commit(t, woken.joins(steer))
		consistent(t, db.Store, h.session())
	}},
	{"an interrupt aborts what runs and is next, before what is queued", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		first, second := queue(t, db.Store, "a"), queue(t, db.Store, "a")
		a := keyed("a", "key")
		a.WhenBusy = submission.Interrupt
		one := admit(t, db.Second, a).Submission
		did(t, "the answer", one, submission.Interrupt, h.id())
		two := sent(t, db.Second, "a", submission.Interrupt)
		held, err := db.Store.Own(ctx(t), h.owner(t))
		if ok(t, err); len(held) != 1 || held[0].Ends.Why != lane.Abort || held[0].Mail == h.lease.Mail {
			t.Fatalf("what the owner hears: %+v", held)
		}
		replay := a
		replay.ID = ident.New()
		did(t, "the replay", admit(t, db.Store, replay).Submission, submission.Interrupt, h.id())
		order := []string{one.ID, two.ID, first.ID, second.ID}
		end := h.end(true)
		end.End.Outcome = lane.Aborted
		out := h.commit(t, end)
		for i, want := range order {
			if out.Next == nil || out.Next.Root().ID != want {
				t.Fatalf("at place %d runs %+v, want %s", i, out.Next, want)
			}
			consistent(t, db.Store, h.session())
			next := hold(db.Store, *out.Next)
			next = next.die(t, db.Second) // and is found again
			if next.id() != want {
				t.Fatalf("at place %d another one is taken over", i)
			}
			out = next.commit(t, next.end(true))
		}
		if s := sessionOf(t, db.Store, h.session()); s.Pending != 0 || out.Next != nil {
			t.Errorf("%d are pending", s.Pending)
		}
		queue(t, db.Store, "a")
		claimOne(t, db.Store, live(t, db.Store))
		consistent(t, db.Store, h.session())
	}},
	{"an interrupt of what has not begun is first", func(t *testing.T, db DB) {
		queued := queue(t, db.Store, "a")
		urgent := sent(t, db.Store, "a", submission.Interrupt)
		did(t, "the answer", urgent, submission.Interrupt, "")
		h := claimOne(t, db.Store, live(t, db.Store))
		if h.id() != urgent.ID || get(t, db.Store, queued.ID).AbortRequested {
			t.Error("it is not first, or what is queued is aborted")
		}
		_, err := db.Store.End(ctx(t), h.lease.Fence, lane.Failed, "R", "m")
		ok(t, err)
		if h = claimOne(t, db.Store, live(t, db.Store)); h.id() != queued.ID {
			t.Error("what was queued is lost")
		}
		consistent(t, db.Store, h.session())
	}},
	{"an interrupt that is withdrawn leaves the queue as it was", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		queued, urgent := queue(t, db.Store, "a"), sent(t, db.Store, "a", submission.Interrupt)
		_, err := db.Store.RequestAbort(ctx(t), session.DefaultTenant, urgent.ID)
		ok(t, err)
		out := h.commit(t, h.end(true))
		if out.Next == nil || out.Next.Root().ID != queued.ID {
			t.Errorf("what comes next: %+v", out.Next)
		}
		consistent(t, db.Store, h.session())
	}},
	{"steers against settlements: none is lost, none joins twice", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		var all []submission.Submission
		var mu sync.Mutex
		for range 12 {
			a := admission("a")
			a.Owner = owner
			out := admit(t, db.Store, a)
			if out.Lease == nil {
				t.Fatal("the lane is not idle")
			}
			all = append(all, out.Submission)
			var group sync.WaitGroup
			for i := range 3 {
				group.Go(func() {
					s := []store.Store{db.Store, db.Second}[i%2]
					sub := sent(t, s, "a", submission.Steer)
					mu.Lock()
					defer mu.Unlock()
					all = append(all, sub)
				})
			}
			runAll(t, db, hold(db.Store, *out.Lease))
			group.Wait()
			for {
				leases := claim(t, db.Store, owner, 1)
				if len(leases) == 0 {
					break
				}
				runAll(t, db, hold(db.Store, leases[0]))
			}
		}
		id := all[0].SessionID
		c := consistent(t, db.Store, id)
		inputs := map[string]int{}
		for _, e := range c.Entries {
			if e.Kind == session.Input {
				inputs[e.SubmissionID]++
			}
		}
		for _, sub := range all {
			if got := get(t, db.Second, sub.ID); got.Status != submission.SettledStatus || inputs[sub.ID] != 1 {
				t.Errorf("%s has %d inputs: %+v", sub.ID, inputs[sub.ID], got)
			}
		}
	}},
}

// runAll runs heads to their ends, and lets join what wants to.
func runAll(t tester, db DB, h *holder) {
	t.Helper()
	for {
		if h.root().InputEntry == 0 {
			d := h.step(1)
			d.Entries[0].Kind = session.Input
			d.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 1, InputEntry: d.Entries[0].Seq}
			h.commit(t, d)
		}
		h.toTurn(t, 2)
		found, err := db.Store.Steers(ctx(t), h.id(), 0, 10)
		ok(t, err)
		for _, one := range found {
			h.commit(t, h.joins(submission.Submission{Loop: lane.Loop{ID: one.ID}}))
		}
		out := h.commit(t, h.end(true))
		if out.Next == nil {
			return
		}
		h = hold(db.Store, *out.Next)
	}
}
