package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/retention"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func keyed(name, idem string) submission.Admission {
	a := admission(name)
	a.IdempotencyKey = idem
	return a
}

var receiptCases = []testCase{
	{"outlive the session", func(t *testing.T, db DB) {
		a := keyed("a", "key")
		first := admit(t, db.Store, a).Submission
		db.Forget(first.SessionID)
		queue(t, db.Store, "a") // the session is made again
		a.ID = ident.New()
		for _, s := range []store.Store{db.Store, db.Second} {
			equal(t, "the replay", admit(t, s, a), submission.Admitted{
				Replayed: true,
				Submission: submission.Submission{
					Loop: lane.Loop{ID: first.ID, Key: a.Key}, IdempotencyKey: "key", Status: submission.SettledStatus,
				},
			})
		}
		a.InputHash = []byte("other")
		_, err := db.Store.Admit(ctx(t), a)
		refused(t, err, submission.ErrIdempotencyConflict)
	}},
	{"answer who asks for an earlier admission only", func(t *testing.T, db DB) {
		a := keyed("a", "key")
		first := admit(t, db.Store, a).Submission
		a.ID, a.ReplayOnly, a.AgentDigest = ident.New(), true, ""
		for _, s := range []store.Store{db.Store, db.Second} {
			if got := admit(t, s, a); !got.Replayed || got.Submission.ID != first.ID {
				t.Errorf("the replay is %+v", got)
			}
		}
		for _, other := range []submission.Admission{keyed("a", "other"), keyed("b", "key"), admission("a")} {
			other.ReplayOnly = true
			_, err := db.Store.Admit(ctx(t), other)
			refused(t, err, submission.ErrNotFound)
		}
		if subs, err := db.Store.ListSubmissions(ctx(t), first.SessionID, 0, 10); err != nil || len(subs) != 1 {
			t.Errorf("submissions: %+v, %v", subs, err)
		}
		_, err := db.Store.FindSession(ctx(t), key("b"))
		refused(t, err, session.ErrNotFound)
	}},
	{"are forgotten with a session that is gone, in their time", func(t *testing.T, db DB) {
		a := keyed("a", "key")
		first := admit(t, db.Store, a).Submission
		db.Forget(first.SessionID)
		db.Advance(submission.ReceiptLife - time.Minute)
		a.ID = ident.New()
		if got := admit(t, db.Store, a); !got.Replayed {
			t.Fatalf("forgotten too early: %+v", got)
		}
		db.Advance(2 * time.Minute)
		got := admit(t, db.Store, a) // nobody has deleted it yet
		if got.Replayed || got.Submission.ID != a.ID {
			t.Fatalf("still remembered: %+v", got)
		}
		a.ID = ident.New()
		if again := admit(t, db.Second, a); !again.Replayed || again.Submission.ID != got.Submission.ID {
			t.Errorf("the new one is not remembered: %+v", again)
		}
	}},
	{
		"are deleted when they have expired, so many at a time, and the submission still answers",
		func(t *testing.T, db DB) {
			var subs []submission.Admission
			for i := range 5 {
				a := keyed("a", fmt.Sprint("key ", i))
				admit(t, db.Store, a)
				subs = append(subs, a)
			}
			if n := deleteAll(t, db.Store, retention.Receipts, 0, 10); n != 0 {
				t.Fatalf("deleted %d that live", n)
			}
			db.Advance(submission.ReceiptLife + time.Minute)
			young := admit(t, db.Store, keyed("b", "young")).Submission
			for _, want := range []int{2, 2, 1, 0} {
				b, err := db.Second.DeleteBatch(ctx(t), retention.Receipts, 0, 2)
				ok(t, err)
				if b.Deleted != want {
					t.Errorf("deleted %d, want %d", b.Deleted, want)
				}
			}
			for _, a := range subs {
				first := a.ID
				a.ID = ident.New()
				if got := admit(t, db.Store, a); !got.Replayed || got.Submission.ID != first {
					t.Errorf("the key of a submission that is there was used again: %+v", got)
				}
			}
			db.Forget(young.SessionID)
			if got := admit(t, db.Store, keyed("b", "young")); !got.Replayed {
				t.Errorf("a receipt that lives was deleted")
			}
		},
	},
}
