package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/command"
)

// about is a rule about tools.
func about(do approval.Do, when string, tools ...string) approval.Rule {
	return approval.Rule{Tools: tools, When: when, Do: do}
}

// The rules of an agent hold for the command of a caller too: it runs with the agent's secrets. It waits until somebody
// has decided, over a death, and what it came to is the submission's.
func TestCommandOfACallerIsGated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := ruled(about(approval.DoAsk, "", "*"))
		b := newBench(t, def)
		sub := b.shell("echo x")
		a := b.asked()
		b.parked(sub)
		b.die()
		b.start(def)
		b.decide(a)
		b.expect(b.wait(sub.ID), lane.Completed, "x")
		sub = b.shell("echo y")
		b.decide(b.asked(), denied("no"))
		got := b.wait(sub.ID)
		if got.Outcome != lane.Failed || got.Reason != "DENIED" || !strings.Contains(got.Message, "by alice: no") {
			t.Errorf("settled %s %s %s", got.Outcome, got.Reason, got.Message)
		}
		if got := strings.Join(b.executor.ran, ","); got != "echo x" {
			t.Errorf("%s ran", got)
		}
	})
}

// Conditions are about the arguments of a tool, whatever request is made of them, and so is what people are shown.
func TestConditionsAreAboutArguments(t *testing.T) {
	draws := func(d *command.Definition) {
		d.Command, d.Arguments = "./draw", []byte(`{"type":"object","properties":{"n":{"type":"integer"}}}`)
	}
	for name, c := range map[string]struct {
		def  agent.Definition
		tool string
	}{
		"of a command tool":          {commanding(draws), "draw"},
		"of a tool of an executor":   {offering(), "cad"},
		"of a tool that is built in": {agent.Shell(), "bash"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				arg, args := "n", [3]string{`{"n":1}`, `{"n":2}`, `{"n":3}`}
				deny, ask := `has(args.n) && args.n == 3`, `has(args.n) && args.n == 2`
				if c.tool == "bash" {
					arg, args = "command", [3]string{`{"command":"1"}`, `{"command":"2"}`, `{"command":"3"}`}
					deny, ask = `has(args.command) && args.command == "3"`, `args.command == "2"`
				}
				c.def.Approve = []approval.Rule{
					about(approval.DoDeny, deny, c.tool), about(approval.DoAsk, ask, "*"),
				}
				b := newBench(t, c.def)
				b.executor.tools = cad(tool.AtMostOnce)
				b.executor.on = drawing
				prompt := func(i int) submission.Submission { return b.submit("s", "tool "+c.tool+": "+args[i]) }
				if got := b.wait(prompt(0).ID); got.Outcome != lane.Completed {
					t.Errorf("no rule holds, and it settled %s %s", got.Outcome, got.Message)
				}
				if got := b.wait(prompt(2).ID); !strings.Contains(got.Text, "the rules of the agent deny this call") {
					t.Errorf("denied, and it settled with %q", got.Text)
				}
				sub := prompt(1)
				a := b.asked()
				if got := string(a.Subject.Arguments); !strings.Contains(got, `"`+arg+`":`) ||
					strings.Contains(got, `"args"`) || strings.Contains(got, "./draw") {
					t.Errorf("people are shown %s", got)
				}
				b.decide(a)
				if got := b.wait(sub.ID); got.Outcome != lane.Completed || strings.Contains(got.Text, "Not run") {
					t.Errorf("approved, and it settled %s %q", got.Outcome, got.Text)
				}
			})
		})
	}
}

// A tool that went away while its call waited is not taken for one whose arguments were changed.
func TestApprovedToolIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := offering()
		def.Approve = []approval.Rule{about(approval.DoAsk, "", "cad")}
		b := newBench(t, def)
		b.executor.tools, b.executor.on = cad(tool.AtMostOnce), drawing
		b.executor.tools[0].Timeout = time.Minute
		sub := b.submit("s", `tool cad: {"n": 1}`)
		a := b.asked()
		b.parked(sub)
		b.executor.tools = nil
		b.decide(a)
		got := b.wait(sub.ID)
		if !strings.Contains(got.Text, "the tool of which this call was approved is not offered any more") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
	})
}

// The tools by which a loop ends are gated by their names, and not by patterns.
func TestFinishIsGatedByItsName(t *testing.T) {
	for pattern, asks := range map[string]bool{"*": false, "finish": true} {
		t.Run(pattern, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, ruled(about(approval.DoAsk, "", pattern)))
				sub := b.want(sized, three)
				if all := b.open(); (len(all) == 1) != asks {
					t.Fatalf("%d approvals are open", len(all))
				} else if asks {
					b.parked(sub)
					b.decide(all[0])
				}
				got := b.wait(sub.ID)
				if got.Outcome != lane.Completed || string(got.Data) != `{"lines":3}` {
					t.Errorf("settled %s %s with %s", got.Outcome, got.Message, got.Data)
				}
			})
		})
	}
}

// An approved call whose answer cannot be read for a while is made once it can.
func TestOutageWhileACallIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		sub := b.submit("s", "rm x")
		a := b.asked()
		b.parked(sub)
		b.counted.fails("Entries", errAbsent)
		b.decide(a)
		time.Sleep(20 * time.Second)
		b.counted.fails("Entries", nil)
		b.expect(b.wait(sub.ID), lane.Completed, "rm x")
		if len(b.executor.ran) != 1 {
			t.Errorf("%q ran", b.executor.ran)
		}
		b.expectTold(sub.SessionID, map[string]int{"requested": 1, "approved": 1})
	})
}

