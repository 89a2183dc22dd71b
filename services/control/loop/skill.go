package loop

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// errNarrowed is what a model hears of a call that an active skill does not allow.
var errNarrowed = errs.New(errs.FailedPrecondition, "SKILL_ALLOWS_NOT", "an active skill does not allow the call")

// skills has the tool by which a model reads skills: the agent's own, and those of its workspace. It is offered to
// every agent that can have some, whether or not there are any now: a tool that came and went would be another prefix.
type skills struct{}

func (skills) Tools(_ context.Context, of Offer) ([]*tool.Tool, error) {
	if len(of.Definition.Skills) == 0 && !builtin.Tools().Offer(of.Definition.Tools, 0).Uses(tool.KindExecutor) {
		return nil, nil
	}
	return []*tool.Tool{builtin.ActivateSkill(of.Activate)}, nil
}

// activated is a skill that was activated for a submission of the conversation.
type activated struct {
	skill.Activation
	submission string
}

// activations are those that an entry tells of.
func activations(e session.Entry) (all []activated) {
	if e.Kind != session.Skill && e.Kind != session.ToolResult {
		return nil
	}
	for _, b := range e.Message.Content {
		if a, ok := builtin.Activation(b); ok {
			all = append(all, activated{a, e.SubmissionID})
		}
	}
	return all
}

// announce tells watchers of the skills that an entry activates.
func (l *loop) announce(s *lane.Step, e session.Entry) {
	for _, a := range activations(e) {
		s.Events = append(s.Events, l.Event(event.Event{
			Type: event.SkillActivated, EntrySeq: e.Seq, Skill: &event.Skill{
				Name: a.Name, Source: string(a.Source), Path: a.Path, Digest: a.Digest,
				ByCaller: e.Kind == session.Skill,
			},
		}))
	}
}

// narrow refuses the calls that an active skill does not allow, but for those that have a record: they were accepted.
// Of several activations of one skill it leaves the first.
func (l *loop) narrow(asked []tool.Asked) {
	named := map[string]bool{}
	for i := range asked {
		a := &asked[i]
		if a.Refused != nil {
			continue
		}
		req, activates := a.Call.Request.(builtin.SkillRequest)
		switch {
		case slices.ContainsFunc(l.Calls(), func(c *turn.Call) bool { return c.Index == i }):
		case activates && named[req.Name]:
			a.Refused = errNarrowed.With("Not run: another call of this answer activates the skill %s.", req.Name)
		default:
			a.Refused = l.forbids(a.Call)
		}
		named[req.Name] = activates
	}
}

// forbids says which skill does not allow a call; nil when all do. A skill narrows until its submission ends.
func (l *loop) forbids(c tool.Call) error {
	known := l.conversation.known.Load()
	if known == nil || c.Tool.Own {
		return nil
	}
	for _, a := range known.active {
		if a.submission == l.row.ID && !skill.Allows(a.Allowed, c.Tool.Name, c.Command()) {
			return errNarrowed.With("Not run: skill %s is active until you have answered, and allows these tools "+
				"only: %s.", a.Name, skill.Told(a.Allowed))
		}
	}
	return nil
}

// activate carries out a call of the tool. It runs beside the loop's goroutine.
func (l *loop) activate(ctx context.Context, c tool.Call) (tool.Reply, error) {
	req := c.Request.(builtin.SkillRequest)
	a, text, err := l.openSkill(ctx, req.Name, req.Args, true)
	if err != nil {
		return nil, err
	}
	return builtin.Activated(a, text), nil
}

// openSkill finds a skill, has its files where the model can read them, and says what the model is told of it.
func (l *loop) openSkill(ctx context.Context, name string, args json.RawMessage, byModel bool) (
	a skill.Activation, text string, err error,
) {
	var s skill.Skill
	var files []string
	var note string
	if own, ok := l.as.def.SkillFolders[name]; ok && !(byModel && own.Hidden) {
		s, a = own, skill.Activation{Name: name, Source: skill.OfProject, Digest: own.Digest}
		a.Path, files, note = l.putSkill(ctx, &own)
	} else if s, a, files, err = l.findSkill(ctx, name, byModel); err != nil {
		return a, "", err
	}
	a.Allowed = s.Allowed
	notes := []string{note}
	if len(args) > 0 && string(args) != "{}" && string(args) != "null" {
		notes = append(notes, "Arguments:\n"+skill.Quote("skill_arguments", nil, string(args)))
	}
	if a.Allowed != nil {
		notes = append(notes, "Until you have answered, this skill allows these tools only: "+skill.Told(a.Allowed)+".")
	}
	if l.opened(a) {
		return a, strings.TrimSpace(fmt.Sprintf("The skill %s is active already: follow its instructions, which you "+
			"have read before.\n\n%s", name, strings.Join(notes, "\n\n"))), nil
	}
	return a, workspace.Instructions(&s, a.Source, a.Path, files, notes...), nil
}

