package loop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// Guests are the loops of agents in a lane whose head is no agent's: a run of a workflow. A guest carries out a call of
// kind task that a strand of the head has made, as a sub-agent does for a loop, and may have sub-agents itself. There
// is one Guests for each head that is taken. Its methods may be called concurrently.
type Guests struct{ tree *tree }

// Work is what a guest has to do. It has to be the same whoever owns the lane, but for the secrets.
type Work struct {
	Agent   string        // digest of the pinned definition
	Message model.Message // that it begins with
	Options lane.Options
	// What is not the agent's own: zero values leave what the agent has.
	Model    *model.Ref // in the place of its first one
	Thinking model.Thinking
	Limits   agent.Limits // but for the timeout
	// Session names the conversation that the guest goes on with, or begins: guests with the same one take turns. "" is
	// one of its own.
	Session string
	// Sandbox is where the calls of the agent, and of those below it, run. An agent that has none gets none.
	Sandbox *agent.Sandbox
	Secrets []string // of all that work on the same files
}

// Host is a strand with a call that a guest carries out.
type Host struct {
	Strand *turn.Strand
	// Above is closed when the guest has to end although the head goes on; nil is never. Stop says why then; any
	// goroutine may call it.
	Above <-chan struct{}
	Stop  func() Stop
	Step  string // what the guest works for, for people
	Late  bool   // the guest goes on although the head has to end: only Above ends it
}

// Finder finds who has a call that a guest carries out, and what that has to do. Without a strand nobody has; an error
// says why what it has to do cannot be told now, and the secrets of the work count all the same.
type Finder func(callID string) (Host, Work, error)

// Guests are those of a lane's head, which may use so much in all: turns, tokens and cost count, zero is no limit.
func (r *Runner) Guests(l *turn.Lane, limits agent.Limits) *Guests {
	return &Guests{&tree{Runner: r, Lane: l, limits: limits}}
}

// guest is what a loop is that carries out a call of no loop.
type guest struct {
	Host
	work Work
	err  error // why the work is not known
}

// Begin is the Begin of the strand's user, see turn.User. It is called by the strand's goroutine.
func (g *Guests) Begin(ctx context.Context, h Host, c *turn.Call, w Work) (
	began time.Time, failed tool.Reply, err error,
) {
	if s := g.tree.overLimit(); s != nil {
		return time.Time{}, tool.Failure{Reason: s.Reason, Message: s.Message}, nil
	}
	of := &guest{Host: h, work: w}
	row := g.tree.childRow(g.tree.Key(), c)
	row.AgentDigest, row.Options = w.Agent, w.options()
	if w.Session != "" {
		row.Key.Name = g.tree.Key().Name + "/session:" + w.Session
	}
	g.tree.mu.Lock()
	free := g.tree.talks.begin(row.Key.Name)
	g.tree.mu.Unlock()
	if !free {
		return time.Time{}, nil, nil
	}
	defer func() {
		if began.IsZero() {
			// Those that wait for it look again when there is room, or soon.
			g.tree.talked(row.Key.Name, failed != nil)
		}
	}()
	if w.Session != "" {
		switch s, err := g.tree.deps.Store.FindSession(ctx, row.Key); {
		case err == nil:
			row.SessionID, row.EntryHead = s.ID, s.EntryHead
		case !errors.Is(err, session.ErrNotFound):
			return time.Time{}, nil, fmt.Errorf("looking for the conversation of a step: %w", err)
		}
	}
	l := newLoop(g.tree, nil, of, row)
	l.origin = of.originOf(c)
	l.origin.input = w.input()
	return l.start(ctx, "AGENT_UNUSABLE", "The agent")
}

// talks are the conversations in which guests are at work, and whether others wait for them.
type talks map[string]bool

// begin takes a conversation; false when another guest is at work in it, after which talked has the strand look again.
func (t *talks) begin(name string) bool {
	if _, taken := (*t)[name]; taken {
		(*t)[name] = true
		return false
	}
	if *t == nil {
		*t = talks{}
	}
	(*t)[name] = false
	return true
}

// talked leaves a conversation to the next guest. tell says that those who wait for it are told.
func (t *tree) talked(name string, tell bool) {
	t.mu.Lock()
	awaited := t.talks[name] && tell
	delete(t.talks, name)
	t.mu.Unlock()
	if awaited {
		t.Nudge()
	}
}

// Recover makes jobs of the loops that are open below the head, and adds their strands to the lane. It is called before
// any strand works, and after those that have made calls have taken these over.
func (g *Guests) Recover(ctx context.Context, find Finder) ([]turn.Job, error) {
	head := g.tree.Head()
	if l := g.tree.limits; l.Turns > 0 || l.Tokens > 0 || l.CostUSD > 0 {
		answers, usage, err := g.tree.deps.Store.UsedBelow(ctx, head.Root().ID)
		if err != nil {
			return nil, fmt.Errorf("reading what the agents of a run have used: %w", err)
		}
		g.tree.answers, g.tree.spent = answers, usage
	}
	return g.tree.reopen(ctx, head.Loops[1:], find)
}

