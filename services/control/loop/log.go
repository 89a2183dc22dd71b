package loop

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// log writes what an operator wants to know of a commit that was made: calls that failed or wait, and how the
// submission settled.
func (l *loop) log(s lane.Step) {
	for i := range s.Events {
		switch e := &s.Events[i]; e.Type {
		case event.ToolFinished:
			if e.Call.IsError || e.Call.State != call.Done.String() {
				l.logFailed(e.Call)
			}
		case event.ModelWaiting:
			l.logger().Info("model call waits", "model", l.model().String(), "reason", e.Wait.Reason, "waited",
				time.Since(e.Wait.Since), "until", e.Wait.Until, "message", e.Wait.Message)
		case event.ApprovalRequested:
			l.logger().Info("tool call waits for an approval", "call_id", e.Call.ID, "tool", e.Call.Tool, "approval_id",
				e.Approval.ID, "rules", e.Approval.Rules)
		case event.ApprovalDecided:
			l.logger().Info("approval decided", "call_id", e.Call.ID, "tool", e.Call.Tool, "approval_id", e.Approval.ID,
				"state", e.Approval.State, "by", e.Approval.By)
		case event.ToolWaiting:
			if e.Wait.Reason == waitApproval {
				continue
			}
			l.logger().Info("tool call waits for an executor", "call_id", e.Call.ID, "tool", e.Call.Tool, "reason",
				e.Wait.Reason, "executor_id", e.Wait.Executor, "labels", e.Wait.Labels)
		}
	}
	if s.End != nil {
		l.logSettled(s.End)
	}
}

// logger names the loop. It is made when there is something to say, which is seldom.
func (l *loop) logger() *slog.Logger {
	return l.tree.deps.Log.With("session_id", l.row.SessionID, "submission_id", l.row.ID)
}

func (l *loop) logFailed(e *event.Call) {
	attrs := []any{
		"call_id", e.ID, "tool", e.Tool, "executor_id", e.Executor, "state", e.State, "duration", e.Duration,
	}
	if c := l.turn.byID[e.ID]; c != nil {
		if r, ok := c.reply.(slog.LogValuer); ok {
			attrs = append(attrs, slog.Any("", r)) // its attributes, without a group
		}
	}
	l.logger().Info("tool call failed", attrs...)
}

// agent is the name of the agent at work. Of a sub-agent whose definition could not be had it is the name that was
// asked for.
func (l *loop) agent() string {
	if l.root() {
		return l.row.Key.Agent
	}
	return cmp.Or(l.as.def.Name, l.origin.request.Agent)
}

func (l *loop) logSettled(z *lane.Settlement) {
	attrs := []any{
		"session_id", l.row.SessionID, "submission_id", l.row.ID,
		"agent", l.agent(), "outcome", string(z.Outcome), "turns", l.row.Turn, "duration", time.Since(l.begun),
	}
	level := slog.LevelInfo
	if z.Outcome != lane.Completed {
		attrs = append(attrs, "reason", z.Reason, "error", z.Message)
	}
	if z.Outcome != lane.Completed && z.Outcome != lane.Aborted {
		level = slog.LevelWarn
	}
	what := "submission settled"
	if !l.root() {
		what = "sub-agent ended"
		attrs = append(attrs, "root", l.row.RootID, "call_id", l.row.ParentCall)
	}
	l.tree.deps.Log.Log(context.Background(), level, what, attrs...)
}
