package loop

import (
	"context"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// origin is the task call that a sub-agent's loop answers, as it was when the loop began or was taken over.
type origin struct {
	call    call.Call
	made    time.Time
	loopID  string // that made the call
	turn    int
	by      *event.Loop // that loop's identity in the stream, nil for the root
	task    *event.Loop // the sub-agent's own, nil for the root
	request tool.Task
}

// offer is the tools that a loop at a depth is offered.
func (r *Runner) offer(def agent.Definition, depth int) tool.Set {
	names := def.Tools
	if depth >= maxDepth {
		names = nil
		for _, name := range def.Tools {
			if t, err := r.deps.Tools.Find(name); err == nil && t.Kind() != tool.KindTask {
				names = append(names, name)
			}
		}
	}
	return r.deps.Tools.Offer(names, def.Limits.CallsOfTurn())
}

// cwd is the directory that the loop works in.
func (l *loop) cwd() string {
	if dir := l.origin.request.Cwd; dir != "" {
		return joinCwd(l.as.def.Cwd, dir)
	}
	return l.as.def.Cwd
}

// originOf describes a task call to the loop that answers it, whose conversation is a session of its own.
func (l *loop) originOf(c *toolCall, request tool.Task, sessionID string) origin {
	o := origin{
		call: c.Call, made: c.watch.Made, loopID: l.row.ID, turn: l.row.Turn, by: l.origin.task, request: request,
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
	l.origin = l.parent.originOf(c, tool.Task{}, l.row.SessionID)
	asked, err := l.parent.requestOf(ctx, c)
	if err == nil {
		l.origin.request = asked.Call.Request.(tool.Task)
	}
	return err
}

// beginChild begins the loop that carries out a task call. Its first step dispatches the call.
func (l *loop) beginChild(ctx context.Context, c *toolCall) error {
	asked, err := l.requestOf(ctx, c)
	if err != nil {
		return err
	}
	request := asked.Call.Request.(tool.Task)
	digest := l.row.AgentDigest
	if request.Agent != "" {
		digest, err = l.tree.deps.Agents.Pin(ctx, request.Agent)
	}
	if err != nil && outage(err) {
		return fmt.Errorf("pinning a sub-agent: %w", err)
	}
	key := l.row.Key
	key.Name += "/task:" + c.ID
	child := newLoop(l.tree, l, lane.Loop{
		ID: ident.New(), LaneID: l.row.LaneID, RootID: l.row.RootID, SessionID: ident.New(), Key: key, Seq: 1,
		ParentCall: c.ID, AgentDigest: digest, StartedAt: time.Now(),
	})
	child.origin = l.originOf(c, request, child.row.SessionID)
	if err == nil {
		err = child.prepare(ctx)
	}
	if err != nil {
		return l.conclude(ctx, c, call.Done, tool.Failure{Reason: "AGENT_UNUSABLE", Message: fmt.Sprintf(
			"The sub-agent could not begin: %v", err)})
	}
	c.State, c.Dispatch = call.Dispatched, 1
	l.tree.add(child)
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
		Agent: l.as.def.Name, Description: r.Description, Cwd: r.Cwd, Model: l.as.def.Model.String(),
	}
}

// finishTask ends a sub-agent's loop, and with it the call that it answers.
func (l *loop) finishTask(s lane.Step, told event.Settlement) error {
	o := &l.origin
	reply := tool.Clean(taskReply(told, l.row.SessionID), l.as.values.Secrets())
	body, err := tool.Encode(reply)
	if err != nil {
		return err
	}
	state := call.Done
	if l.fromAbove() && told.Outcome != string(lane.Completed) {
		state = call.Cancelled
	}
	about := l.about()
	about.Duration = time.Since(o.made)
	_, failed := reply.(tool.Failure)
	ended := event.Event{
		Type: event.ToolFinished, Time: time.Now(), SubmissionID: o.loopID, Turn: o.turn, Loop: o.by,
		Call: &event.Call{
			ID: o.call.ID, ProviderID: o.call.ProviderID, Tool: o.call.Tool, State: state.String(),
			IsError: failed || told.Outcome != string(lane.Completed), Duration: about.Duration,
		},
	}
	s.Outcomes = append(s.Outcomes, call.Outcome{CallID: l.row.ParentCall, State: state, Reply: body})
	s.Events = append(s.Events, l.event(event.Event{Type: event.TaskFinished, Settlement: &told, Task: about}), ended)
	if err := l.commit(s, lane.With{}); err != nil {
		return err
	}
	if l.parent != nil {
		l.parent.mail.end(endedHere{callID: l.row.ParentCall, state: state, reply: reply, committed: true})
	}
	return nil
}

// tookOwn takes the outcome of a call that this process has carried out.
func (l *loop) tookOwn(ctx context.Context, c *toolCall, e endedHere) error {
	if !e.committed {
		return l.conclude(ctx, c, call.StateOf(e.reply), e.reply)
	}
	c.State, c.DoneAt = e.state, time.Now()
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
		run = work.RunAgain
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.watch.Running = time.Now()
	id, done := c.ID, c.cancel
	l.tree.group.Go(func() {
		defer done()
		reply, err := run(ctx, l.tree.deps.Log)
		if err != nil {
			reply = tool.Failure{Reason: tool.ReasonCancelled, Message: "the call was cancelled"}
		}
		l.mail.end(endedHere{callID: id, reply: reply})
	})
	return nil
}
