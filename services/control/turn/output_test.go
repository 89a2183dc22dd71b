package turn_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Output is shown once and in order, however often an executor repeats it, and secrets never, however it is cut.
func TestOutputIsShownOnceAndWithoutSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Env = agent.Env{"KEY": "${SECRET}"}
		b := newBench(t, def)
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		f, err := b.service.Prompt(t.Context(), submission.Input{Key: key("s"), Message: "print"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		synctest.Wait()
		if running.Env["KEY"] != "hunter2hunter2" {
			t.Errorf("the call's environment is %v", running.Env)
		}
		say := func(offset int64, data string) {
			b.worker.Deliver(call.Report{Executor: "x1", CallID: running.Call.ID, SessionID: running.Call.SessionID, Body: call.Output{Offset: offset, Data: []byte(data)}})
		}
		say(0, "before hunter2")
		say(0, "before hunter2") // repeated
		say(7, "hunter2hunter2 after")
		b.worker.Deliver(call.Report{Executor: "x1", CallID: running.Call.ID, SessionID: running.Call.SessionID, Body: call.Ended{
			Reply: tool.ExecReply{Stdout: tool.Captured{Head: []byte("hunter2hunter2")}, Confirmed: true},
		}})
		var shown strings.Builder
		for batch, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range batch {
				if e.Type == event.ToolOutput {
					if e.Output.Offset != int64(shown.Len()) {
						t.Errorf("output at %d, %d bytes were shown", e.Output.Offset, shown.Len())
					}
					shown.Write(e.Output.Data)
				}
			}
		}
		all := shown.String()
		if !strings.HasPrefix(all, "before ") || !strings.HasSuffix(all, " after") || strings.Contains(all, "hunter2") || strings.Contains(f.Submission.Text, "hunter2") {
			t.Errorf("shown %q, answered %q", all, f.Submission.Text)
		}
	})
}