// Approvals that cannot be read, while all else in the database works, do not keep a loop waiting for ever.
func TestUnreadableApprovalsAreGivenUp(t *testing.T) {
	for _, verb := range []string{"TurnApprovals", "ExpireApproval"} {
		for _, err := range permanent {
			t.Run(verb+", "+err.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, ruled(askAbout(within(time.Minute))))
					sub := b.submit("s", "rm x")
					b.asked()
					b.counted.fails(verb, err)
					began := time.Now()
					got := b.wait(sub.ID)
					if took := time.Since(began); got.Outcome != lane.Interrupted || took > 20*time.Minute {
						t.Errorf("settled %s %s after %s: %s", got.Outcome, got.Reason, took, got.Message)
					}
					if len(b.executor.ran) > 0 {
						t.Errorf("%q ran", b.executor.ran)
					}
				})
			})
		}
	}
}

// Whoever steers a submission whose lane rests is heard after the decision, and the lane rests on.
func TestSteerWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		host := b.submit("s", "rm x")
		a := b.asked()
		b.parked(host)
		steer := b.send("echo steered", submission.Steer)
		time.Sleep(time.Minute)
		b.parked(host)
		if len(b.executor.ran) > 0 {
			t.Errorf("%q ran before the decision", b.executor.ran)
		}
		b.decide(a)
		b.expect(b.wait(host.ID), lane.Completed, "steered")
		if got := b.wait(steer.ID); got.Outcome != lane.Completed {
			t.Errorf("the steer settled %s %s", got.Outcome, got.Message)
		}
		if got := strings.Join(b.executor.ran, ","); got != "rm x,echo steered" {
			t.Errorf("%s ran", got)
		}
		b.expectTold(host.SessionID, map[string]int{"requested": 1, "approved": 1})
	})
}

// Whoever interrupts a submission whose lane rests ends it, and the call is withdrawn.
func TestInterruptWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		first := b.submit("s", "rm x")
		a := b.asked()
		b.parked(first)
		b.expect(b.wait(b.send("echo instead", submission.Interrupt).ID), lane.Completed, "instead")
		if got := b.wait(first.ID); got.Outcome != lane.Aborted {
			t.Errorf("the first settled %s %s", got.Outcome, got.Message)
		}
		if got, err := b.store.GetApproval(t.Context(), a.Tenant, a.ID); err != nil || got.State != approval.Withdrawn {
			t.Errorf("the approval: %s, %v", got.State, err)
		}
		if got := strings.Join(b.executor.ran, ","); got != "echo instead" {
			t.Errorf("%s ran", got)
		}
	})
}

// A summary that is asked for while a call waits comes after it: no call is cut off from its result.
func TestSummaryByHandWhileParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout()))
		b.wait(b.submit("s", "say: before").ID)
		sub := b.submit("s", "rm x")
		a := b.asked()
		b.parked(sub)
		summary := b.compactByHand("s", "key")
		time.Sleep(time.Minute)
		b.parked(sub)
		b.decide(a)
		b.expect(b.wait(sub.ID), lane.Completed, "rm x")
		if got := b.wait(summary.ID); got.Outcome != lane.Completed {
			t.Errorf("the summary settled %s %s %s", got.Outcome, got.Reason, got.Message)
		}
		if kinds := b.kindsOf(sub.SessionID); strings.Contains(kinds, "assistant summary tool_result") {
			t.Errorf("the conversation is %s", kinds)
		}
	})
}

// Who may not decide is refused, and the call waits on.
func TestDecisionsAreRefused(t *testing.T) {
	who := func(role, token string) audit.Who { return audit.Who{Kind: "client", Role: role, TokenID: token} }
	for name, c := range map[string]struct {
		by     audit.Who
		digest string
		reason string
	}{
		"of a user":           {who("user", "u"), "", "APPROVAL_ROLE"},
		"of who has asked":    {who("approver", "asker"), "", "APPROVAL_OTHER"},
		"of the same role":    {who("approver", "third"), "", "APPROVAL_OTHER"},
		"about another thing": {who("admin", "a"), "x", "APPROVAL_DIGEST"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, ruled(askAbout(func(r *approval.Rule) { r.Other = true })))
				got, err := b.service.Submit(t.Context(), submission.Input{
					Key: key("s"), Message: "rm x", By: &model.Speaker{TokenID: "asker", Role: "approver"},
				})
				if err != nil {
					t.Fatal(err)
				}
				a := b.asked()
				d := approval.Decision{
					Tenant: a.Tenant, ID: a.ID, Digest: append([]byte(c.digest), a.Digest...), Approve: true, By: c.by,
				}
				_, _, err = approval.NewService(b.store, b.worker).Decide(t.Context(), d)
				if e, ok := errs.Public(err); !ok || e.Reason() != c.reason {
					t.Errorf("refused with %v, want %s", err, c.reason)
				}
				time.Sleep(time.Minute)
				if b.asked(); len(b.executor.ran) > 0 {
					t.Errorf("%q ran", b.executor.ran)
				}
				b.decide(a, func(d *approval.Decision) { d.By = who("admin", "a") })
				b.expect(b.wait(got.Submission.ID), lane.Completed, "rm x")
			})
		})
	}
}

// A grant covers what the rule asks of which it was given, and nothing that another rule asks of the same tool.
func TestGrantIsOfItsRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, ruled(askAbout(), about(approval.DoAsk, `args.command.startsWith("mv")`, "bash")))
		sub := b.submit("s", "rm x")
		b.decide(b.asked(), func(d *approval.Decision) { d.Scope = approval.Session })
		b.expect(b.wait(sub.ID), lane.Completed, "rm x")
		sub = b.submit("s", "mv x y")
		b.decide(b.asked(), denied("no"))
		b.wait(sub.ID)
		if got := strings.Join(b.executor.ran, ","); got != "rm x" {
			t.Errorf("%s ran", got)
		}
	})
}
