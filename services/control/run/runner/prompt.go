package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run/ask"
	"github.com/pawl-dev/pawl/services/control/run/drive"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// errNoAgent refuses a step that an agent is to carry out, and that names none.
var errNoAgent = errs.New(errs.InvalidArgument, "AGENT_MISSING", "the step names no agent, and the workflow none")

// working is the tool of steps that an agent carries out: its calls are loops in the lane of the run.
var working = func() *tool.Tool {
	t, err := tool.Define(tool.Spec{
		Name: "agent", Source: "workflows", Safety: tool.AtMostOnce, Schema: json.RawMessage(`{"type":"object"}`),
		How: tool.ByLoop(func(_ agentRequest, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) }),
	})
	if err != nil {
		panic(err) // by a test that would have seen it
	}
	return t
}()

// agentRequest is what identifies the call of a step that an agent carries out.
type agentRequest struct {
	Agent   string          `json:"agent"`
	Text    string          `json:"text"`
	Images  []string        `json:"images,omitempty"`
	Schema  json.RawMessage `json:"schema,omitempty"`
	Session string          `json:"session,omitempty"`
}

// prompt prepares the call of a prompt or skill step.
func (w *work) prompt() (err error) {
	switch q := w.request.(type) {
	case drive.Prompt:
		w.agent, err = ask.Prompt(q)
	case drive.Skill:
		w.agent, err = ask.Skill(q)
	}
	if err != nil {
		return err
	}
	if w.agent.Agent = cmp.Or(w.agent.Agent, w.def.Agent); w.agent.Agent == "" {
		return errNoAgent
	}
	w.place()
	for _, path := range w.agent.Images {
		w.before = append(w.before, ask.Image(path))
	}
	said := agentRequest{
		Agent: w.agent.Agent, Text: w.agent.Message.Text(), Images: w.agent.Images, Session: w.agent.Session,
		Schema: w.agent.Options.ResultSchema,
	}
	w.asked = tool.Asked{
		Block: model.Block{Type: model.ToolCallBlock, Tool: working.Name},
		Call:  tool.Call{Tool: working, Request: said},
	}
	w.kit.Tools, err = tool.NewSet(working)
	return err
}

// answered has the agent work.
func (w *work) answered(ctx context.Context) (drive.Outcome, error) {
	if c := w.present(); len(w.before) > 0 && (c == nil || c.State == call.Pending) {
		switch failed, err := w.look(ctx); {
		case err != nil:
			return drive.Outcome{}, err
		case failed != nil:
			return *failed, nil
		}
	}
	c, err := w.calling(ctx, nil)
	if err != nil || c == nil {
		return stopped(), err
	}
	done := ask.Worked{Outcome: lane.Completed, Usage: c.Usage(), Session: w.agent.Session}
	switch r := c.Result().(type) {
	case tool.Answer:
		done.Text, done.Data = r.Text, r.Data
		done.Session = cmp.Or(done.Session, r.Details["session_id"])
	case tool.Failure:
		done.Outcome, done.Reason, done.Message = lane.Failed, r.Reason, r.Message
		if r.Reason == tool.ReasonCancelled {
			done.Outcome = lane.Aborted
		}
	default:
		return drive.Outcome{}, fmt.Errorf("an agent's work has come to a %T", r)
	}
	return ask.Answered(w.request, done), nil
}

// look reads the images of the prompt, for an agent that has not begun: failed is what the step comes to without one.
func (w *work) look(ctx context.Context) (failed *drive.Outcome, err error) {
	if w.present() == nil {
		if ends, err := w.read(ctx); ends || err != nil {
			return nil, err // the call is not made either
		}
	}
	calls := w.reads()
	for i, path := range w.agent.Images {
		picture, err := ask.Picture(ctx, path, calls[i].Result())
		if failed, ok := ask.Failed(err); err != nil && ok {
			return &failed, nil
		} else if err != nil {
			return nil, err
		}
		w.agent.Message.Content = append(w.agent.Message.Content, picture)
	}
	if last := w.Last(); last != nil {
		s := lane.Step{}
		w.AddLast(&s, false)
		return nil, w.Commit(s, lane.With{})
	}
	return nil, nil
}

// read makes the calls that read the images, unless an owner before has, and waits until these have ended. ends says
// that the step was to end before they were made, or the lane is left.
func (w *work) read(ctx context.Context) (ends bool, err error) {
	if len(w.reads()) == 0 {
		if w.Ends() || w.Leaving() {
			return true, nil
		}
		s := lane.Step{}
		for i, a := range w.before {
			c, err := w.Make(w.index()-len(w.before)+i, a, 0)
			if err != nil {
				return false, err
			}
			s.Calls = append(s.Calls, c)
		}
		if err := w.Start(ctx, s); err != nil {
			return false, err
		}
	}
	return false, w.ended(ctx)
}

// reads are the calls of the present try that read images.
func (w *work) reads() (all []*turn.Call) {
	for _, c := range w.Calls() {
		if w.index()-len(w.before) <= c.Index && c.Index < w.index() {
			all = append(all, c)
		}
	}
	return all
}

// Begin implements turn.User.
func (w *work) Begin(ctx context.Context, c *turn.Call, _ tool.Asked) (time.Time, tool.Reply, error) {
	pin, err := w.Agents.PinAgent(ctx, w.row.Key.Tenant, w.agent.Agent)
	if e, answered := errs.Public(err); answered && !lane.Outage(err) {
		return time.Time{}, tool.Failure{Reason: e.Reason(), Message: err.Error()}, nil
	} else if err != nil {
		return time.Time{}, nil, fmt.Errorf("pinning agent %s: %w", w.agent.Agent, err)
	}
	return w.guests.Begin(ctx, w.host(), c, w.task(pin.Digest))
}

// task is what the agent of a digest has to do.
func (w *work) task(digest string) loop.Work {
	return loop.Work{
		Agent: digest, Message: w.agent.Message, Options: w.agent.Options, Model: w.agent.Model,
		Thinking: w.agent.Thinking, Limits: limits(w.agent.Limits), Session: w.agent.Session, Sandbox: w.def.Sandbox,
		Secrets: w.kit.Secrets,
	}
}

func (w *work) host() loop.Host {
	return loop.Host{
		Strand: w.Strand, Above: w.above, Step: w.do.Path, Late: true,
		Stop: func() loop.Stop {
			return loop.Stop{Outcome: lane.Aborted, Reason: lane.ReasonAborted, Message: "the step was made to end"}
		},
	}
}

// hostOf finds the step for which a loop works that an owner before has begun. It is called before any step works.
func (a *attempt) hostOf(callID string) (loop.Host, loop.Work, error) {
	head := a.Head()
	for _, w := range a.works {
		if w.Call(callID) == nil {
			continue
		}
		for i := range head.Loops {
			if row := &head.Loops[i]; row.ParentCall == callID {
				return w.host(), w.task(row.AgentDigest), nil
			}
		}
	}
	return loop.Host{}, loop.Work{Secrets: a.hidden}, nil
}

// definition is that of an agent of the run, as it is in force now.
func (a *attempt) definition(name string) (agent.Definition, error) {
	if name == "" {
		return agent.Definition{}, errNoAgent
	}
	pin, err := a.Agents.PinAgent(a.ctx, a.row.Key.Tenant, name)
	if err != nil {
		return agent.Definition{}, err
	}
	return a.Agents.Definition(a.ctx, pin.Digest)
}

func limits(l workflow.Limits) agent.Limits {
	return agent.Limits{Turns: l.Turns, Tokens: l.Tokens, CostUSD: l.CostUSD}
}
