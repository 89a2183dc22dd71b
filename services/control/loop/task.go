package loop

import (
	"context"
	"encoding/json"
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
)

// origin is the task call that a sub-agent's loop answers, as it was when the loop began or was taken over.
type origin struct {
	call    call.Call
	made    time.Time
	began   time.Time // when the loop did
	loopID  string    // that made the call
	turn    int
	by      *event.Loop // that loop's identity in the stream, nil for the root
	task    *event.Loop // the sub-agent's own, nil for the root
	request builtin.TaskRequest
}

// definition is what the loop runs with. That of a sub-agent is pinned with the loop that asked.
func (l *loop) definition(ctx context.Context) (agent.Definition, error) {
	if l.parent == nil {
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
func (l *loop) originOf(c *toolCall, request builtin.TaskRequest, sessionID string) origin {
	o := origin{
		call: c.Call, made: c.watch.Made, began: c.watch.Sent, loopID: l.row.ID, turn: l.row.Turn,
		by: l.origin.task, request: request,
		task: &event.Loop{Task: c.ID, Session: sessionID, Root: l.row.RootID},
	}
	if o.by != nil {
		o.task.Parent = o.by.Task
	}
	return o
}

// recoverOrigin finds the call that a sub-agent's loop answers.
func (l *loop) recoverOrigin(ctx context.Context) error {
	if l.parent == nil {
		return fmt.Errorf("no loop of the lane waits for call %s", l.row.ParentCall)
	}
	c := l.parent.turn.byID[l.row.ParentCall]
	c.watch.Running = time.Now()
	l.origin = l.parent.originOf(c, builtin.TaskRequest{}, l.row.SessionID)
	asked, err := l.parent.requestOf(ctx, c)
	if err == nil {
		l.origin.request = asked.Call.Request.(builtin.TaskRequest)
	}
	return err
}

// beginChild begins the loop that carries out a task call. Its first step dispatches the call.
func (l *loop) beginChild(ctx context.Context, c *toolCall) error {
	asked, err := l.requestOf(ctx, c)
	if err != nil {
		return err
	}
	request := asked.Call.Request.(builtin.TaskRequest)
	key := l.row.Key
	key.Name += "/task:" + c.ID // no prompt can have such a name
	child := newLoop(l.tree, l, lane.Loop{
		ID: ident.New(), LaneID: l.row.LaneID, RootID: l.row.RootID, SessionID: ident.New(), Key: key, Seq: 1,
		ParentCall: c.ID, StartedAt: time.Now(),
	})
	child.origin = l.originOf(c, request, child.row.SessionID)
	child.origin.began = child.row.StartedAt
	if !l.tree.admit(child) {
		return nil // the end of another one has this loop look again
	}
	if err := child.prepare(ctx); err != nil {
		l.tree.remove(child)
		if errors.Is(err, errLeft) || ctx.Err() != nil {
			return err // whoever goes on with the lane begins it
		}
		return l.conclude(ctx, c, call.Done, tool.Failure{Reason: "SUBAGENT_UNUSABLE", Message: fmt.Sprintf(
			"The sub-agent could not begin: %v", err)})
	}
	child.row.AgentDigest = child.as.def.Digest()
	c.State, c.Dispatch, c.watch.Sent, c.watch.Running = call.Dispatched, 1, child.origin.began, child.origin.began
	l.tree.start(l.tree.head.ctx, child)
	return nil
}

// beginTask is T1 of a sub-agent: its conversation, its input, and the dispatch of the call that it answers.
func (l *loop) beginTask() error {
	o := &l.origin
	s := lane.Step{
		Begin: &lane.Begin{
			RootID: l.row.RootID, Key: l.row.Key, ParentID: l.parent.row.SessionID, ParentCall: l.row.ParentCall,
			AgentDigest: l.row.AgentDigest,
		},
		Dispatches: []call.Dispatch{{CallID: l.row.ParentCall, Dispatch: 1}},
		Progress:   &lane.Progress{Phase: lane.PhaseModel, Turn: 1, InputEntry: 1},
	}
	e := l.entry(&s, session.Input, model.Message{Role: model.User, Content: []model.Block{{
		Type: model.TextBlock, Text: o.request.Prompt,
	}}})
	s.Events[0] = l.event(event.Event{Type: event.TaskStarted, EntrySeq: e.Seq, Entry: &e, Task: l.about()})
	s.Events[0].Turn = 1
	return l.commit(s, lane.With{})
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
	reply := tool.Clean(l.taskReply(told), l.as.secrets)
	body, err := encodeTask(reply, told.Usage)
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
	s.Events = append(s.Events, l.event(event.Event{Type: event.TaskFinished, Settlement: &told, Task: about}), ended)
	if err := l.commit(s, lane.With{}); err != nil {
		return err
	}
	if l.parent != nil {
		l.parent.mail.end(endedHere{
			callID: l.row.ParentCall, state: state, reply: reply, committed: true, usage: told.Usage,
		})
	}
	return nil
}

// tookOwn takes the outcome of a call that this process has carried out.
func (l *loop) tookOwn(ctx context.Context, c *toolCall, e endedHere) error {
	if !e.committed {
		return l.conclude(ctx, c, call.StateOf(e.reply), e.reply)
	}
	c.State, c.DoneAt, c.usage = e.state, time.Now(), e.usage
	l.row.Stalls, l.row.StallCause = 0, "" // the next commit clears them
	l.closeCall(c, e.reply)
	return nil
}

// runFunction runs a call that control answers itself.
func (l *loop) runFunction(ctx context.Context, c *toolCall) error {
	asked, err := l.requestOf(ctx, c)
	if err != nil {
		return err
	}
	work := asked.Call
	work.ID = c.ID
	run := work.Run
	if c.watch.Inherited {
		if err := l.catchUp(ctx); err != nil { // for what it says of skills
			return err
		}
		run = work.RunAgain
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.watch.Running = time.Now()
	id, done := c.ID, c.cancel
	ctx = tool.WithProgress(ctx, func(p tool.Progress) { l.mail.progress(id, p) })
	go func() { // not waited for: one that does not end must not keep the lane
		defer done()
		reply, err := run(ctx, l.tree.deps.Log)
		if err != nil {
			reply = tool.Failure{Reason: tool.ReasonCancelled, Message: "the call was cancelled"}
		}
		l.mail.end(endedHere{callID: id, reply: reply})
	}()
	return nil
}

// taskReply is what the loop that asked is told of the end of a sub-agent.
func (l *loop) taskReply(z event.Settlement) tool.Reply {
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

// spending is what the stored form of a reply to a task call has beside the reply: what the sub-agent has cost. It is
// counted for the loop that asked when that appends the result.
type spending struct {
	Usage model.Usage `json:"usage"`
}

func encodeTask(r tool.Reply, u model.Usage) ([]byte, error) {
	body, err := tool.Encode(r)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("encoding a sub-agent's reply: %w", err)
	}
	all["usage"] = u
	return json.Marshal(all)
}

// usageOf is what a sub-agent has cost, by the record of the call that it answered.
func usageOf(c call.Call) (model.Usage, error) {
	if c.Kind != uint8(tool.KindTask) || c.Reply == nil {
		return model.Usage{}, nil
	}
	var s spending
	err := json.Unmarshal(c.Reply, &s)
	return s.Usage, err
}
