package loop_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// ruled is an agent with rules.
func ruled(rules ...approval.Rule) agent.Definition {
	return delegating(func(d *agent.Definition) { d.Approve = rules })
}

// askAbout is a rule about commands that begin with rm.
func askAbout(change ...func(*approval.Rule)) approval.Rule {
	r := approval.Rule{Tools: []string{"bash"}, When: `args.command.startsWith("rm")`, Do: approval.DoAsk}
	for _, f := range change {
		f(&r)
	}
	return r
}

func within(d time.Duration) func(*approval.Rule) { return func(r *approval.Rule) { r.Timeout = d } }

// open waits until everything rests, and returns the open approvals, the oldest first.
func (b *bench) open() []approval.Approval {
	b.Helper()
	synctest.Wait()
	state := approval.Open
	all, _, err := b.store.ListApprovals(b.Context(), approval.Filter{
		Tenant: session.DefaultTenant, State: &state, Limit: 10_000,
	})
	if err != nil {
		b.Fatal(err)
	}
	slices.Reverse(all)
	return all
}

// asked is the only open approval.
func (b *bench) asked() approval.Approval {
	b.Helper()
	all := b.open()
	if len(all) != 1 {
		b.Fatalf("%d approvals are open", len(all))
	}
	return all[0]
}

var alice = audit.Who{Kind: "client", Role: "approver", Name: "alice", TokenID: "a"}

func (b *bench) decide(a approval.Approval, change ...func(*approval.Decision)) approval.Approval {
	b.Helper()
	d := approval.Decision{Tenant: a.Tenant, ID: a.ID, Digest: a.Digest, Approve: true, By: alice}
	for _, f := range change {
		f(&d)
	}
	got, _, err := approval.NewService(b.store, b.worker).Decide(b.Context(), d)
	if err != nil {
		b.Fatal(err)
	}
	return got
}

func denied(comment string) func(*approval.Decision) {
	return func(d *approval.Decision) { d.Approve, d.Comment = false, comment }
}

// parked fails unless nobody owns the lane of a submission.
func (b *bench) parked(sub submission.Submission) {
	b.Helper()
	synctest.Wait()
	if owner, owned, err := b.store.OwnerOf(b.Context(), sub.SessionID); err != nil || owned {
		b.Fatalf("%s owns the lane, %v", owner.ID, err)
	}
	if b.worker.Owns(sub.SessionID) {
		b.Fatal("the lane runs here")
	}
}

// told is how often the stream tells of each state of approvals.
func (b *bench) told(laneID string) map[string]int {
	b.Helper()
	n := map[string]int{}
	for _, e := range b.stream(laneID) {
		switch e.Type {
		case event.ApprovalRequested:
			n["requested"]++
		case event.ApprovalDecided:
			n[e.Approval.State]++
		}
	}
	return n
}

func (b *bench) expectTold(laneID string, want map[string]int) {
	b.Helper()
	if got := b.told(laneID); fmt.Sprint(got) != fmt.Sprint(want) {
		b.Errorf("the stream tells %v, want %v", got, want)
	}
}

func TestApprovedCallRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", "rm x\n& echo beside")
		a := b.asked()
		b.parked(sub)
		if got := strings.Join(b.executor.ran, ","); got != "echo beside" {
			t.Fatalf("before the decision %s ran", got)
		}
		if s := a.Subject; s.Tool != "bash" || !strings.Contains(string(s.Arguments), "rm x") || a.Agent() != "shell" ||
			len(s.Asks) != 1 || s.Asks[0].Number != 1 || len(s.Path) != 1 {
			t.Errorf("asked about %+v", s)
		}
		time.Sleep(30 * time.Minute) // longer than any executor is waited for
		b.decide(a)
		b.expect(b.wait(sub.ID), lane.Completed, "rm x\nbeside")
		if got := strings.Join(b.executor.ran, ","); got != "echo beside,rm x" {
			t.Errorf("%s ran", got)
		}
		b.expectTold(sub.SessionID, map[string]int{"requested": 1, "approved": 1})
	})
}

func TestDeniedCallIsToldToTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", "rm x")
		b.decide(b.asked(), denied("not on a Friday"))
		got := b.wait(sub.ID)
		if got.Outcome != lane.Completed || !strings.Contains(got.Text, "denied by alice: not on a Friday") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
		if len(b.executor.ran) > 0 {
			t.Errorf("%q ran", b.executor.ran)
		}
		b.expectTold(sub.SessionID, map[string]int{"requested": 1, "denied": 1})
	})
}

