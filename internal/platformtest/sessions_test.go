package platformtest_test

import (
	"context"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
)

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