// opened reports whether the conversation has the instructions of a skill, as they are now.
func (l *loop) opened(a skill.Activation) bool {
	known := l.conversation.known.Load()
	return known != nil && slices.ContainsFunc(known.active, func(o activated) bool {
		return o.Name == a.Name && o.Source == a.Source && o.Digest == a.Digest && o.Path == a.Path
	})
}

// putSkill puts the files of a skill into the workspace. When that cannot be done the model is told, and has the
// instructions all the same.
func (l *loop) putSkill(ctx context.Context, s *skill.Skill) (folder string, names []string, note string) {
	if len(s.Files) == 0 {
		return "", nil, ""
	}
	at, err := l.at(ctx)
	if err == nil {
		folder, err = workspace.Put(ctx, l.tree.deps.Workspaces, at, workspace.OfSkill(s))
	}
	if err != nil {
		l.tree.deps.Log.WarnContext(ctx, "the files of a skill could not be put into a workspace", "session_id",
			l.row.SessionID, "skill", s.Name, "executor_id", at.Executor, "error", err)
		why := "nobody knows why"
		if e, ok := errs.Public(err); ok {
			why = skill.Line(e.Error())
		}
		return "", nil, "The skill's files could not be put into the workspace: " + why + ". Do without them, or " +
			"activate the skill again later."
	}
	for _, f := range s.Files {
		names = append(names, f.Path)
	}
	return folder, names, ""
}

// findSkill finds a skill in the workspace.
func (l *loop) findSkill(ctx context.Context, name string, byModel bool) (
	s skill.Skill, a skill.Activation, files []string, err error,
) {
	at, err := l.at(ctx)
	if err != nil {
		return s, a, nil, err
	}
	var facts workspace.Facts
	if known := l.conversation.known.Load(); known != nil && known.told != nil {
		facts = *known.told
	}
	k, ok := facts.Find(name)
	if !ok { // it may be new, or the model was told of none
		seen := workspace.Look(ctx, l.tree.deps.Workspaces, at, "", false)
		_, facts, _ = seen.Tell(nil, l.as.def.Skills)
		k, ok = facts.Find(name)
	}
	if !ok {
		return s, a, nil, l.missingSkill(name, &facts)
	}
	found, files, err := workspace.ReadSkill(ctx, l.tree.deps.Workspaces, at, k.Path)
	switch {
	case err != nil:
		return s, a, nil, err
	case found.Problem != "":
		return s, a, nil, skill.ErrNotFound.With("the skill %s cannot be used any more: %s", name,
			skill.Line(found.Problem))
	case byModel && found.Hidden:
		return s, a, nil, l.missingSkill(name, &facts)
	}
	found.Name = name
	return found.Skill, skill.Activation{
		Name: name, Source: skill.OfWorkspace, Path: path.Dir(k.Path), Digest: skill.Fingerprint(found.Body),
	}, files, nil
}

// missingSkill names the skills that there are.
func (l *loop) missingSkill(name string, facts *workspace.Facts) error {
	var names []string
	for _, own := range l.as.def.Skills {
		if !l.as.def.SkillFolders[own].Hidden {
			names = append(names, own)
		}
	}
	for _, k := range facts.Skills {
		names = append(names, k.Name)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	return skill.ErrNotFound.With("there is no skill %s; there are %s", name,
		strings.Join(names[:min(len(names), 50)], ", "))
}

// errNoWorkspace says why skills of a workspace cannot be had.
var errNoWorkspace = errs.New(errs.Unavailable, "NO_WORKSPACE",
	"the workspace cannot be reached now: no executor that would do is connected")

// at is where the workspace is.
func (l *loop) at(ctx context.Context) (workspace.Place, error) {
	if l.tree.deps.Workspaces == nil || !l.as.Tools.Uses(tool.KindExecutor) {
		return workspace.Place{}, skill.ErrNotFound.With("the agent has no workspace to have skills or files in")
	}
	for began := time.Now(); ; {
		e, ok, err := l.workspace(ctx)
		if err != nil || ok {
			return workspace.Place{Executor: e.ID, Cwd: l.cwd()}, err
		}
		if time.Since(began) >= executorPatience {
			return workspace.Place{}, errNoWorkspace
		}
		select {
		case <-time.After(executorPatience / 20):
		case <-ctx.Done():
			return workspace.Place{}, ctx.Err()
		}
	}
}

// executorPatience is how long the files of a skill wait for an executor, as one that is just connecting.
const executorPatience = 5 * time.Second

// tellSkill adds the skill that the caller starts with to a step. A skill that cannot be had ends the loop: the caller
// has asked for it by name.
func (l *loop) tellSkill(ctx context.Context, s *lane.Step) error {
	start := l.row.Options.Skill
	if start == nil {
		return nil
	}
	a, text, err := l.openSkill(ctx, start.Name, start.Args, false)
	if e, answered := errs.Public(err); answered && !lane.Outage(err) {
		l.halt(Stop{lane.Failed, e.Reason(), e.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	l.entry(s, session.Skill, model.Message{
		Role: model.User, Content: []model.Block{builtin.SkillBlock(a, text)},
	})
	return nil
}
