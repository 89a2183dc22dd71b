package runner

import (
	"cmp"
	"context"
	"maps"
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
func (w *work) call() (err error) {
	var t *tool.Tool
	switch q := w.request.(type) {
	case drive.Shell:
		w.vars = make(map[string]*string, len(q.Env))
		for name, value := range q.Env {
			w.vars[name] = &value
		}
	case drive.Call:
		var own agent.Env
		if t, own, err = w.find(q.Step); err != nil {
			return err
		}
		if w.kit.Tools, err = tool.NewSet(t); err != nil {
			return err
		}
		if w.vars, err = variables(own, t, w.Lookup); err != nil {
			return err
		}
	}
	w.place()
	w.asked, err = ask.Of(w.request, t)
	return err
}

// variables are those that a call of a tool has: those of the agent that has the tool, and the tool's own over them.
func variables(own agent.Env, t *tool.Tool, lookup agent.Lookup) (map[string]*string, error) {
	all := agent.Env{}
	maps.Copy(all, own)
	maps.Copy(all, t.Env)
	values, err := all.Expand(lookup)
	return values.Map(), err
}

// place says where the calls of the step run.
func (w *work) place() {
	do := w.do.Step.Do
	w.kit.Sandbox = ask.Sandbox(w.def, do)
	if shell, ok := do.(*workflow.Shell); ok {
		w.kit.Apart = shell.Sandbox != nil
	}
}

// find is the tool that a call step calls, and the variables of the agent that has it.
func (w *work) find(do *workflow.Call) (t *tool.Tool, own agent.Env, err error) {
	t, ok, err := ask.Tool(w.def, do)
	if ok || err != nil {
		return t, nil, err
	}
	of := loop.Offer{Loop: w.row, Executor: w.Executor()}
	name, offered := strings.CutPrefix(do.Tool, agent.Offered)
	if offered {
		of.Definition = agent.Definition{Name: w.def.Name, Tools: []string{do.Tool}}
		w.kit.Demands, w.kit.Offered = []string{name}, []string{name}
	} else if of.Definition, err = w.definition(cmp.Or(do.Agent, w.def.Agent)); err != nil {
		return nil, nil, err
	}
	if w.def.Sandbox != nil {
		of.Definition.Sandbox = *w.def.Sandbox
	}
	t, err = w.Loops.Tool(w.ctx, of, name)
	return t, of.Definition.Env, err
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
