package loop

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// log writes what an operator wants to know of a commit that was made beside what it says of calls: whether its model
// waits, and how the submission settled.
func (l *loop) log(s lane.Step) {
	for i := range s.Events {
		if e := &s.Events[i]; e.Type == event.ModelWaiting {
			l.Log().Info("model call waits", "model", l.model().String(), "reason", e.Wait.Reason, "waited",
				time.Since(e.Wait.Since), "until", e.Wait.Until, "message", e.Wait.Message)
		}
	}
	if s.End != nil {
		l.logSettled(s.End)
	}
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
	if l.guest != nil {
		what = "agent of a step ended"
		attrs = append(attrs, "run_id", l.row.LaneID, "step", l.guest.Step)
	}
	l.tree.deps.Log.Log(context.Background(), level, what, attrs...)
}
