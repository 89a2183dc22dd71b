package drive

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/workflow"
	"github.com/pawl-dev/pawl/services/control/workflow/expr"
)

// What steps ask for, with their expressions evaluated. Step is what the file says beside that.
type (
	// Shell is a command.
	Shell struct {
		Step  *workflow.Shell
		Env   map[string]string // with secrets
		Cwd   string
		Stdin string
	}
	// Prompt is a message to an agent.
	Prompt struct {
		Step    *workflow.Prompt
		Text    string
		Session string // "" is one of its own
		Images  []string
		Data    any // nil is none
	}
	// Skill is a skill of an agent.
	Skill struct {
		Step    *workflow.Skill
		Session string
		Args    string
	}
	// Read is a file to read.
	Read struct {
		Step *workflow.Read
		Path string
	}
	// Write is a file to write.
	Write struct {
		Step    *workflow.Write
		Path    string
		Content string
	}
	// Call is a call of a tool.
	Call struct {
		Step *workflow.Call
		With any
	}
	// Dispatch is a message to a session of an agent.
	Dispatch struct {
		Step     *workflow.Dispatch
		Instance string // "" is the run's id
		Session  string
		Message  string
	}
	// HTTP is a request.
	HTTP struct {
		Step    *workflow.HTTP
		URL     string
		Headers map[string]string // with secrets
		Body    any               // nil is none
	}
	// Signal is a signal to wait for.
	Signal struct{ Step *workflow.Signal }
	// Approve is a question.
	Approve struct {
		Step    *workflow.Approve
		Text    string
		Details any
		Timeout time.Duration // 0 is none
	}
	// Workflow is another run.
	Workflow struct {
		Step *workflow.Workflow
		With any
		Key  string
	}
)

// evaluator evaluates until something fails.
type evaluator struct {
	ctx context.Context
	in  expr.Values
	err error
}

func (e *evaluator) text(t *expr.Template) (s string) {
	if t != nil && e.err == nil {
		s, e.err = t.Text(e.ctx, e.in)
	}
	return s
}

func (e *evaluator) value(v *workflow.Value) (out any) {
	if v != nil && e.err == nil {
		out, e.err = v.Eval(e.ctx, e.in)
	}
	return out
}

func (e *evaluator) length(d workflow.Duration) (length time.Duration) {
	if e.err == nil {
		length, e.err = d.Eval(e.ctx, e.in)
	}
	return length
}

func (e *evaluator) texts(all map[string]*expr.Template) map[string]string {
	out := make(map[string]string, len(all))
	for name, t := range all {
		out[name] = e.text(t)
	}
	return out
}

func (e *evaluator) paths(v *workflow.Value) (all []string) {
	list, _ := e.value(v).([]any)
	for _, one := range list {
		if s, ok := one.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// request is what a step asks for. The error is expr.ErrFailed.
func request(ctx context.Context, s *workflow.Step, in expr.Values, secrets map[string]string) (any, error) {
	named := map[string]any{}
	for name, value := range secrets {
		named[name] = value
	}
	in[expr.Secrets] = named
	e := &evaluator{ctx: ctx, in: in}
	var out any
	switch do := s.Do.(type) {
	case *workflow.Shell:
		out = Shell{Step: do, Env: e.texts(do.Env), Cwd: e.text(do.Cwd), Stdin: e.text(do.Stdin)}
	case *workflow.Prompt:
		out = Prompt{
			Step: do, Text: e.text(do.Text), Session: e.text(do.Session), Images: e.paths(do.Images),
			Data: e.value(do.Data),
		}
	case *workflow.Skill:
		out = Skill{Step: do, Session: e.text(do.Session), Args: e.text(do.Args)}
	case *workflow.Read:
		out = Read{Step: do, Path: e.text(do.Path)}
	case *workflow.Write:
		out = Write{Step: do, Path: e.text(do.Path), Content: e.text(do.Content)}
	case *workflow.Call:
		out = Call{Step: do, With: e.value(do.With)}
	case *workflow.Dispatch:
		out = Dispatch{
			Step: do, Instance: e.text(do.Instance), Session: e.text(do.Session), Message: e.text(do.Message),
		}
	case *workflow.HTTP:
		out = HTTP{Step: do, URL: e.text(do.URL), Headers: e.texts(do.Headers), Body: e.value(do.Body)}
	case *workflow.Signal:
		out = Signal{do}
	case *workflow.Approve:
		out = Approve{Step: do, Text: e.text(do.Text), Details: e.value(do.Details), Timeout: e.length(s.Timeout)}
	case *workflow.Workflow:
		out = Workflow{Step: do, With: e.value(do.With), Key: e.text(do.Key)}
	}
	return out, e.err
}
