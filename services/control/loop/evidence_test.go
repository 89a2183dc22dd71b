package loop_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// reconnect makes the executor's connection a new one.
func (b *bench) reconnect() {
	b.executor.mu.Lock()
	b.executor.epoch++
	b.executor.mu.Unlock()
	b.bus.Publish(wake.Executor("x1"))
	synctest.Wait()
}

func (b *bench) say(c call.Call, executor string, body call.ReportBody) bool {
	return b.worker.Deliver(call.Report{Executor: executor, CallID: c.ID, LaneID: c.LaneID, Body: body})
}

// What an executor does not know proves that it never ran only if its journal is the one that it had at the dispatch,
// whatever its clock says.
func TestAnotherJournalProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(o *call.Order) tool.Reply { return nil }
		sub := b.submit("s", "rm -rf build")
		synctest.Wait()
		b.executor.mu.Lock()
		clear(b.executor.known)
		b.executor.journal = "wiped"
		b.executor.mu.Unlock()
		b.reconnect()
		got := b.wait(sub.ID)
		if len(b.executor.ran) != 1 || !strings.Contains(got.Text, "unknown") {
			t.Errorf("ran %q, answered %q", b.executor.ran, got.Text)
		}
	})
}

// A result that was recorded and acknowledged while nobody ran the session is what the call came to, not an unknown
// outcome.
func TestTombstoneLeadsToTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.builtin = "x1" // whose calls are not read back in every sweep
		b.die()
		b.start(agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo recorded")
		synctest.Wait()
		body, err := tool.Encode(echo(running))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.store.CompleteCall(t.Context(), call.Outcome{
			CallID: running.Call.ID, State: call.Done,
			Reply: body,
		}); err != nil {
			t.Fatal(err)
		}
		b.executor.mu.Lock()
		b.executor.known[running.Call.ID] = call.TombstoneThere
		b.executor.mu.Unlock()
		b.reconnect()
		b.expect(b.wait(sub.ID), lane.Completed, "recorded")
	})
}

// An executor can only report on calls that were assigned to it, and cannot keep their own from doing so.
func TestForeignReportsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo mine")
		synctest.Wait()
		forged := tool.ExecReply{Stdout: tool.Captured{Head: []byte("forged")}}
		if b.say(running.Call, "intruder", call.Ended{Reply: forged}) {
			t.Error("a foreign report was taken")
		}
		if !b.say(running.Call, "x1", call.Ended{Reply: echo(running)}) {
			t.Error("the executor's own report was refused")
		}
		b.expect(b.wait(sub.ID), lane.Completed, "mine")
	})
}

// A piece of output that got lost on its way is asked for again; what comes after it is neither shown nor acknowledged
// before.
func TestLostOutputIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		f, err := b.service.Prompt(t.Context(), submission.Input{Key: key("s"), Message: "print"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		b.say(running.Call, "x1", call.Output{Data: []byte("one ")})
		b.say(running.Call, "x1", call.Output{Offset: 8, Data: []byte("three")})
		synctest.Wait()
		b.executor.mu.Lock()
		from := b.executor.attached[running.Call.ID]
		b.executor.mu.Unlock()
		if from != 4 {
			t.Errorf("attached from %d, want 4", from)
		}
		b.say(running.Call, "x1", call.Output{Offset: 4, Data: []byte("two three")})
		b.say(running.Call, "x1", call.Ended{Reply: echo(running)})
		var shown strings.Builder
		for batch, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range batch {
				if e.Type == event.ToolOutput {
					shown.Write(e.Output.Data)
				}
			}
		}
		if shown.String() != "one two three" {
			t.Errorf("shown %q", shown.String())
		}
	})
}

// flaky answers the first reads of a definition with a failure of the database.
type flaky struct {
	agents
	failures atomic.Int32
}

func (f *flaky) Definition(ctx context.Context, digest string) (agent.Definition, error) {
	if f.failures.Add(-1) >= 0 {
		return agent.Definition{}, errAbsent
	}
	return f.agents.Definition(ctx, digest)
}

// A database that is away for a moment costs a submission time and nothing else.
func TestUnreadableDefinitionIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		f := &flaky{agents: agents{agent.Shell()}}
		f.failures.Store(3)
		b.definitions = f
		b.start(agent.Shell())
		b.expect(b.wait(b.submit("s", "echo patient").ID), lane.Completed, "patient")
	})
}