// find is who has a call.
func (f Finder) find(callID string) *guest {
	h, w, err := f(callID)
	return &guest{h, w, err}
}

// originOf describes a call to the guest that carries it out. No other goroutine may use the strand meanwhile.
func (g *guest) originOf(c *turn.Call) origin {
	by := g.Strand.Event(event.Event{})
	o := origin{
		call: c.Call, made: c.Made(), began: c.Sent(), loopID: by.SubmissionID, turn: by.Turn, by: by.Loop,
	}
	o.request.Description = g.Step
	return o
}

// recoverGuest finds the call that a guest carries out.
func (l *loop) recoverGuest() error {
	g := l.guest
	switch {
	case g.Strand == nil && g.err == nil:
		return fmt.Errorf("no step of the run waits for call %s", l.row.ParentCall)
	case g.Strand == nil:
		return g.err
	}
	c := g.Strand.Resumed(l.row.ParentCall)
	if c == nil {
		return fmt.Errorf("step %s has no call %s", g.Step, l.row.ParentCall)
	}
	l.origin = g.originOf(c)
	return g.err
}

// definition is what the guest runs with: the pinned one, with what the work says over it.
func (g *guest) definition(ctx context.Context, all Definitions) (agent.Definition, error) {
	def, err := all.Definition(ctx, g.work.Agent)
	if err != nil {
		return def, err
	}
	return g.work.over(def), nil
}

// over is a definition with what the work says over it. It shares nothing that it changes.
func (w *Work) over(def agent.Definition) agent.Definition {
	if m := w.Model; m != nil {
		def.Fallbacks = slices.DeleteFunc(slices.Clone(def.Fallbacks), func(r model.Ref) bool { return r == *m })
		def.Model = *m
	}
	if w.Thinking != "" {
		def.Thinking = w.Thinking
	}
	if w.Limits.Turns > 0 {
		def.Limits.Turns = w.Limits.Turns
	}
	if w.Limits.Tokens > 0 {
		def.Limits.Tokens = w.Limits.Tokens
	}
	if w.Limits.CostUSD > 0 {
		def.Limits.CostUSD = w.Limits.CostUSD
	}
	if w.Sandbox == nil {
		return def
	}
	def.Team = maps.Clone(def.Team)
	for name, one := range def.Team {
		one.Sandbox = w.within(one.Sandbox)
		def.Team[name] = one
	}
	def.Sandbox = w.within(def.Sandbox)
	return def
}

// within is where the calls of an agent with a sandbox run.
func (w *Work) within(own agent.Sandbox) agent.Sandbox {
	if own.Kind == agent.SandboxNone {
		return own
	}
	return *w.Sandbox
}

// input is the message without secrets.
func (w *Work) input() model.Message {
	m := w.Message
	m.Content = slices.Clone(m.Content)
	for i := range m.Content {
		m.Content[i].Text = tool.Redact(m.Content[i].Text, w.Secrets)
	}
	return m
}

// options are those of the work without secrets.
func (w *Work) options() lane.Options {
	o := w.Options
	if o.Skill != nil {
		called := *o.Skill
		called.Args = tool.NewCleaner(w.Secrets).JSON(called.Args)
		o.Skill = &called
	}
	return o
}

// reply is what whoever has the call is told of the guest's end.
func (g *guest) reply(z event.Settlement, sessionID string) tool.Reply {
	switch lane.Outcome(z.Outcome) {
	case lane.Completed:
		return tool.Answer{Text: z.Text, Data: z.Data, Details: map[string]string{"session_id": sessionID}}
	case lane.Aborted:
		return tool.Failure{Reason: tool.ReasonCancelled, Message: z.Message}
	}
	return tool.Failure{Reason: z.Reason, Message: z.Message}
}

// answered counts answers of a guest's model.
func (t *tree) answered(l *loop, n int) {
	if l.guest != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.answers += n
	}
}

// overLimit is why no model may be asked any more, nil while one may: all guests together have used what they may.
func (t *tree) overLimit() *Stop {
	t.mu.Lock()
	defer t.mu.Unlock()
	return beyond(ofRun, t.limits, t.answers+1, t.spent)
}

// checkLimit makes the loop end before it asks its model, if the run has used what it may.
func (l *loop) checkLimit() {
	if l.row.Phase != lane.PhaseModel || l.end.stop != nil {
		return
	}
	if s := l.tree.overLimit(); s != nil {
		l.halt(*s)
	}
}
