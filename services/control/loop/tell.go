package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// remember notes what an entry says that the loop decides by.
func (c *conversation) remember(e session.Entry) error {
	next := known{}
	if before := c.known.Load(); before != nil {
		next = *before
	}
	switch found := activations(e); {
	case len(found) > 0:
		next.active = slices.Concat(next.active, found)
	case e.Kind == session.Workspace && len(e.Message.Content) > 0:
		next.told = &workspace.Facts{}
		if err := json.Unmarshal(e.Message.Content[0].Details, next.told); err != nil {
			return &session.UnreadableError{Seq: e.Seq, Err: err}
		}
	default:
		return nil
	}
	c.known.Store(&next)
	return nil
}

// toldWorkspace is what the model was told of the workspace last, nil for nothing.
func (c *conversation) toldWorkspace() *workspace.Facts {
	if known := c.known.Load(); known != nil {
		return known.told
	}
	return nil
}

// beside is what is known of what the model is told beside the input.
type beside struct {
	first bool // this process began the loop, so that no other has asked its model
	told  bool
}

// known is what a conversation says that its loop decides by. It never changes.
type known struct {
	told   *workspace.Facts // of the workspace, the last time; nil is nothing
	active []activated
}

// tell adds to the conversation what belongs beside the input, before the model is asked for the first time. What is
// told is an entry: whoever goes on with the session, later or elsewhere, tells the same, byte for byte. What has
// changed since is another entry, so that requests only grow.
func (l *loop) tell(ctx context.Context, m model.Model) error {
	if l.beside.told || l.row.Turn != 1 || l.conversation.last.Kind.Beside() {
		return nil
	}
	l.beside.told = true
	s, with := lane.Step{}, lane.With{}
	// An owner before may have asked the model with what was told by then.
	if l.beside.first || l.conversation.toldWorkspace() == nil {
		if err := l.tellWorkspace(ctx, m, &s, &with); err != nil {
			return err
		}
	}
	if err := l.tellSkill(ctx, &s); err != nil {
		return err
	}
	if len(s.Entries) == 0 {
		return nil
	}
	return l.Commit(s, with)
}

// tellWorkspace looks at the workspace, and adds what is new there to a step. One that has no executor now is looked at
// with the next input: no prompt waits for it.
func (l *loop) tellWorkspace(ctx context.Context, m model.Model, s *lane.Step, with *lane.With) error {
	files := l.tree.deps.Workspaces
	// A model without a provider reads no prompt.
	if files == nil || m.API() == model.APIOffline || !l.as.Tools.Uses(tool.KindExecutor) {
		return nil
	}
	e, ok, err := l.workspace(ctx)
	if err != nil || !ok {
		return err
	}
	at := workspace.Place{Executor: e.ID, Cwd: l.as.Cwd}
	cwd := joinCwd(e.Root, l.as.Cwd)
	last := l.conversation.toldWorkspace()
	anew := last == nil || last.Executor != at.Executor || last.Cwd != cwd
	seen := workspace.Look(ctx, files, at, cwd, anew)
	if err := ctx.Err(); err != nil {
		return err
	}
	text, facts, ok := seen.Tell(last, l.as.def.Skills)
	if !ok {
		return nil
	}
	details, err := json.Marshal(facts)
	if err != nil {
		return fmt.Errorf("encoding what is known of the workspace: %w", err)
	}
	l.entry(s, session.Workspace, model.Message{Role: model.User, Content: []model.Block{{
		Type: model.TextBlock, Text: text, Details: details,
	}}})
	with.Executor = l.tree.Binding(e.ID)
	return nil
}

// workspace is the executor that has, or gets, the workspace; ok is false when none is connected that would do.
func (l *loop) workspace(ctx context.Context) (e fleet.Executor, ok bool, err error) {
	w := l.Needs()
	w.Roughly = true
	e, ok, err = l.Choose(ctx, w)
	if errors.Is(err, fleet.ErrNotFound) {
		return fleet.Executor{}, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("placing the workspace: %w", err)
	}
	return e, ok, nil
}
