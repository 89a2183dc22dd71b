package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// results are what the model was told of its calls, in the conversation of a session.
func (b *bench) results(sessionID string) (texts []string) {
	b.Helper()
	entries, err := b.store.Entries(b.Context(), sessionID, 0, 100)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if e.Kind == session.ToolResult {
			texts = append(texts, e.Message.Content[0].Text)
		}
	}
	return texts
}

// A loop that is to end when it is taken over shows what its calls came to as any other does: what is known is not told
// as unknown, and what a sub-agent has answered not as a tool that is not there.
func TestResultsOfALoopThatIsToEndWhenItIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		b.executor.on = func(o *call.Order) tool.Reply {
			if strings.Contains(o.Request.(tool.Exec).Command, "done") {
				return echo(o)
			}
			return nil
		}
		sub := b.submit("s", "sleep 1000\n& echo done\n& task: say: answered\n& task: sleep 2000")
		time.Sleep(time.Second)
		b.die()
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		b.start(delegating())
		got := b.wait(sub.ID)
		b.expect(got, lane.Aborted, "")
		const cancelled = "Command was cancelled before it finished."
		told := b.results(sub.SessionID)
		if len(told) != 4 || !strings.Contains(told[0], cancelled) || told[1] != "done" || told[2] != "answered" ||
			told[3] != "The call was cancelled." {
			t.Errorf("the agent was told %q", told)
		}
		for _, k := range b.children(sub.SessionID) {
			if told := b.results(k.ID); len(told) > 1 || len(told) == 1 && !strings.Contains(told[0], cancelled) {
				t.Errorf("the sub-agent was told %q", told)
			}
		}
	})
}

// A command is not begun for a head that has ended meanwhile, to be ended with it.
func TestNoCommandBeginsForWhatIsToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.counted.after = func(c lane.Commit) {
			if len(c.Steps[0].Calls) == 0 {
				return
			}
			if _, err := b.service.Abort(t.Context(), session.DefaultTenant, c.Steps[0].LoopID); err != nil {
				t.Error(err)
			}
			synctest.Wait() // the owner has heard of it
		}
		sub := b.submit("s", "echo one")
		got := b.wait(sub.ID)
		b.expect(got, lane.Aborted, "")
		if ran := b.executor.commands(); len(ran) > 0 || !got.Cancellation.Confirmed {
			t.Errorf("ran %q; %s", ran, got.Message)
		}
	})
}

// What cannot be read of a conversation keeps no call open: what each came to is recorded with the end of the loop.
func TestCallsOfAConversationThatCannotBeReadEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, delegating())
		orders := map[string]*call.Order{}
		b.executor.on = func(o *call.Order) tool.Reply { orders[o.Request.(tool.Exec).Command] = o; return nil }
		sub := b.submit("s", "echo one\n& echo two")
		synctest.Wait()
		b.counted.unreadable(sub.SessionID)
		b.die()
		b.executor.results = map[string]tool.Reply{}
		for _, o := range orders {
			b.executor.known[o.Call.ID], b.executor.results[o.Call.ID] = call.FinishedThere, echo(o)
		}
		b.start(delegating())
		if got := b.wait(sub.ID); got.Reason != lane.ReasonUnreadable {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
		for _, o := range orders {
			if got, err := b.store.GetCall(t.Context(), o.Call.ID); err != nil || got.State != call.Done {
				t.Errorf("a call is %s, %v", got.State, err)
			}
			if !b.executor.acked[o.Call.ID] {
				t.Error("its executor keeps the result")
			}
		}
		b.checkTree(sub.SessionID, 0)
	})
}
