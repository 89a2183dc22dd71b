package platformtest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/session"
)

// deleting are the writes of a deletion.
var deleting = []string{
	"BeginDeletion", "RequestAbortSession", "CloseSession", "AdvanceDeletion", "PurgeSession", "PostponeDeletion",
}

// erase asks for the deletion of a session with all that it does.
func (w *world) erase(p *platformtest.Platform, id string) error {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	_, err := pawlv1.NewDeletionServiceClient(p.GRPC).DeleteSession(ctx, &pawlv1.DeleteSessionRequest{
		Session: &pawlv1.DeleteSessionRequest_SessionId{SessionId: id}, Abort: true,
	})
	return err
}

// A session is deleted while a sub-agent of it works, while a call of it waits for an approval, and while it has a
// summary and a queue. The replica that it runs at, and that was asked, is killed before and after every write of the
// deletion and of the session. Whoever asks again, at another replica, is told of the deletion; it ends, nothing of the
// session is left, and what had not begun does not begin.
func TestDeletionKilledAtEveryWrite(t *testing.T) {
	for name, of := range map[string]struct {
		agent    string
		messages []string
	}{
		"a sub-agent": {"lead", []string{asked("shell", "sleep 100h;add effects late")}},
		"an approval": {"ruled", []string{guarded}},
		"a queue":     {"narrow", []string{long, leaf("one", 1), "sleep 100h", "add effects late"}},
	} {
		t.Run(name, func(t *testing.T) {
			atEveryCommit(t, 5, func(w *world, n int64, after bool) bool {
				b := w.c.Start("b", nil)
				for _, m := range of.messages {
					w.submitTo(w.a, of.agent, m)
				}
				w.sleep(10 * time.Second)
				id := w.sessionID(of.agent)
				met := w.atCommit(w.a, n, after, w.a.Strike, deleting...)
				_ = w.erase(w.a, id) // the answer may get lost
				select {
				case <-w.a.Dead():
				case <-time.After(3 * time.Minute):
				}
				w.a.DB.Strike(nil)
				if met.Load() {
					w.m.Dial(b)
				}
				if err := w.erase(b, id); err != nil && (met.Load() || rpc.Reason(err) != "SESSION_NOT_FOUND") {
					w.Errorf("asked again: %v", err)
				}
				w.sleep(3 * time.Minute)
				if _, err := w.c.Store.GetSession(w.Context(), session.DefaultTenant, id); !errors.Is(err,
					session.ErrNotFound) {
					w.Errorf("the session is still there: %v", err)
				}
				all, err := pawlv1.NewDeletionServiceClient(b.GRPC).ListDeletions(w.Context(),
					&pawlv1.ListDeletionsRequest{})
				if err != nil || len(all.GetDeletions()) != 1 || all.GetDeletions()[0].GetDoneAt() == nil {
					w.Errorf("the deletions: %v, %v", all, err)
				}
				if slices.Contains(w.effects(), "late") || slices.Contains(w.effects(), "guarded") {
					w.Errorf("effects %v", w.effects())
				}
				w.wait(b, w.submitTo(b, of.agent, "say: anew"), "anew") // the name is free
				return met.Load()
			})
		})
	}
}

// A session is rewound at one replica, killed before and after the write, and again at another: the same fork has the
// name. Another replica's prompts go to it, and the work that is named by the old id is refused.
func TestRewindKilledAtItsWrite(t *testing.T) {
	for _, after := range []bool{false, true} {
		within(t, func(w *world) {
			b := w.c.Start("b", nil)
			w.wait(w.a, w.submit("say: one"), "one")
			w.wait(w.a, w.submit("say: two"), "two")
			id, at := w.sessionID("shell"), int64(2)
			rewind := func(p *platformtest.Platform) (*pawlv1.Session, error) {
				ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
				defer cancel()
				res, err := pawlv1.NewSessionServiceClient(p.GRPC).RewindSession(ctx, &pawlv1.RewindSessionRequest{
					SessionId: id, At: &at,
				})
				return res.GetSession(), err
			}
			met := w.atCommit(w.a, 1, after, w.a.Strike, "ForkSession")
			_, _ = rewind(w.a)
			w.dead(w.a)
			w.a.DB.Strike(nil)
			w.m.Dial(b)
			made, err := rewind(b)
			if err != nil || !met.Load() || made.GetSessionId() == id {
				w.Fatalf("asked again: %v, %v", made, err)
			}
			if again, err := rewind(b); err != nil || again.GetSessionId() != made.GetSessionId() {
				w.Errorf("asked once more: %v, %v", again, err)
			}
			got := w.wait(b, w.submitTo(b, "shell", "say: three"), "three")
			if got.GetSessionId() != made.GetSessionId() || w.sessionID("shell") != made.GetSessionId() {
				w.Errorf("the prompt went to %s", got.GetSessionId())
			}
			_, err = pawlv1.NewSubmissionServiceClient(b.GRPC).Shell(w.Context(), &pawlv1.ShellRequest{
				SessionId: id, Command: "add effects old",
			})
			if rpc.Reason(err) != "SESSION_REWOUND" {
				w.Errorf("a command for the old one: %v", err)
			}
			if w.sleep(time.Minute); len(w.effects()) > 0 {
				w.Errorf("effects %v", w.effects())
			}
		})
	}
}