func TestRuleThatDenies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout(func(r *approval.Rule) { r.Do = approval.DoDeny })))
		got := b.wait(b.submit("s", "rm x\n& echo beside").ID)
		if !strings.Contains(got.Text, "the rules of the agent deny this call (rule 1 of shell: deny bash when ") ||
			!strings.Contains(got.Text, "beside") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
		if got := strings.Join(b.executor.ran, ","); got != "echo beside" {
			t.Errorf("%s ran", got)
		}
	})
}

func TestApprovalExpires(t *testing.T) {
	for name, c := range map[string]struct {
		then approval.Do
		text string
		ran  int
	}{
		"and is denied":  {"", "nobody gave it within 10m0s", 0},
		"and is allowed": {approval.DoAllow, "rm x", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, ruled(askAbout(within(10*time.Minute), func(r *approval.Rule) {
					r.OnTimeout = c.then
				})))
				began := time.Now()
				sub := b.submit("s", "rm x")
				a := b.asked()
				b.parked(sub)
				got := b.wait(sub.ID)
				if took := time.Since(began); took < 10*time.Minute || took > 10*time.Minute+3*time.Second {
					t.Errorf("it settled after %v", took)
				}
				if !strings.Contains(got.Text, c.text) || len(b.executor.ran) != c.ran {
					t.Errorf("settled %s: %q; %q ran", got.Outcome, got.Text, b.executor.ran)
				}
				b.expectTold(sub.SessionID, map[string]int{"requested": 1, "expired": 1})
				d := approval.Decision{Tenant: a.Tenant, ID: a.ID, Digest: a.Digest, Approve: true, By: alice}
				if _, _, err := approval.NewService(b.store, nil).Decide(t.Context(), d); err == nil ||
					!strings.Contains(err.Error(), "expired") {
					t.Errorf("decided too late: %v", err)
				}
			})
		})
	}
}

// While something else runs the lane does not rest, and a decision reaches its owner.
func TestDecisionBesideARunningCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		release := make(chan struct{})
		b.executor.on = func(o *call.Order) tool.Reply {
			if strings.Contains(o.Request.(tool.Exec).Command, "slow") {
				go func() { <-release; b.say(o.Call, "x1", call.Ended{Reply: echo(o)}) }()
				return nil
			}
			return echo(o)
		}
		sub := b.submit("s", "echo slow\n& rm x")
		a := b.asked()
		if !b.worker.Owns(sub.SessionID) {
			t.Fatal("the lane rests while a command runs")
		}
		b.decide(a)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := strings.Join(b.executor.ran, ","); got != "echo slow,rm x" {
			t.Errorf("%s ran", got)
		}
		close(release)
		b.expect(b.wait(sub.ID), lane.Completed, "slow\nrm x")
	})
}

func TestAbortWithdraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", "rm x")
		a := b.asked()
		b.parked(sub)
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		got := b.wait(sub.ID)
		if got.Outcome != lane.Aborted || !strings.Contains(got.Message, "; confirmed:") {
			t.Errorf("settled %s: %s", got.Outcome, got.Message)
		}
		b.expectTold(sub.SessionID, map[string]int{"requested": 1, "withdrawn": 1})
		if got, err := b.store.GetApproval(t.Context(), a.Tenant, a.ID); err != nil || got.State != approval.Withdrawn {
			t.Errorf("the approval: %s, %v", got.State, err)
		}
	})
}

// Waiting counts: the submission's own deadline ends it.
func TestDeadlineWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := ruled(askAbout())
		def.Limits.Timeout = time.Minute
		b := newBench(t, def)
		began := time.Now()
		sub := b.submit("s", "rm x")
		a := b.asked()
		b.parked(sub)
		got := b.wait(sub.ID)
		took := time.Since(began)
		if got.Outcome != lane.Expired || took < time.Minute || took > time.Minute+3*time.Second {
			t.Errorf("settled %s after %v", got.Outcome, took)
		}
		if got, err := b.store.GetApproval(t.Context(), a.Tenant, a.ID); err != nil || got.State != approval.Withdrawn {
			t.Errorf("the approval: %s, %v", got.State, err)
		}
	})
}

