package loop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/tool/result"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// Source has tools of one origin for loops: the built-in ones, those of a project, of a server. Its methods may be
// called concurrently.
type Source interface {
	// Tools are what a loop is offered by the source, in an order that depends on nothing but the loop: they are a part
	// of the prompt's prefix. Every loop asks once, before its first model call and again when another process takes it
	// over. A tool that cannot be had now is left out, or says so when it is called: an error ends the attempt at the
	// loop, and the third its submission.
	Tools(ctx context.Context, of Offer) ([]*tool.Tool, error)
}

// Offer is the loop that is to be offered tools.
type Offer struct {
	Definition agent.Definition
	Loop       lane.Loop // its row: tenant, session, options
	Depth      int       // of sub-agents, 0 for the root
	Executor   string    // that the workspace is bound to, "" while there is none
	Activate   tool.Run  // carries out activations of skills; nil while nothing will be called

	missing *[]string
	awaited *awaited
	taken   func(name string) bool // by a tool of a source before this one
}

// Miss says that a tool cannot be offered now and why, in one line for people: those who watch the loop are told.
func (o Offer) Miss(text string) {
	if o.missing != nil {
		*o.missing = append(*o.missing, text)
	}
}

// Taken reports whether a tool cannot have a name, because another tool of the agent has it, or may be given it.
func (o Offer) Taken(name string) bool {
	return o.Definition.Has()(name) || o.taken != nil && o.taken(name)
}

// Awaits says what the source waits for, in a few words for people. done says that it waits no longer.
func (o Offer) Awaits(what string) (done func()) {
	if o.awaited == nil {
		return func() {}
	}
	return o.awaited.add(what)
}

// Sources are those that every control has, in order: built-in tools, task, skills, command tools, and those by
// which a loop ends that has to end with a structured result. Tools of later sources come behind theirs.
func Sources() []Source {
	return []Source{Fixed(builtin.Tools()), tasks{}, skills{}, commands{}, results{}}
}

// Gather is what a source has for a loop, and what it says is missing.
func Gather(ctx context.Context, s Source, of Offer) (set tool.Set, missing []string, err error) {
	of.missing = &missing
	tools, err := s.Tools(ctx, of)
	if err != nil {
		return tool.Set{}, missing, err
	}
	set, err = tool.NewSet(tools...)
	return set, missing, err
}

// Fixed is a source of tools that are always the same. A loop is offered those that its agent names.
func Fixed(all tool.Set) Source { return fixed{all} }

type fixed struct{ all tool.Set }

func (f fixed) Tools(_ context.Context, of Offer) ([]*tool.Tool, error) {
	return f.all.Offer(of.Definition.Tools, 0).Tools(), nil
}

// tasks has the tool by which an agent asks its sub-agents.
type tasks struct{}

func (tasks) Tools(_ context.Context, of Offer) ([]*tool.Tool, error) {
	if of.Depth >= turn.MaxDepth || !builtin.Asks(of.Definition.Tools) {
		return nil, nil
	}
	return []*tool.Tool{of.Definition.Task()}, nil
}

// commands has the command tools that an agent names.
type commands struct{}

func (commands) Tools(_ context.Context, of Offer) (tools []*tool.Tool, err error) {
	all := of.Definition.Commands
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t, err := all[name].Tool()
		if err != nil {
			return nil, err
		}
		tools = append(tools, t)
	}
	return tools, nil
}

// results has the tools by which a loop ends that has to end with a structured result.
type results struct{}

func (results) Tools(_ context.Context, of Offer) ([]*tool.Tool, error) {
	schema := of.Loop.Options.ResultSchema
	if schema == nil {
		return nil, nil
	}
	return result.Tools(schema)
}

// offer is the tools that a loop is offered. tool.ErrInvalid names the origins of two tools that have one name. When
// ctx ends meanwhile, the error says so, and the tools are those of the sources that did without waiting.
func (r *Runner) offer(ctx context.Context, of Offer) (tool.Set, error) {
	var all tool.Set
	var missing error
	of.taken = func(name string) bool { return all.Has(name) }
	for _, source := range r.deps.Sources {
		tools, err := source.Tools(ctx, of)
		if err != nil {
			if missing = fmt.Errorf("gathering the tools of a loop: %w", err); ctx.Err() != nil {
				continue
			}
			return tool.Set{}, missing
		}
		if all, err = all.With(tools...); err != nil {
			return tool.Set{}, err
		}
	}
	return all.AtMost(of.Definition.Limits.CallsOfTurn()), missing
}

// offerTools gathers what the loop is offered. Two tools of one name end it, and so does a variable of a tool that is
// not set.
func (l *loop) offerTools(ctx context.Context) error {
	if l.row.Options.Shell != nil {
		l.as.Tools = builtin.Shell()
		return nil
	}
	of, now := l.asOffer(), supply{}
	of.missing = &now.missing
	// What changes while it is asked is found by the next look.
	version, err := l.tree.versions(ctx, of, l.as.supply.version)
	if err != nil {
		return err
	}
	tools, err := l.gather(ctx, of)
	if errors.Is(err, tool.ErrInvalid) {
		l.halt(Stop{lane.Failed, tool.ErrInvalid.Reason(), err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	if l.end.stop != nil { // it asks nobody any more, and shows what its calls came to
		l.as.Tools = tools
		return nil
	}
	now.version = version
	for i, text := range now.missing {
		now.missing[i] = tool.Redact(text, l.as.Secrets)
	}
	l.as.Tools, l.as.supply, l.as.envs = tools, now, map[string]agent.Values{}
	for _, t := range tools.Tools() {
		if len(t.Env) == 0 {
			continue
		}
		values, err := agent.Env(t.Env).Expand(l.tree.deps.Lookup)
		if err != nil {
			l.halt(Stop{lane.Failed, agent.ErrVariable.Reason(), t.Source + ": " + err.Error()})
			return nil
		}
		l.as.envs[t.Name] = values
	}
	return nil
}

// env are the variables of a call of a tool: the agent's, and those of the tool over them.
func (l *loop) env(t *tool.Tool) map[string]*string {
	all := l.as.values.Map()
	over := l.as.envs[t.Name].Map()
	if all == nil {
		return over
	}
	maps.Copy(all, over)
	return all
}

// read is what an answer asks for. A call that has a record was accepted, and as what it was, whatever the loop is
// offered by now: one that is to end, or whose definition cannot be had, may be offered nothing.
func (l *loop) read(answer model.Message) []tool.Asked {
	asked := l.as.Tools.Read(answer)
	for _, c := range l.Calls() {
		if c.Index >= len(asked) {
			continue
		}
		a := asked[c.Index]
		if a.Refused != nil || uint8(a.Call.Tool.Kind()) != c.Kind || a.Call.Tool.Safety != c.Safety {
			asked[c.Index] = builtin.Accepted(a.Block, tool.Kind(c.Kind), c.Safety)
		}
	}
	l.narrow(asked)
	return l.deny(asked)
}

// Tool is one tool of an agent, as a loop of it would be offered it. Fails with tool.ErrUnknown, and as gathering tools
// does.
func (r *Runner) Tool(ctx context.Context, of Offer, name string) (*tool.Tool, error) {
	all, err := r.offer(ctx, of)
	if err != nil {
		return nil, err
	}
	return all.Find(name)
}
