//go:build full

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

// deleted waits until the only deletion that there is has ended.
func (w *world) deleted(p *platformtest.Platform) {
	w.Helper()
	for range 300 {
		all, err := pawlv1.NewDeletionServiceClient(p.GRPC).ListDeletions(w.Context(), &pawlv1.ListDeletionsRequest{})
		if err != nil || len(all.GetDeletions()) != 1 {
			w.Fatalf("the deletions: %v, %v", all, err)
		}
		if all.GetDeletions()[0].GetDoneAt() != nil {
			return
		}
		w.sleep(time.Second)
	}
	w.Fatal("the deletion does not end")
}

// A session is deleted while a sub-agent of it works, and while a call of it waits for an approval. The replica that it
// runs at, and that was asked, is killed before and after every write of the deletion and of the session. Whoever asks
// again, at another replica, is told of the deletion; it ends, nothing of the session is left, and what had not begun
// does not begin.
func TestDeletionKilledAtEveryWrite(t *testing.T) {
	for name, of := range map[string]struct {
		agent    string
		messages []string
	}{
		"a sub-agent": {"lead", []string{asked("shell", "sleep 100h;add effects late")}},
		"an approval": {"ruled", []string{guarded, "add effects late"}},
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
				case <-time.After(20 * time.Second):
				}
				w.a.DB.Strike(nil)
				if met.Load() {
					w.m.Dial(b)
				}
				if err := w.erase(b, id); err != nil && (met.Load() || rpc.Reason(err) != "SESSION_NOT_FOUND") {
					w.Errorf("asked again: %v", err)
				}
				w.deleted(b)
				if _, err := w.c.Store.GetSession(w.Context(), session.DefaultTenant, id); !errors.Is(err,
					session.ErrNotFound) {
					w.Errorf("the session is still there: %v", err)
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