// A replica that ends with a parked lane loses nothing, and neither does one that drains: its successor reads the rows.
// It may have another definition of the agent: the submission keeps its own.
func TestApprovedAfterARestart(t *testing.T) {
	for _, drains := range []bool{false, true} {
		t.Run(fmt.Sprint("drains ", drains), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := ruled(askAbout())
				b := newBench(t, def)
				sub := b.submit("s", "rm x")
				a := b.asked()
				b.parked(sub)
				if drains {
					close(b.drain)
					if err := <-b.done; err != nil {
						t.Fatal(err)
					}
					b.done <- nil
				} else {
					b.die()
				}
				b.definitions = agents{def} // what the submission is pinned to
				b.start(agent.Shell())
				time.Sleep(time.Minute)
				if len(b.executor.ran) > 0 {
					t.Fatalf("%q ran before the decision", b.executor.ran)
				}
				b.decide(a)
				b.expect(b.wait(sub.ID), lane.Completed, "rm x")
				if len(b.executor.ran) != 1 {
					t.Errorf("%q ran", b.executor.ran)
				}
				b.expectTold(sub.SessionID, map[string]int{"requested": 1, "approved": 1})
			})
		})
	}
}

// Whenever its owner dies, before or after a commit, the call runs once, and only after the decision; a decision that
// comes while nobody owns the lane, or while it is taken over, is found.
func TestGateSurvivesADeathAtEveryCommit(t *testing.T) {
	const prompt = `tool task: {"prompt":"rm deep"}` + "\n& rm x\n& echo beside"
	def := ruled(askAbout())
	run := func(t *testing.T, n int, after bool) (commits int) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, def)
			var mu sync.Mutex
			b.counted.before = func(lane.Commit) { mu.Lock(); commits++; mu.Unlock() }
			if n > 0 {
				b.counted.setDying(&dying{n: n, after: after, die: b.kill})
			}
			sub := b.submit("s", prompt)
			decided := map[string]bool{}
			for len(decided) < 2 {
				for _, a := range b.open() {
					if decided[a.ID] = true; slices.Contains(b.executor.commands(), "rm x") && strings.Contains(
						string(a.Subject.Arguments), "rm x") {
						t.Fatalf("it ran before the decision: %q", b.executor.commands())
					}
					b.decide(a)
				}
				b.revive(def)
				time.Sleep(100 * time.Millisecond)
			}
			for range 20 {
				synctest.Wait()
				b.revive(def)
				time.Sleep(time.Second)
			}
			got := b.wait(sub.ID)
			if got.Outcome != lane.Completed {
				t.Fatalf("settled %s %s %s: %q", got.Outcome, got.Reason, got.Message, got.Text)
			}
			ran := slices.Sorted(slices.Values(b.executor.commands()))
			if want := []string{"echo beside", "rm deep", "rm x"}; !slices.Equal(ran, want) {
				t.Errorf("ran %q", ran)
			}
			b.expectTold(sub.SessionID, map[string]int{"requested": 2, "approved": 2})
			b.checkTree(sub.SessionID, 1)
		})
		return commits
	}
	commits := run(t, 0, false)
	for n := 1; n <= commits; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprint(n, after), func(t *testing.T) { run(t, n, after) })
		}
	}
}

// revive starts a successor if the replica has died.
func (b *bench) revive(def agent.Definition) {
	select {
	case <-b.done:
		b.done <- nil
		b.start(def)
	default:
	}
}

// A call of which another request would be sent than was approved is not made.
func TestChangedArgumentsAreNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", "rm x")
		a := b.asked()
		b.parked(sub)
		other := approval.Decision{Tenant: a.Tenant, ID: a.ID, Digest: []byte("other"), Approve: true, By: alice}
		if _, _, err := approval.NewService(b.store, nil).Decide(t.Context(), other); err == nil ||
			!strings.Contains(err.Error(), "digest") {
			t.Errorf("decided about another digest: %v", err)
		}
		b.counted.changes("rm x", "rm /")
		b.decide(a)
		got := b.wait(sub.ID)
		if !strings.Contains(got.Text, "not what was approved") || len(b.executor.ran) > 0 {
			t.Errorf("settled %s: %q; %q ran", got.Outcome, got.Text, b.executor.ran)
		}
	})
}

func TestGrantForTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", "rm x")
		b.decide(b.asked(), func(d *approval.Decision) { d.Scope = approval.Session })
		b.expect(b.wait(sub.ID), lane.Completed, "rm x")
		b.expect(b.wait(b.submit("s", "rm y").ID), lane.Completed, "rm y") // nobody is asked
		other := b.submit("other", "rm z")
		b.decide(b.asked(), denied("no"))
		b.wait(other.ID)
		grants, err := b.store.LaneGrants(t.Context(), sub.SessionID)
		if err != nil || len(grants) != 1 {
			t.Fatalf("grants: %+v, %v", grants, err)
		}
		if _, err := b.store.RevokeGrant(t.Context(), session.DefaultTenant, grants[0].ID, alice); err != nil {
			t.Fatal(err)
		}
		again := b.submit("s", "rm again")
		b.decide(b.asked(), denied("revoked"))
		b.wait(again.ID)
		if got := strings.Join(b.executor.ran, ","); got != "rm x,rm y" {
			t.Errorf("%s ran", got)
		}
	})
}

// The rules of who asks hold for its sub-agents too, and the approval shows the whole way.
func TestSubAgentsAreGatedByThoseAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", `tool task: {"description":"second","prompt":`+
			`"tool task: {\"prompt\":\"rm deep\",\"description\":\"third\"}"}`)
		a := b.asked()
		b.parked(sub)
		var path []string
		for _, stage := range a.Subject.Path {
			path = append(path, stage.Agent+"/"+stage.Description)
		}
		if got := strings.Join(path, " "); got != "shell/ shell/second shell/third" || a.SessionID == sub.SessionID ||
			a.LaneID != sub.SessionID {
			t.Errorf("the way is %s", got)
		}
		time.Sleep(10 * time.Minute)
		b.decide(a)
		b.expect(b.wait(sub.ID), lane.Completed, "rm deep")
		b.checkTree(sub.SessionID, 2)
	})
}

// Parked lanes are rows only: no run, no goroutine.
func TestManyParkedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		b := newBench(t, ruled(askAbout()))
		var subs []submission.Submission
		for i := range n {
			subs = append(subs, b.submit(fmt.Sprint("s", i), "rm x"))
		}
		asked := b.open()
		if len(asked) != n {
			t.Fatalf("%d approvals are open", len(asked))
		}
		for _, sub := range subs {
			b.parked(sub)
		}
		commits := atomic.Int32{}
		b.counted.before = func(lane.Commit) { commits.Add(1) }
		time.Sleep(10 * time.Minute)
		if commits.Load() > 0 || len(b.executor.ran) > 0 {
			t.Errorf("%d commits while all rest, %d commands ran", commits.Load(), len(b.executor.ran))
		}
		for _, a := range asked[:10] {
			b.decide(a)
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(b.executor.ran) != 10 {
			t.Errorf("%d commands ran", len(b.executor.ran))
		}
	})
}

// A function of control that was approved runs once. What was begun when its owner died is not known to be undone.
func TestGatedFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		b := newBench(t, pinging())
		b.die()
		run := func(context.Context, tool.Call) (tool.Reply, error) {
			runs.Add(1)
			return tool.Answer{Text: "pong"}, nil
		}
		b.sources = append(loop.Sources(), function(t, tool.AtMostOnce, run))
		def := pinging()
		def.Approve = []approval.Rule{{Tools: []string{"ping"}, Do: approval.DoAsk}}
		b.start(def)
		sub := b.submit("s", askPing)
		a := b.asked()
		b.parked(sub)
		b.die()
		b.start(def)
		b.decide(a)
		b.expect(b.wait(sub.ID), lane.Completed, "pong")
		if runs.Load() != 1 {
			t.Errorf("it ran %d times", runs.Load())
		}
	})
}

// A condition that cannot be told asks.
func TestConditionThatFailsAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(approval.Rule{Tools: []string{"bash"}, When: `args.nothing == 1`, Do: approval.DoAllow}))
		sub := b.submit("s", "echo x")
		a := b.asked()
		if !strings.Contains(a.Subject.Asks[0].Failed, "nothing") {
			t.Errorf("asked because %+v", a.Subject.Asks)
		}
		b.decide(a)
		b.expect(b.wait(sub.ID), lane.Completed, "x")
	})
}
