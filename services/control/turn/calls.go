package turn

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
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
)

func (r *run) wanted() fleet.Wanted {
	w := fleet.Wanted{Executor: r.executor, Builtin: r.deps.Builtin}
	if r.def.Sandbox.Kind == agent.SandboxExecutor {
		w.Labels = r.def.Sandbox.Labels
	}
	return w
}

// joinCwd is the working directory as the model is told of it. Only the executor knows where the home directory is.
func joinCwd(root, cwd string) string {
	switch {
	case path.IsAbs(cwd):
		return path.Clean(cwd)
	case cwd == "~" || strings.HasPrefix(cwd, "~/"):
		return cwd
	}
	return path.Join(root, cwd)
}

// callTools is T2: the answer and a record of every call that it asks for, then the orders.
func (r *run) callTools(ctx context.Context, c submission.Commit, answer session.Entry) error {
	var calls []call.Call
	env := r.values.Map()
	for i, a := range r.asked {
		if a.Refused != nil {
			continue // there is nothing to run, and the result follows from the answer
		}
		hash, err := a.Call.Hash(r.def.Cwd, env)
		if err != nil {
			return err
		}
		calls = append(calls, call.Call{
			ID: ident.New(), SessionID: r.id(), SubmissionSeq: r.sub.Seq, Turn: r.sub.Turn, Index: i, EntrySeq: answer.Seq,
			ProviderID: a.Block.CallID, Tool: a.Call.Tool.Name, Safety: a.Call.Tool.Safety, ArgsHash: hash,
			CreatedAt: time.Now(),
		})
	}
	if len(calls) > 0 {
		e, ok, err := r.deps.Fleet.Place(ctx, r.wanted())
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return fmt.Errorf("placing the workspace: %w", err)
		}
		if ok {
			c.Executor = e.ID
		}
		for i := range calls {
			if ok {
				calls[i].State, calls[i].Executor, calls[i].Dispatch = call.Dispatched, e.ID, 1
				calls[i].DispatchedAt, calls[i].Journal = time.Now(), e.JournalID
			}
			c.Events = append(c.Events, r.event(event.Event{Type: event.ToolStarted, Call: started(calls[i])}))
			if !ok {
				c.Events = append(c.Events, r.event(waiting(calls[i], r.unplaced(calls[i], e, err == nil))))
			}
		}
	}
	c.Calls = calls
	if err := r.commit(ctx, c); err != nil {
		return err
	}
	r.calls, r.live = calls, map[string]*liveCall{}
	for _, e := range c.Events {
		if e.Type == event.ToolWaiting {
			r.liveOf(e.Call.ID).waits = e.Wait.Reason
		}
	}
	r.inbox.expect(calls)
	for i := range r.calls {
		if r.calls[i].State == call.Dispatched {
			r.order(ctx, &r.calls[i])
		}
	}
	return nil
}

// order sends a dispatched call. When it cannot be sent the record stands, and the call is attached to once its
// executor is there.
func (r *run) order(ctx context.Context, c *call.Call) {
	req, err := r.requestOf(*c)
	if err != nil {
		r.deps.Log.Error("a recorded call cannot be read back", "call_id", c.ID, "error", err)
		return
	}
	l := r.liveOf(c.ID)
	timeout := time.Duration(0)
	if !r.sub.Deadline.IsZero() {
		timeout = max(time.Until(r.sub.Deadline), time.Millisecond)
	}
	// The executor may have come back without the labels since the call was placed. With the order go the agent's
	// secrets.
	if e, err := r.deps.Fleet.Find(ctx, c.Executor); err == nil && e.Connected() && e.Has(r.wanted().Labels) {
		l.connection, l.heard = e.ConnectionEpoch, time.Now()
		if !r.send(ctx, c.Executor, &call.Order{
			Call: *c, LaneID: r.id(), Epoch: r.fence.Epoch, Request: req, Cwd: r.def.Cwd, Env: r.values.Map(),
			Timeout: timeout,
		}) {
			l.connection, l.unreached = 0, time.Now()
		}
	}
}

// requestOf is what a call asks for.
func (r *run) requestOf(c call.Call) (tool.Request, error) {
	if c.Index >= len(r.asked) {
		return nil, fmt.Errorf("the answer of turn %d does not ask for call %d", c.Turn, c.Index)
	}
	return r.asked[c.Index].Call.Request, r.asked[c.Index].Refused
}

func started(c call.Call) *event.Call {
	return &event.Call{ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool, Executor: c.Executor}
}

func finished(c call.Call, isError bool, took time.Duration) *event.Call {
	return &event.Call{
		ID: c.ID, ProviderID: c.ProviderID, Tool: c.Tool, Executor: c.Executor, State: c.State.String(),
		IsError: isError, Duration: took,
	}
}

// appendResults is T3: what the calls came to, in order of the calls; with stop also the settlement.
func (r *run) appendResults(ctx context.Context, stop *Stop) error {
	c := submission.Commit{
		Outcomes: r.outcomes, ForgetReplies: true,
		Progress: &submission.Progress{Phase: submission.PhaseModel, Turn: r.sub.Turn + 1, Usage: r.sub.Usage},
	}
	fresh := map[string]bool{}
	for _, o := range r.outcomes {
		fresh[o.CallID] = true
	}
	byIndex := map[int]call.Call{}
	for _, k := range r.calls {
		byIndex[k.Index] = k
	}
	for i, a := range r.asked {
		var reply tool.Reply
		k, called := byIndex[i]
		if called {
			reply = r.reply(k)
		}
		res, err := a.Result(reply).FitImages(ctx)
		if err != nil {
			return err
		}
		if fresh[k.ID] {
			c.Events = append(c.Events, r.event(event.Event{
				Type: event.ToolFinished,
				Call: finished(k, res.IsError, k.DoneAt.Sub(k.CreatedAt)),
			}))
		}
		r.entry(&c, session.ToolResult, resultMessage(a.Block, res))
	}
	var err error
	if stop != nil {
		err = r.end(ctx, c, *stop, 0)
	} else {
		err = r.commit(ctx, c)
	}
	if errors.Is(err, call.ErrEnded) {
		return r.reconsider(ctx)
	}
	return err
}

func resultMessage(b model.Block, res tool.Result) model.Message {
	block := model.Block{
		Type: model.ToolResultBlock, CallID: b.CallID, Tool: b.Tool, Text: res.Text,
		IsError: res.IsError, Details: res.Details,
	}
	if len(res.Images) > 0 {
		block.Image = &res.Images[0]
	}
	return model.Message{Role: model.ToolRole, Content: []model.Block{block}}
}
