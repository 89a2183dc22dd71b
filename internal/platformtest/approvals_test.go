package platformtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/platformtest"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
)

// waiting is how long calls of the agent "timely" wait.
const waiting = 2 * time.Minute

// ruled are agents whose commands wait for an approval if they leave something that is guarded: of "timely" for
// waiting, after which they run. "asks" asks about each sub-agent.
func ruled() (all []agent.Definition) {
	for _, name := range []string{"ruled", "timely"} {
		d := agent.Shell()
		d.Name = name
		r := approval.Rule{Tools: []string{"bash"}, When: `args.command.contains("guarded")`, Do: approval.DoAsk}
		if name == "timely" {
			r.Timeout, r.OnTimeout = waiting, approval.DoAllow
		}
		d.Approve = []approval.Rule{r}
		all = append(all, d)
	}
	asks := agent.Shell()
	asks.Name = "asks"
	asks.Approve = []approval.Rule{{Tools: []string{"task"}, Do: approval.DoAsk}}
	return append(all, asks)
}

// guarded is a prompt of which one command waits for an approval, and the other one does not.
var guarded = leaf("guarded", 1) + "\n& " + leaf("beside", 1)

// opens are the approvals that wait, as a replica tells them. A replica that dies meanwhile knows none.
func (w *world) opens(p *platformtest.Platform) []*pawlv1.Approval {
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	got, err := pawlv1.NewApprovalServiceClient(p.GRPC).ListApprovals(ctx, &pawlv1.ListApprovalsRequest{
		State: pawlv1.ApprovalState_APPROVAL_STATE_OPEN,
	})
	if err != nil {
		return nil
	}
	return got.GetApprovals()
}

func (w *world) approve(p *platformtest.Platform, a *pawlv1.Approval) (*pawlv1.DecideApprovalResponse, error) {
	ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
	defer cancel()
	return pawlv1.NewApprovalServiceClient(p.GRPC).DecideApproval(ctx, &pawlv1.DecideApprovalRequest{
		ApprovalId: a.GetApprovalId(), Digest: a.GetDigest(), Verdict: pawlv1.DecideApprovalRequest_VERDICT_APPROVE,
	})
}

// toldOf checks that the stream of a session tells of one approval once, and of what became of it.
func (w *world) toldOf(agent, state string) {
	w.Helper()
	told := map[string]int{}
	for _, e := range w.events(w.sessionID(agent)) {
		switch e.Type {
		case event.ApprovalRequested:
			told["requested"]++
		case event.ApprovalDecided:
			told[e.Approval.State]++
		}
	}
	if want := map[string]int{"requested": 1, state: 1}; !maps.Equal(told, want) {
		w.Errorf("the stream tells %v, want %v", told, want)
	}
}

// records are the decisions in the audit log, repetitions included.
func (w *world) records() (n int) {
	w.Helper()
	log, _, err := w.c.Store.ListAudit(w.Context(), audit.Filter{Tenant: session.DefaultTenant, Limit: 100})
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range log {
		if e.Method == pawlv1.ApprovalService_DecideApproval_FullMethodName[1:] && e.Allowed {
			n++
		}
	}
	return n
}

// A replica is killed before and after every write of a submission that waits for an approval, and of the decision.
// Whoever decides repeats the decision at the next replica until it is answered: it is stored and recorded once, the
// command runs after it, once, and the stream tells of both once.
func TestDecisionKilledAtEveryWrite(t *testing.T) {
	struck := map[bool]bool{}
	atEveryCommit(t, 6, func(w *world, n int64, after bool) bool {
		met := w.atCommit(w.a, n, after, w.a.Strike, "DecideApproval")
		_, _ = w.try(w.Context(), w.a, "ruled", guarded) // the answer may get lost
		p, id := w.a, ""
		live := func() {
			w.sleep(time.Second)
			if met.Load() && p == w.a {
				p = w.next(w.a)
				id = w.again(p, "ruled", guarded)
			}
		}
		var a *pawlv1.Approval
		for range 100 {
			if live(); a != nil {
				break
			}
			if all := w.opens(p); len(all) == 1 {
				a = all[0]
			}
		}
		if a == nil {
			w.Fatal("nobody is asked")
		}
		if slices.Contains(w.effects(), "guarded") {
			w.Fatal("it ran before the decision")
		}
		got, err := w.approve(p, a)
		if err != nil {
			before := p
			if live(); p == before {
				w.Fatal(err)
			}
			if got, err = w.approve(p, a); err != nil || got.GetReplayed() != after {
				w.Fatalf("the decision, repeated: %v, %v", got, err)
			}
			struck[after] = true
		}
		if got.GetApproval().GetState() != pawlv1.ApprovalState_APPROVAL_STATE_APPROVED {
			w.Errorf("decided %v", got)
		}
		if !met.Load() { // a commit that follows may be the one
			w.sleep(time.Minute)
		}
		if live(); id == "" {
			id = w.again(p, "ruled", guarded)
		}
		w.wait(p, id, "guarded\nbeside")
		w.a.DB.Strike(nil)
		w.toldOf("ruled", "approved")
		want := 1
		if got.GetReplayed() {
			want = 2
		}
		if n := w.records(); n != want {
			w.Errorf("%d decisions are recorded, want %d", n, want)
		}
		w.finish(p, "ruled", "guarded", "beside")
		return met.Load()
	})
	if !t.Failed() && len(struck) != 2 {
		t.Errorf("decisions were struck %v", struck)
	}
}

