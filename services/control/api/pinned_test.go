package api_test

import (
	"context"
	"testing"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/deletion"
	"github.com/pawl-dev/pawl/services/control/session"
)

// byID are the requests that name a session by its id and are submissions of it.
func byID(t *testing.T, f *fixture, id string) map[string]func(key string) (*pawlv1.Submission, bool, error) {
	conn := f.as(t, auth.Token{Kind: auth.Client, Role: auth.Admin})
	return map[string]func(string) (*pawlv1.Submission, bool, error){
		"shell": func(key string) (*pawlv1.Submission, bool, error) {
			res, err := pawlv1.NewSubmissionServiceClient(conn).Shell(t.Context(), &pawlv1.ShellRequest{
				SessionId: id, Command: "make", IdempotencyKey: key,
			})
			return res.GetSubmission(), res.GetReplayed(), err
		},
		"compact": func(key string) (*pawlv1.Submission, bool, error) {
			res, err := pawlv1.NewSessionServiceClient(conn).CompactSession(t.Context(), &pawlv1.CompactSessionRequest{
				SessionId: id, IdempotencyKey: key,
			})
			return res.GetSubmission(), res.GetReplayed(), err
		},
	}
}

// What is asked of a session by its id does not go to one that takes its name meanwhile.
func TestWorkGoesToTheSessionThatWasFound(t *testing.T) {
	f := start(t, nil) // what is submitted stays in the queue
	rewound := func(one session.Session) {
		_, err := f.Store.ForkSession(context.Background(), session.Fork{
			New: session.New{Key: one.Key}, From: one.ID, Rewinds: true,
		})
		if err != nil {
			t.Error(err)
		}
	}
	deleted := func(one session.Session) {
		d, err := f.Store.BeginDeletion(context.Background(), deletion.Deletion{
			ID: ident.New(), Kind: deletion.Session, Key: one.Key, SessionID: one.ID,
		})
		if err != nil {
			t.Fatal(err)
		}
		if closed, err := f.Store.CloseSession(context.Background(), one.ID); err != nil || !closed {
			t.Fatal(closed, err)
		}
		if b, err := f.Store.PurgeSession(context.Background(), d.ID, 1, 100); err != nil || !b.Done {
			t.Fatal(b, err)
		}
		if _, _, err := f.Store.CreateSession(context.Background(), session.New{Key: one.Key}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		meanwhile func(session.Session)
		want      string
	}{"rewound": {rewound, "SESSION_REWOUND"}, "deleted": {deleted, "SESSION_NOT_FOUND"}} {
		for _, what := range []string{"shell", "compact"} {
			key := session.Key{Tenant: session.DefaultTenant, Agent: "shell", Instance: name, Name: what}
			one, _, err := f.Store.CreateSession(t.Context(), session.New{Key: key})
			if err != nil {
				t.Fatal(err)
			}
			f.found = func(one session.Session) {
				f.found = nil
				test.meanwhile(one)
			}
			if sub, _, err := byID(t, f, one.ID)[what]("k"); rpc.Reason(err) != test.want {
				t.Errorf("%s, %s: %v, %v", what, name, sub, err)
			}
			heir, err := f.Store.FindSession(t.Context(), key)
			if err != nil || heir.Pending != 0 || heir.ID == one.ID {
				t.Errorf("%s, %s: the heir of the name has got work: %+v, %v", what, name, heir, err)
			}
		}
	}
}

// A request under a key is answered with its own outcome after the session was rewound, and a new one is refused.
func TestWorkIsReplayedAfterARewind(t *testing.T) {
	f := start(t, hello())
	id := f.answered(t).GetSessionId()
	first := map[string]string{}
	for what, ask := range byID(t, f, id) {
		sub, _, err := ask(what)
		if err != nil {
			t.Fatal(err)
		}
		first[what] = sub.GetSubmissionId()
		if _, _, err := f.Store.RequestAbortSession(t.Context(), session.DefaultTenant, id); err != nil {
			t.Fatal(err)
		}
		wait := &pawlv1.WaitSubmissionRequest{SubmissionId: sub.GetSubmissionId()}
		if _, err := pawlv1.NewSubmissionServiceClient(f.operator(t)).WaitSubmission(t.Context(), wait); err != nil {
			t.Fatal(err)
		}
	}
	at := int64(0)
	made, err := pawlv1.NewSessionServiceClient(f.operator(t)).RewindSession(t.Context(), &pawlv1.RewindSessionRequest{
		SessionId: id, At: &at,
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, ask := range byID(t, f, id) {
		sub, replayed, err := ask(what)
		if err != nil || !replayed || sub.GetSubmissionId() != first[what] || sub.GetSessionId() != id ||
			sub.GetStatus() != pawlv1.Submission_STATUS_SETTLED {
			t.Errorf("%s again: %v, %v, %v", what, sub, replayed, err)
		}
		if _, _, err := ask("new"); rpc.Reason(err) != "SESSION_REWOUND" {
			t.Errorf("a new %s: %v", what, err)
		}
	}
	for what, ask := range byID(t, f, made.GetSession().GetSessionId()) {
		if sub, _, err := ask(what); rpc.Reason(err) != "IDEMPOTENCY_CONFLICT" {
			t.Errorf("%s of the session that has the name now, under the same key: %v, %v", what, sub, err)
		}
	}
}
