package loop

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// runShell has a caller's command run, by a call of bash that no model has asked for. The rules of the agent hold for
// it, too.
func (l *loop) runShell(ctx context.Context) error {
	if l.as.def.Sandbox.Kind == agent.SandboxNone {
		return l.settle(ctx, Stop{lane.Failed, "NO_SANDBOX", "the agent has no sandbox, so that no command can run"})
	}
	m, err := shellCall(l.row.ID, l.as.Tools.Names()[0], *l.row.Options.Shell)
	if err != nil {
		return err
	}
	asked := l.read(m)
	if err := asked[0].Refused; err != nil {
		stop := Stop{lane.Failed, "COMMAND_REFUSED", err.Error()}
		if e, ok := errs.Public(err); ok {
			stop.Reason = e.Reason()
		}
		return l.settle(ctx, stop)
	}
	s := lane.Step{Progress: &lane.Progress{Phase: lane.PhaseTools, Turn: l.row.Turn, Usage: l.row.Usage}}
	e := l.entry(&s, session.Assistant, m)
	return l.callTools(ctx, s, e, asked)
}

// shellCall is an answer that asks for a command. An owner that takes over before it is committed makes the same.
func shellCall(id, name string, sh lane.Shell) (model.Message, error) {
	args := map[string]any{"command": sh.Command}
	if sh.Cwd != "" {
		args["cwd"] = sh.Cwd
	}
	if n := sh.Timeout; n > 0 {
		if n == math.Trunc(n) {
			n -= 0.001 // a whole number of thousands is taken as milliseconds of a model that has the unit wrong
		}
		args["timeout"] = n
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return model.Message{}, fmt.Errorf("encoding a command: %w", err)
	}
	return model.Message{Role: model.Assistant, Stop: model.StopTools, Content: []model.Block{{
		Type: model.ToolCallBlock, CallID: "shell_" + strings.ReplaceAll(id, "-", ""), Tool: name,
		Args: raw,
	}}}, nil
}

// ranShell ends a loop with the result of its command. One that was made to end meanwhile has no result but the record
// of the call, which says what became of that.
func (l *loop) ranShell(s *lane.Step, stop *Stop) (end Stop, closes bool) {
	if stop != nil || len(s.Entries) == 0 {
		return Stop{}, false
	}
	last := s.Entries[len(s.Entries)-1]
	l.ending.answer = &answered{entry: last.Seq, text: last.Text()}
	s.Progress.Turn = l.row.Turn
	for _, c := range l.Calls() {
		if reply, failed := c.Result().(tool.Failure); failed {
			return Stop{lane.Failed, reply.Reason, reply.Message}, true
		}
	}
	return Stop{Outcome: lane.Completed}, true
}
