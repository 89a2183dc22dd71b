package storetest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var admitCases = []testCase{
	{"queues on a new session", func(t *testing.T, db DB) {
		a := admission("a")
		a.IdempotencyKey, a.Timeout, a.Options = "key", time.Minute, someOptions
		got := admit(t, db.Store, a)
		want := submission.Admitted{Submission: submission.Submission{
			Loop: lane.Loop{
				ID: a.ID, LaneID: got.Submission.SessionID, RootID: a.ID, SessionID: got.Submission.SessionID, Key: a.Key, Seq: 1,
				AgentDigest: "digest", Input: a.Input, Timeout: time.Minute, Options: someOptions,
			},
			IdempotencyKey: "key", AcceptedAt: got.Submission.AcceptedAt,
		}}
		equal(t, "the answer", got, want)
		if !ident.IsUUID(got.Submission.SessionID) || got.Submission.AcceptedAt.IsZero() {
			t.Errorf("no session id or time of acceptance: %+v", got.Submission)
		}
		equal(t, "the submission", get(t, db.Second, a.ID), want.Submission)
		c := consistent(t, db.Second, got.Submission.SessionID)
		if len(c.Entries) != 0 || len(c.Events) != 0 || c.Owner != "" || c.Session.Pending != 1 {
			t.Errorf("an admission did more than queue: %+v", c)
		}
	}},
	{"with an owner starts at once on an idle lane", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		for n := int64(1); n <= 2; n++ { // a new session, then one that has become idle
			a := admission("a")
			a.Owner, a.Timeout, a.Options = owner, time.Minute, someOptions
			got := admit(t, db.Store, a)
			if got.Lease == nil {
				t.Fatalf("admission %d did not take the lane", n)
			}
			at := got.Submission.AcceptedAt
			sub := submission.Submission{
				Loop: lane.Loop{
					ID: a.ID, LaneID: got.Submission.SessionID, RootID: a.ID, SessionID: got.Submission.SessionID, Key: a.Key,
					Seq: n, AgentDigest: "digest", Phase: lane.PhaseModel, Turn: 1, InputEntry: 2*n - 1, EntryHead: 2*n - 1,
					Timeout: time.Minute, StartedAt: at, Options: someOptions,
				},
				Status: submission.Running, AcceptedAt: at,
			}
			equal(t, "the answer", got, submission.Admitted{
				Submission: sub, EventHead: 2*n - 2, Lease: &lane.Lease{
					Fence: lane.Fence{LaneID: sub.SessionID, Epoch: n}, Kind: lane.KindSession, Loops: []lane.Loop{sub.Loop},
					EventHead: 2*n - 1, Ends: lane.Ends{In: time.Minute, Why: lane.Deadline},
				},
			})
			equal(t, "the submission", get(t, db.Second, a.ID), sub)
			c := consistent(t, db.Second, sub.SessionID)
			if c.Owner != owner {
				t.Errorf("the lane's owner is %q", c.Owner)
			}
			equal(t, "the input", c.Entries[2*n-2], session.Entry{
				Seq: 2*n - 1, SubmissionID: a.ID, Kind: session.Input, Message: message("user", "hi"),
				CreatedAt: at, Body: a.Input,
			})
			equal(t, "the event", c.Events[2*n-2], event.Event{
				Seq: 2*n - 1, Time: at, SubmissionID: a.ID, Turn: 1, Type: event.Started, EntrySeq: 2*n - 1,
			})
			h := hold(db.Store, *got.Lease)
			h.commit(t, h.end(false))
		}
	}},
	{"with an owner waits behind others", func(t *testing.T, db DB) {
		owner := live(t, db.Store)
		h := start(t, db.Store, "running", owner)
		queue(t, db.Store, "ready")
		for _, name := range []string{"running", "ready"} {
			a := admission(name)
			a.Owner = owner
			got := admit(t, db.Second, a)
			if got.Lease != nil || got.Submission.Status != submission.Queued || got.Submission.Seq != 2 ||
				got.Submission.Input == nil {
				t.Errorf("%s: admitted %+v", name, got)
			}
			consistent(t, db.Store, got.Submission.SessionID)
		}
		h.commit(t, h.end(false)) // still the owner, of the same epoch
	}},
	{"tells the stream's head before it", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		h.commit(t, h.step(3))
		a := admission("a")
		a.IdempotencyKey = "key"
		if got := admit(t, db.Store, a); got.EventHead != 4 {
			t.Errorf("the head is %d, want 4", got.EventHead)
		}
		h.commit(t, h.step(1))
		if got := admit(t, db.Second, a); got.EventHead != 4 || !got.Replayed {
			t.Errorf("replayed %v, the head is %d, want 4", got.Replayed, got.EventHead)
		}
		// What has begun has its events after where it began: nobody reads again what came while it waited.
		next := h.commit(t, h.end(true)).Next
		if next == nil || next.Root().ID != a.ID {
			t.Fatalf("the owner goes on with %+v", next)
		}
		if got := admit(t, db.Second, a); got.EventHead != next.EventHead || next.EventHead <= 4 {
			t.Errorf("after it began the head is %d, want %d", got.EventHead, next.EventHead)
		}
	}},
	{"replays a used key", func(t *testing.T, db DB) {
		a := admission("a")
		a.IdempotencyKey, a.Owner = "key", live(t, db.Store)
		first := admit(t, db.Store, a)
		h := hold(db.Store, *first.Lease)
		again := a
		again.ID = ident.New()
		got := admit(t, db.Second, again)
		equal(t, "the replay", got, submission.Admitted{Submission: first.Submission, Replayed: true})
		h.commit(t, h.end(false))
		db.Advance(6 * 24 * time.Hour)
		got = admit(t, db.Second, again)
		if got.Submission.Status != submission.SettledStatus || got.Submission.Outcome != lane.Completed ||
			got.Lease != nil {
			t.Errorf("the replay of a settled submission is %+v", got)
		}
		if c := consistent(t, db.Store, h.session()); len(c.Submissions) != 1 {
			t.Errorf("replays made %d submissions", len(c.Submissions)-1)
		}
	}},
	{"refuses a key with another input and leaves no trace", func(t *testing.T, db DB) {
		a := admission("a")
		a.IdempotencyKey = "key"
		first := admit(t, db.Store, a)
		before := read(t, db.Store, first.Submission.SessionID)
		a.ID, a.InputHash = ident.New(), []byte("other")
		_, err := db.Second.Admit(ctx(t), a)
		refused(t, err, submission.ErrIdempotencyConflict)
		equal(t, "the session", read(t, db.Store, first.Submission.SessionID), before)
		if next := queue(t, db.Store, "a"); next.Seq != 2 {
			t.Errorf("the next submission has seq %d: the refused one used one up", next.Seq)
		}
	}},
	{"scopes keys by session", func(t *testing.T, db DB) {
		other := func(f func(*session.Key)) session.Key { k := key("a"); f(&k); return k }
		seen := map[string]bool{}
		for _, k := range []session.Key{
			key("a"), key("b"), other(func(k *session.Key) { k.Agent = "other" }),
			other(func(k *session.Key) { k.Instance = "other" }),
			other(func(k *session.Key) { k.Instance, k.Name = "a/b", "c" }),
			other(func(k *session.Key) { k.Instance, k.Name = "a", "b/c" }),
		} {
			a := admission("")
			a.Key, a.IdempotencyKey = k, "key"
			got := admit(t, db.Store, a)
			if got.Replayed || seen[got.Submission.SessionID] {
				t.Errorf("%+v shares a session or key with another", k)
			}
			seen[got.Submission.SessionID] = true
			equal(t, "the key", get(t, db.Store, a.ID).Key, k)
		}
	}},
	{"admits one of many with the same key", func(t *testing.T, db DB) {
		const n = 16
		answers := make([]submission.Admitted, n)
		together(t, n, func(i int) error {
			a := admission("a")
			a.IdempotencyKey = "key"
			var err error
			answers[i], err = either(db, i).Admit(ctx(t), a)
			return err
		})
		fresh := 0
		for _, got := range answers {
			if !got.Replayed {
				fresh++
			}
			if got.Submission.ID != answers[0].Submission.ID {
				t.Errorf("two submissions with one key")
			}
		}
		if fresh != 1 {
			t.Errorf("%d of %d admissions were new", fresh, n)
		}
		if c := consistent(t, db.Store, answers[0].Submission.SessionID); len(c.Submissions) != 1 {
			t.Errorf("there are %d submissions", len(c.Submissions))
		}
	}},
	{"numbers concurrent admissions densely and gives one the lane", func(t *testing.T, db DB) {
		const n = 24
		owner := live(t, db.Store)
		answers := make([]submission.Admitted, n)
		together(t, n, func(i int) error {
			a := admission("a")
			a.Owner = owner
			var err error
			answers[i], err = either(db, i).Admit(ctx(t), a)
			return err
		})
		leases := 0
		for _, got := range answers {
			if got.Lease != nil {
				leases++
			}
		}
		if leases != 1 {
			t.Errorf("%d of %d admissions took the lane", leases, n)
		}
		if c := consistent(t, db.Store, answers[0].Submission.SessionID); len(c.Submissions) != n {
			t.Errorf("there are %d submissions, want %d", len(c.Submissions), n)
		}
	}},
	{"keeps any bytes of an input", func(t *testing.T, db DB) {
		a := admission("a")
		a.Input = input("\x00 zero, \" quote, \\ backslash, ≈ \u2028 and " +
			string(bytes.Repeat([]byte("long "), 50_000)))
		admit(t, db.Store, a)
		if got := get(t, db.Second, a.ID); !bytes.Equal(got.Input, a.Input) {
			t.Errorf("the input came back changed")
		}
	}},
	{"refuses prompts to the conversation of a sub-agent", func(t *testing.T, db DB) {
		h := start(t, db.Store, "a", live(t, db.Store))
		child := h.withChild(t)
		a := admission("")
		a.Key = child.Key
		_, err := db.Store.Admit(ctx(t), a)
		refused(t, err, submission.ErrSubAgent)
		h.commit(t, h.end(false))
	}},
	{"keeps a failed admission from harming others", func(t *testing.T, db DB) {
		const n = 12
		taken := queue(t, db.Store, "taken")
		errs := make([]error, n)
		together(t, n, func(i int) error {
			a := admission("a")
			if i%4 == 0 {
				a.ID = taken.ID // breaks a constraint, after the lane has moved
			}
			_, errs[i] = db.Store.Admit(ctx(t), a)
			return nil
		})
		for i, err := range errs {
			if (err != nil) != (i%4 == 0) {
				t.Errorf("admission %d: %v", i, err)
			}
		}
		if c := consistent(t, db.Store, find(t, db.Store, "a").ID); len(c.Submissions) != n-n/4 {
			t.Errorf("there are %d submissions, want %d", len(c.Submissions), n-n/4)
		}
	}},
}

// either is one of the database's handles.
func either(db DB, i int) store.Store {
	if i%2 == 0 {
		return db.Store
	}
	return db.Second
}

// together runs f n times at once.
func together(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	gun := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gun
			errs[i] = f(i)
		})
	}
	close(gun)
	wg.Wait()
	if err := errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...); err != nil {
		t.Fatal(err)
	}
}
