package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// Output that its executor could not read is not waited for. The stream says how much is missing, and the model why.
func TestUnreadableOutputIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply {
			lost := tool.Captured{Size: 9, Cut: 9, Error: "input/output error"}
			return tool.ExecReply{Stdout: lost, Confirmed: true}
		}
		began := time.Now()
		f, err := b.service.Prompt(t.Context(), submission.Input{Key: key("s"), Message: "print"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		skipped, failed := int64(0), false
		for batch, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range batch {
				if e.Type == event.ToolOutput {
					skipped += e.Output.Skipped
				}
				failed = failed || e.Type == event.ToolFinished && e.Call.IsError
			}
		}
		if skipped != 9 || !failed || !strings.Contains(f.Submission.Text, "input/output error") {
			t.Errorf("%d bytes are missing, failed %v, the model has %q", skipped, failed, f.Submission.Text)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
