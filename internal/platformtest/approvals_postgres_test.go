package platformtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/pgtest"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/store/postgres"
)

// pair are two replicas on one Postgres. The agents need no executor: what waits for an approval is a call of a
// sub-agent.
func pair(t *testing.T) (c *platformtest.Cluster, all []*platformtest.Platform) {
	t.Helper()
	db, err := postgres.Open(t.Context(), pgtest.URL(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c = platformtest.New(t, platformtest.Options{Store: db, Agents: ruled()})
	for _, name := range []string{"a", "b"} {
		all = append(all, c.Start(name, nil))
	}
	return c, all
}

// On a real Postgres a decision at one replica wakes a lane that rests, whoever had it: the replica itself, the other
// one, or one that has died meanwhile, also while it is taken over. Each is decided once, and its sub-agent runs once.
func TestDecisionsOnTwoReplicas(t *testing.T) {
	for name, c := range map[string]struct{ dies, during bool }{
		"at the other one":                          {},
		"whose owner has died while the lane rests": {dies: true},
		"while the owner dies":                      {dies: true, during: true},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, all := pair(t)
			a, b := all[0], all[1]
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			sub, err := pawlv1.NewSubmissionServiceClient(a.GRPC).Submit(ctx, &pawlv1.SubmitRequest{
				Key: key("asks"), Message: asked("", "say: done"),
			})
			if err != nil {
				t.Fatal(err)
			}
			id, lane := sub.GetSubmission().GetSubmissionId(), sub.GetSubmission().GetSessionId()
			one := openOn(ctx, t, b)
			if !c.during {
				until(ctx, t, func() bool {
					_, owned, err := cluster.Store.OwnerOf(ctx, lane)
					return err == nil && !owned
				})
			}
			if c.dies {
				a.Kill()
			}
			approvals := pawlv1.NewApprovalServiceClient(b.GRPC)
			req := &pawlv1.DecideApprovalRequest{
				ApprovalId: one.GetApprovalId(), Digest: one.GetDigest(),
				Verdict: pawlv1.DecideApprovalRequest_VERDICT_APPROVE,
			}
			for replayed := range 2 {
				got, err := approvals.DecideApproval(ctx, req)
				if err != nil || got.GetReplayed() != (replayed == 1) {
					t.Fatalf("decided %v, %v", got, err)
				}
			}
			done, err := pawlv1.NewSubmissionServiceClient(b.GRPC).WaitSubmission(ctx,
				&pawlv1.WaitSubmissionRequest{SubmissionId: id})
			if err != nil || !strings.Contains(done.GetSubmission().GetResult().GetText(), "done") {
				t.Errorf("settled %v, %v", done, err)
			}
			events, err := cluster.Store.Events(ctx, lane, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			told := map[event.Type]int{}
			for _, e := range events {
				told[e.Type]++
			}
			for _, once := range []event.Type{event.ApprovalRequested, event.ApprovalDecided, event.TaskStarted} {
				if told[once] != 1 {
					t.Errorf("the stream has %s %d times", once, told[once])
				}
			}
		})
	}
}

// until waits until something holds.
func until(ctx context.Context, t *testing.T, holds func() bool) {
	t.Helper()
	for range await.Ticks(ctx, 20*time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatal("it does not come to hold")
}

func openOn(ctx context.Context, t *testing.T, p *platformtest.Platform) (one *pawlv1.Approval) {
	t.Helper()
	until(ctx, t, func() bool {
		got, err := pawlv1.NewApprovalServiceClient(p.GRPC).ListApprovals(ctx, &pawlv1.ListApprovalsRequest{
			State: pawlv1.ApprovalState_APPROVAL_STATE_OPEN,
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.GetApprovals()) == 1 {
			one = got.GetApprovals()[0]
		}
		return one != nil
	})
	return one
}
