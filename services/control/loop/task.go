package loop

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// origin is the task call that a sub-agent's loop answers, as it was when the loop began or was taken over.
type origin struct {
	call    call.Call
	made    time.Time
	began   time.Time // when the loop did
	loopID  string    // that made the call
	turn    int
	by      *event.Loop // that loop's identity in the stream, nil for the root
	request builtin.TaskRequest
	input   model.Message // that it begins with
}

// definition is what the loop runs with. That of a sub-agent is pinned with the loop that asked.
func (l *loop) definition(ctx context.Context) (agent.Definition, error) {
	switch {
	case l.guest != nil:
		return l.guest.definition(ctx, l.tree.deps.Agents)
	case l.parent == nil:
		return l.tree.deps.Agents.Definition(ctx, l.row.AgentDigest)
	}
	name := l.origin.request.Agent
	def, ok := l.parent.as.def.Subagent(name)
	if !ok {
		return def, fmt.Errorf("agent %s has no sub-agent %q", l.parent.as.def.Name, name)
	}
	return def, nil
}

// cwd is the directory that the loop works in. That of a sub-agent starts at the one of the loop that asked.
func (l *loop) cwd() string {
	if l.parent == nil {
		return l.as.def.Cwd
	}
	return joinCwd(l.parent.cwd(), l.origin.request.Cwd)
}

// joinCwd is a working directory within another. Only the executor knows where the home directory is.
func joinCwd(root, cwd string) string {
	switch {
	case path.IsAbs(cwd):
		return path.Clean(cwd)
	case cwd == "~" || strings.HasPrefix(cwd, "~/"):
		return cwd
	}
	return path.Join(root, cwd)
}

// originOf describes a task call to the loop that answers it, whose conversation is a session of its own.
func (l *loop) originOf(c *turn.Call, request builtin.TaskRequest) origin {
	return origin{
		call: c.Call, made: c.Made(), began: c.Sent(), loopID: l.row.ID, turn: l.row.Turn, by: l.task,
		request: request,
	}
}

// recoverOrigin finds the call that a sub-agent's loop answers.
func (l *loop) recoverOrigin(ctx context.Context) error {
	switch {
	case l.guest != nil:
		return l.recoverGuest()
	case l.parent == nil:
		return fmt.Errorf("nobody in the lane waits for call %s", l.row.ParentCall)
	}
	c := l.parent.Resumed(l.row.ParentCall)
	l.origin = l.parent.originOf(c, builtin.TaskRequest{})
	asked, err := l.parent.Request(ctx, c)
	if err == nil {
		l.origin.request, err = taskOf(asked)
	}
	return err
}

// taskOf is what a task call asks for.
func taskOf(asked tool.Asked) (builtin.TaskRequest, error) {
	request, ok := asked.Call.Request.(builtin.TaskRequest)
	if !ok {
		return request, fmt.Errorf("a call of %s was accepted as a task, and its arguments are none now",
			asked.Block.Tool)
	}
	return request, nil
}

// Begin implements turn.User.
func (l *loop) Begin(ctx context.Context, c *turn.Call, asked tool.Asked) (
	began time.Time, failed tool.Reply, err error,
) {
	request, err := taskOf(asked)
	if err != nil {
		return time.Time{}, nil, err
	}
	child := newLoop(l.tree, l, nil, l.tree.childRow(l.row.Key, c))
	child.origin = l.originOf(c, request)
	child.origin.input = model.Message{Role: model.User, Content: []model.Block{{
		Type: model.TextBlock, Text: request.Prompt,
	}}}
	return child.start(ctx, "SUBAGENT_UNUSABLE", "The sub-agent")
}

// childRow is the row of a loop that is to carry out a call of a loop, or of a run, with this key.
func (t *tree) childRow(key session.Key, c *turn.Call) lane.Loop {
	key.Name += "/task:" + c.ID // no prompt can have such a name
	head := t.Head()
	return lane.Loop{
		ID: ident.New(), LaneID: head.Fence.LaneID, RootID: head.Root().ID, SessionID: ident.New(), Key: key, Seq: 1,
		ParentCall: c.ID, StartedAt: time.Now(),
	}
}

