package ask

import (
	"encoding/json"
	"slices"

	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// The tools of steps that are not calls of one: no model is ever offered them. What they render is looked at for
// whether it is an error.
var (
	reading = define(tool.Spec{
		Name: "read", Safety: tool.Pure,
		How: tool.ByExecutor(func(tool.ReadFile, tool.FileReply) tool.Result { return tool.Result{} }),
	})
	writing = define(tool.Spec{
		Name: "write", Safety: tool.Idempotent,
		How: tool.ByExecutor(func(tool.WriteFile, tool.WriteReply) tool.Result { return tool.Result{} }),
	})
	shells = map[tool.Safety]*tool.Tool{
		tool.Pure: shell(tool.Pure), tool.Idempotent: shell(tool.Idempotent),
		tool.AtMostOnce: shell(tool.AtMostOnce),
	}
)

func shell(s tool.Safety) *tool.Tool {
	return define(tool.Spec{Name: "shell", Safety: s, How: running(nil)})
}

// running has a command carried out of which some exit codes are success.
func running(codes []int) tool.How {
	return tool.ByExecutor(func(_ tool.Exec, r tool.ExecReply) tool.Result {
		return tool.Result{IsError: r.TimedOut || r.Cancelled || !succeeds(codes, r.ExitCode)}
	})
}

func succeeds(codes []int, exit int) bool {
	return len(codes) == 0 && exit == 0 || slices.Contains(codes, exit)
}

// shellTool is the tool of one shell step.
func shellTool(do *workflow.Shell) *tool.Tool {
	return shells[safetyOf(do.Safety)].With(running(do.ExitCodes))
}

func define(s tool.Spec) *tool.Tool {
	s.Source, s.Subject, s.Schema = "the steps of workflows", "path", json.RawMessage(`{"type": "object"}`)
	t, err := tool.Define(s)
	if err != nil {
		panic(err) // the specs are constants: any test finds this
	}
	return t
}
