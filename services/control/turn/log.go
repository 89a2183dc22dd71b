package turn

import (
	"log/slog"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// log writes what an operator wants to know of a commit that was made: calls that failed or wait.
func (t *Strand) log(s lane.Step) {
	for i := range s.Events {
		switch e := &s.Events[i]; e.Type {
		case event.ToolFinished:
			if e.Call.IsError || e.Call.State != call.Done.String() {
				t.logFailed(e.Call)
			}
		case event.ApprovalRequested:
			t.Log().Info("tool call waits for an approval", "call_id", e.Call.ID, "tool", e.Call.Tool, "approval_id",
				e.Approval.ID, "rules", e.Approval.Rules)
		case event.ApprovalDecided:
			t.Log().Info("approval decided", "call_id", e.Call.ID, "tool", e.Call.Tool, "approval_id", e.Approval.ID,
				"state", e.Approval.State, "by", e.Approval.By)
		case event.ToolWaiting:
			if e.Wait.Reason == waitApproval {
				continue
			}
			t.Log().Info("tool call waits for an executor", "call_id", e.Call.ID, "tool", e.Call.Tool, "reason",
				e.Wait.Reason, "executor_id", e.Wait.Executor, "labels", e.Wait.Labels)
		}
	}
}

// Log names the loop. It is made when there is something to say, which is seldom.
func (t *Strand) Log() *slog.Logger {
	return t.lane.deps.Log.With("session_id", t.who.SessionID, "submission_id", t.who.LoopID)
}

func (t *Strand) logFailed(e *event.Call) {
	attrs := []any{
		"call_id", e.ID, "tool", e.Tool, "executor_id", e.Executor, "state", e.State, "duration", e.Duration,
	}
	if c := t.turn.byID[e.ID]; c != nil {
		if r, ok := c.reply.(slog.LogValuer); ok {
			attrs = append(attrs, slog.Any("", r)) // its attributes, without a group
		}
	}
	t.Log().Info("tool call failed", attrs...)
}