// A replica is killed before and after every write of a submission whose approval expires, which lets its call go. The
// next one, or the same when it comes back, goes on: the command runs once, not before its time.
func TestExpiryKilledAtEveryWrite(t *testing.T) {
	expired := 0
	atEveryCommit(t, 6, func(w *world, n int64, after bool) bool {
		began := time.Now()
		met := w.atCommit(w.a, n, after, w.a.Strike, "ExpireApproval")
		_, _ = w.try(w.Context(), w.a, "timely", guarded) // the answer may get lost
		p := w.a
		for range 20 {
			w.sleep(waiting / 10)
			if time.Since(began) < waiting && slices.Contains(w.effects(), "guarded") {
				w.Fatal("it ran before its time")
			}
			if met.Load() && p == w.a {
				p = w.next(w.a)
				w.again(p, "timely", guarded)
			}
		}
		w.a.DB.Strike(nil)
		w.wait(p, w.again(p, "timely", guarded), "guarded\nbeside")
		w.toldOf("timely", "expired")
		for _, x := range append(w.a.DB.Writes(), p.DB.Writes()...) {
			if x.Op == "ExpireApproval" {
				expired++
			}
		}
		w.finish(p, "timely", "guarded", "beside")
		return met.Load()
	})
	if !t.Failed() && expired == 0 {
		t.Error("no approval was made to expire")
	}
}

// What a session with a call that waits can be used for meanwhile: it is exported, and forked before the call. It is
// not rewound, and is deleted with abort only; then nothing is left to decide.
func TestParkedSessionAsAThing(t *testing.T) {
	within(t, func(w *world) {
		sessions := pawlv1.NewSessionServiceClient(w.a.GRPC)
		w.wait(w.a, w.submitTo(w.a, "ruled", "say: before"), "before")
		id := w.submitTo(w.a, "ruled", guarded)
		w.sleep(time.Minute)
		a := w.opens(w.a)[0]
		s := w.sessionID("ruled")
		fork, err := sessions.ForkSession(w.Context(), &pawlv1.ForkSessionRequest{SessionId: s, Name: "fork"})
		if err != nil || !fork.GetMoved() || fork.GetSession().GetForkedFrom().GetEntrySeq() != 2 {
			w.Errorf("the fork: %v, %v", fork, err)
		}
		rewind := &pawlv1.RewindSessionRequest{SessionId: s, At: new(int64(2))}
		if _, err := sessions.RewindSession(w.Context(), rewind); err == nil {
			w.Error("it was rewound")
		}
		export, err := sessions.ExportSession(w.Context(), &pawlv1.ExportSessionRequest{SessionId: s})
		if err != nil {
			w.Fatal(err)
		}
		states := map[string]int{}
		for {
			item, err := export.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				w.Fatal(err)
			}
			if c := item.GetCall(); c != nil {
				states[fmt.Sprint(c.GetState())]++
			}
		}
		if len(states) != 2 {
			w.Errorf("the export has calls %v", states)
		}
		deletions := pawlv1.NewDeletionServiceClient(w.a.GRPC)
		of := &pawlv1.DeleteSessionRequest_SessionId{SessionId: s}
		if _, err := deletions.DeleteSession(w.Context(), &pawlv1.DeleteSessionRequest{Session: of}); err == nil {
			w.Error("it was deleted without abort")
		}
		_, err = deletions.DeleteSession(w.Context(), &pawlv1.DeleteSessionRequest{Session: of, Abort: true})
		if err != nil {
			w.Error(err)
		}
		w.sleep(10 * time.Minute)
		if all := w.opens(w.a); len(all) > 0 {
			w.Errorf("open: %v", all)
		}
		if _, err := w.approve(w.a, a); rpc.Reason(err) != "APPROVAL_NOT_FOUND" {
			w.Errorf("the decision: %v", err)
		}
		if slices.Contains(w.effects(), "guarded") {
			w.Errorf("%s ran", id)
		}
	})
}
