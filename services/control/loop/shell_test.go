package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func (b *bench) shell(command string) submission.Submission {
	b.Helper()
	got, err := b.service.Shell(b.Context(), submission.Input{Key: key("s"), IdempotencyKey: command},
		submission.Command{Text: command, Cwd: "sub"})
	if err != nil {
		b.Fatal(err)
	}
	return got.Submission
}

// A command of a caller becomes an input, a call and its result, waits for its turn, and asks no model. The agent need
// not have bash.
func TestShell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Tools = []string{"read"}
		b := newBench(t, def)
		first := b.submit("s", "say: one")
		sub := b.shell("echo hi")
		b.expect(b.wait(first.ID), lane.Completed, "one")
		got := b.wait(sub.ID)
		if b.expect(got, lane.Completed, "hi"); got.Usage.Total() > 0 || got.Turn != 1 {
			t.Errorf("a model was asked: %+v", got)
		}
		all, err := b.store.Entries(t.Context(), sub.SessionID, 2, 10)
		if err != nil || len(all) != 3 {
			t.Fatalf("%d entries, %v", len(all), err)
		}
		if want := "Run this shell command:\n\n```sh\necho hi\n```"; all[0].Message.Text() != want {
			t.Errorf("the input is %q", all[0].Message.Text())
		}
		asked := all[1].Message.Content[0]
		if asked.Type != model.ToolCallBlock || asked.Tool != "bash" ||
			string(asked.Args) != `{"command":"echo hi","cwd":"sub"}` {
			t.Errorf("the call is %+v", asked)
		}
		if r := all[2]; r.Kind != session.ToolResult || r.Message.Content[0].CallID != asked.CallID {
			t.Errorf("the result is %+v", r)
		}
		if again := b.shell("echo hi"); again.ID != sub.ID || len(b.executor.ran) != 1 {
			t.Errorf("it ran again: %q", b.executor.ran)
		}
		b.expect(b.wait(b.submit("s", "say: two").ID), lane.Completed, "two")
	})
}

// A command whose replica dies is found again, and its true result is what counts.
func TestShellAcrossADeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub := b.shell("make")
		synctest.Wait()
		b.die()
		for id := range b.executor.known {
			b.executor.known[id] = call.FinishedThere
			b.executor.results = map[string]tool.Reply{id: tool.ExecReply{
				Stdout: tool.Captured{Head: []byte("built\n")}, ExitCode: 2, Confirmed: true,
			}}
		}
		b.start(agent.Shell())
		got := b.wait(sub.ID)
		if got.Outcome != lane.Completed || !strings.Contains(got.Text, "built") || len(b.executor.ran) != 1 {
			t.Errorf("settled %+v after %q", got, b.executor.ran)
		}
	})
}

// An abort ends the command. Without a sandbox there is none.
func TestShellThatDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub := b.shell("sleep 1000")
		synctest.Wait()
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		b.expect(b.wait(sub.ID), lane.Aborted, "")
		b.die()
		def := agent.Shell()
		def.Sandbox.Kind = agent.SandboxNone
		b.start(def)
		if got := b.wait(b.shell("true").ID); got.Outcome != lane.Failed || got.Reason != "NO_SANDBOX" {
			t.Errorf("without a sandbox: %+v", got)
		}
	})
}

// A command that the rules of the agent deny does not run, and its submission says so.
func TestShellThatIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Approve = []approval.Rule{{Tools: []string{"bash"}, Do: approval.DoDeny}}
		b := newBench(t, def)
		got := b.wait(b.shell("true").ID)
		if got.Outcome != lane.Failed || got.Reason != "APPROVAL_RULE" || len(b.executor.ran) != 0 {
			t.Errorf("settled %+v after %q", got, b.executor.ran)
		}
		b.expect(b.wait(b.submit("s", "say: on").ID), lane.Completed, "on")
	})
}

// A command may run for as long as its caller may say.
func TestShellForAsLongAsPossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var within float64
		b.executor.on = func(o *call.Order) tool.Reply {
			within = o.Request.(tool.Exec).TimeoutSeconds
			return echo(o)
		}
		for _, want := range []time.Duration{time.Second, 2000 * time.Second, 24 * time.Hour} {
			got, err := b.service.Shell(t.Context(), submission.Input{Key: key("s")},
				submission.Command{Text: "echo hi", Timeout: want})
			if err != nil {
				t.Fatal(err)
			}
			b.expect(b.wait(got.Submission.ID), lane.Completed, "hi")
			if s := want.Seconds(); within > s || within < s-0.01 {
				t.Errorf("it may run for %v seconds, want %v", within, want)
			}
		}
	})
}