// start has a new loop work, see turn.User. unusable is the reason of its failure if it cannot, and what names it then.
func (l *loop) start(ctx context.Context, unusable, what string) (began time.Time, failed tool.Reply, err error) {
	l.origin.began = l.row.StartedAt
	if !l.tree.Admit(l.Strand) {
		return time.Time{}, nil, nil
	}
	if err := l.prepare(ctx); err != nil {
		l.tree.Remove(l.Strand)
		if errors.Is(err, turn.ErrLeft) || ctx.Err() != nil || l.guest != nil && lane.Outage(err) {
			return time.Time{}, nil, err // whoever goes on with the lane begins it
		}
		return time.Time{}, tool.Failure{Reason: unusable, Message: fmt.Sprintf("%s could not begin: %v", what,
			err)}, nil
	}
	if l.guest == nil {
		l.row.AgentDigest = l.as.def.Digest()
	}
	l.tree.Go(turn.Job{Strand: l.Strand, Work: l.work})
	return l.origin.began, nil, nil
}

// TaskEnded implements turn.User.
func (l *loop) TaskEnded() { l.row.Stalls, l.row.StallCause = 0, "" } // the next commit clears them

// beginTask is T1 of a sub-agent: its conversation, its input, and the dispatch of the call that it answers.
func (l *loop) beginTask() error {
	s := lane.Step{
		Begin: &lane.Begin{
			RootID: l.row.RootID, Key: l.row.Key, ParentID: l.above(), ParentCall: l.row.ParentCall,
			AgentDigest: l.row.AgentDigest, Options: l.row.Options, GoesOn: l.row.EntryHead > 0,
		},
		Dispatches: []call.Dispatch{{CallID: l.row.ParentCall, Dispatch: 1}},
	}
	e := l.entry(&s, session.Input, l.origin.input)
	s.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 1, InputEntry: e.Seq}
	s.Events[0] = l.Event(event.Event{Type: event.TaskStarted, EntrySeq: e.Seq, Entry: &e, Task: l.about()})
	s.Events[0].Turn = 1
	return l.Commit(s, lane.With{})
}

// asker is the strand whose call the loop carries out, nil if that is nobody's.
func (l *loop) asker() *turn.Strand {
	switch {
	case l.parent != nil:
		return l.parent.Strand
	case l.guest != nil:
		return l.guest.Strand
	}
	return nil
}

// above is the conversation of whoever asked.
func (l *loop) above() string {
	if l.parent != nil {
		return l.parent.row.SessionID
	}
	return l.row.LaneID
}

// about is what watchers are told of a sub-agent.
func (l *loop) about() *event.Task {
	r := &l.origin.request
	return &event.Task{
		Agent: l.as.def.Name, Description: r.Description, Cwd: r.Cwd, Model: l.model().String(),
	}
}

// finishTask ends a sub-agent's loop, and with it the call that it answers.
func (l *loop) finishTask(s lane.Step, told event.Settlement) error {
	o := &l.origin
	reply := tool.Clean(l.taskReply(told), l.as.Secrets)
	body, err := turn.EncodeTask(reply, told.Usage)
	if err != nil {
		return err
	}
	state := call.Done
	if l.fromAbove() && told.Outcome != string(lane.Completed) {
		state = call.Cancelled
	}
	about := l.about()
	about.Duration = time.Since(o.made)
	ended := event.Event{
		Type: event.ToolFinished, Time: time.Now(), SubmissionID: o.loopID, Turn: o.turn, Loop: o.by,
		Call: &event.Call{
			ID: o.call.ID, ProviderID: o.call.ProviderID, Tool: o.call.Tool, State: state.String(),
			IsError: told.Outcome != string(lane.Completed), Duration: about.Duration,
		},
	}
	s.Outcomes = append(s.Outcomes, call.Outcome{CallID: l.row.ParentCall, State: state, Reply: body})
	s.Events = append(s.Events, l.Event(event.Event{Type: event.TaskFinished, Settlement: &told, Task: about}), ended)
	if err := l.Commit(s, lane.With{}); err != nil {
		return err
	}
	if l.guest != nil {
		l.tree.talked(l.row.Key.Name, true)
	}
	if by := l.asker(); by != nil {
		by.TaskEnded(l.row.ParentCall, state, reply, told.Usage)
	}
	return nil
}

// taskReply is what the loop that asked is told of the end of a sub-agent.
func (l *loop) taskReply(z event.Settlement) tool.Reply {
	if l.guest != nil {
		return l.guest.reply(z, l.row.SessionID)
	}
	switch lane.Outcome(z.Outcome) {
	case lane.Completed:
		if z.Data != nil {
			z.Text = string(z.Data)
		}
		return tool.Answer{Text: z.Text, Details: map[string]string{"session_id": l.row.SessionID}}
	case lane.Aborted:
		return tool.Failure{Reason: tool.ReasonCancelled, Message: "The sub-agent was ended: " + z.Message}
	}
	return tool.Failure{Reason: z.Reason, Message: fmt.Sprintf("The sub-agent got no answer: %s. %s",
		unansweredBecause[lane.Outcome(z.Outcome)], z.Message)}
}
