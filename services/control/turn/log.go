package turn

import (
	"context"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// log writes what an operator wants to know of a commit that was made: calls that failed or wait, and how the
// submission settled.
func (r *run) log(ctx context.Context, c submission.Commit) {
	for i := range c.Events {
		switch e := &c.Events[i]; e.Type {
		case event.ToolFinished:
			if e.Call.IsError || e.Call.State != call.Done.String() {
				r.logFailed(ctx, e.Call)
			}
		case event.ModelWaiting:
			r.deps.Log.InfoContext(
				ctx,
				"model call waits",
				"session_id",
				r.id(),
				"submission_id",
				r.sub.ID,
				"model",
				r.def.Model.String(),
				"reason",
				e.Wait.Reason,
				"waited",
				time.Since(e.Wait.Since),
				"until",
				e.Wait.Until,
				"message",
				e.Wait.Message,
			)
		case event.ToolWaiting:
			r.deps.Log.InfoContext(
				ctx,
				"tool call waits for an executor",
				"call_id",
				e.Call.ID,
				"tool",
				e.Call.Tool,
				"session_id",
				r.id(),
				"submission_id",
				r.sub.ID,
				"reason",
				e.Wait.Reason,
				"executor_id",
				e.Wait.Executor,
				"labels",
				e.Wait.Labels,
			)
		}
	}
	if c.Settle != nil {
		r.logSettled(ctx, c.Settle)
	}
}

func (r *run) logFailed(ctx context.Context, e *event.Call) {
	attrs := []slog.Attr{
		slog.String(
			"call_id",
			e.ID,
		),
		slog.String("tool", e.Tool),
		slog.String("session_id", r.id()),
		slog.String("submission_id", r.sub.ID),
		slog.String("executor_id", e.Executor),
		slog.String("state", e.State),
		slog.Duration("duration", e.Duration),
	}
	if c := r.callByID(e.ID); c != nil {
		if reply, ok := r.reply(*c).(slog.LogValuer); ok {
			attrs = append(attrs, slog.Any("", reply)) // a group without a name: its attributes stand among these
		}
	}
	r.deps.Log.LogAttrs(ctx, slog.LevelInfo, "tool call failed", attrs...)
}

func (r *run) logSettled(ctx context.Context, s *submission.Settlement) {
	attrs := []slog.Attr{
		slog.String("submission_id", r.sub.ID),
		slog.String("session_id", r.id()),
		slog.String("agent", r.key.Agent),
		slog.String(
			"outcome",
			string(s.Outcome),
		),
		slog.Int("turns", r.sub.Turn),
		slog.Duration("duration", time.Since(r.begun)),
	}
	level := slog.LevelInfo
	if s.Outcome != submission.Completed {
		attrs = append(attrs, slog.String("reason", s.Reason), slog.String("error", s.Message))
	}
	if s.Outcome != submission.Completed && s.Outcome != submission.Aborted {
		level = slog.LevelWarn
	}
	r.deps.Log.LogAttrs(ctx, level, "submission settled", attrs...)
}
