package runner

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/run/ask"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// slack is how much longer than the step an executor lets a command run: until then the step is ended from here, with
// what is known of the command.
const slack = 5 * time.Second

// call prepares the call of a shell, read, write or call step.
func (w *work) call() error {
	var t *tool.Tool
	if q, ok := w.request.(drive.Call); ok {
		var err error
		if t, err = w.find(q.Step); err != nil {
			return err
		}
		if w.kit.Tools, err = tool.NewSet(t); err != nil {
			return err
		}
	}
	w.place()
	var err error
	w.asked, err = ask.Of(w.request, t)
	return err
}

// place says where the calls of the step run.
func (w *work) place() {
	do := w.do.Step.Do
	w.kit.Sandbox = ask.Sandbox(w.def, do)
	if shell, ok := do.(*workflow.Shell); ok {
		w.kit.Apart = shell.Sandbox != nil
	}
}

// find is the tool that a call step calls.
func (w *work) find(do *workflow.Call) (*tool.Tool, error) {
	t, ok, err := ask.Tool(w.def, do)
	if ok || err != nil {
		return t, err
	}
	of := loop.Offer{Loop: w.row, Executor: w.Executor()}
	name, offered := strings.CutPrefix(do.Tool, agent.Offered)
	if offered {
		of.Definition = agent.Definition{Name: w.def.Name, Tools: []string{do.Tool}}
		w.kit.Demands, w.kit.Offered = []string{name}, []string{name}
	} else if of.Definition, err = w.definition(cmp.Or(do.Agent, w.def.Agent)); err != nil {
		return nil, err
	}
	if w.def.Sandbox != nil {
		of.Definition.Sandbox = *w.def.Sandbox
	}
	return w.Loops.Tool(w.ctx, of, name)
}

// called carries the call out.
func (w *work) called(ctx context.Context) (drive.Outcome, error) {
	if at := w.limit(); !at.IsZero() {
		w.Within(at)
	}
	c, err := w.calling(ctx, nil)
	if err != nil || c == nil {
		return stopped(), err
	}
	return ask.Outcome(w.request, w.asked.Call, c.Result()), nil
}

// limit is until when an executor lets calls of the step run; zero is for as long as they want.
func (w *work) limit() (at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if due, ok := w.times[w.do.Path]; ok {
		at = due.Add(slack)
	}
	if ends := w.Owner().Ends(); w.stops == 0 && ends.In < 1<<62 {
		if end := time.Now().Add(ends.In + slack); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}
