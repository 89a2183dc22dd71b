package loop_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// A prompt that got no answer is told as one, whoever owns the session by then: two prompts never follow each other.
func TestAPromptWithoutAnAnswerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, told := remembering(t)
		if got := b.wait(b.submit("s", "fail: no such luck").ID); got.Outcome != lane.Failed {
			t.Fatalf("settled %s", got.Outcome)
		}
		b.executor.on = func(*call.Order) tool.Reply { return nil } // it runs until it is cancelled
		sub := b.submit("s", "echo long")
		synctest.Wait()
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		if got := b.wait(sub.ID); got.Outcome != lane.Aborted {
			t.Fatalf("settled %s", got.Outcome)
		}
		want := []string{
			"user: fail: no such luck", "assistant: [This prompt got no answer: it failed. no such luck]",
			"user: echo long", `assistant: call 1 bash {"command":"echo long"}`, "tool: result 1 ",
			"assistant: [This prompt got no answer: it was aborted. an abort was requested; confirmed: nothing of it " +
				"runs any more]",
			"user: say: on",
		}
		check := func() {
			t.Helper()
			got := told.history()
			for i := range got {
				if strings.HasPrefix(got[i], "tool: result 1 ") {
					got[i] = "tool: result 1 "
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the model was told (-want +got):\n%s", diff)
			}
		}
		b.expect(b.wait(b.submit("s", "say: on").ID), lane.Completed, "on")
		check()
		b.die()
		b.start(agent.Shell())
		b.expect(b.wait(b.submit("s", "say: again").ID), lane.Completed, "again")
		want = append(want, "assistant: on", "user: say: again")
		check()
	})
}

func TestTheReasonInAConversationIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, told := remembering(t)
		b.wait(b.submit("s", "fail: "+strings.Repeat("é", 5000)).ID)
		b.expect(b.wait(b.submit("s", "say: on").ID), lane.Completed, "on")
		if got := told.history()[1]; len(got) > 600 || !strings.HasSuffix(got, "é…]") {
			t.Errorf("%d bytes: %s", len(got), got)
		}
	})
}
