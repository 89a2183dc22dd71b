package turn

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
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

// parse makes a request of the call at an index of the answer. Its error is for the model to read.
func (r *run) parse(i int, b model.Block) (tool.Call, error) {
	if most := r.def.Limits.CallsOfTurn(); i >= most {
		return tool.Call{}, tool.ErrTooMany.With(
			"Not run: at most %d calls of one answer are run. Make this call again if it is still needed.", most)
	}
	if _, err := tool.Get(b.Tool); err == nil && !r.offered[b.Tool] {
		return tool.Call{}, tool.ErrUnknown.With("the tool %s is not available to this agent", b.Tool)
	}
	if b.ArgsError != "" {
		return tool.Call{}, tool.ErrArguments.With("%s", b.ArgsError)
	}
	return tool.Parse(b.Tool, b.Args)
}

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
	for i, b := range toolBlocks(answer.Message) {
		asked, err := r.parse(i, b)
		if err != nil {
			continue // refused: there is nothing to run, and the result follows from the answer
		}
		hash, err := r.hash(asked.Request)
		if err != nil {
			return err
		}
		calls = append(calls, call.Call{
			ID: ident.New(), SessionID: r.id(), SubmissionSeq: r.sub.Seq, Turn: r.sub.Turn, Index: i, EntrySeq: answer.Seq,
			ProviderID: b.CallID, Tool: b.Tool, Safety: tool.SafetyOf(b.Tool), ArgsHash: hash, CreatedAt: time.Now(),
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

// hash identifies what a call asks for, over all its dispatches.
func (r *run) hash(req tool.Request) ([]byte, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encoding a call's arguments: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n", req.Tool(), body, r.def.Cwd)
	env := r.values.Map()
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if v := env[k]; v != nil {
			fmt.Fprintf(h, "%q=%q\n", k, *v)
		} else {
			fmt.Fprintf(h, "%q\n", k)
		}
	}
	return h.Sum(nil), nil
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

// callBlocks are the calls that the last entry asks for. They are found once for each entry: an answer can have 20,000.
func (r *run) callBlocks() []model.Block {
	if last := r.conversation.last; r.asked == nil || r.askedBy != last.Seq {
		r.asked, r.askedBy = toolBlocks(last.Message), last.Seq
	}
	return r.asked
}

// requestOf reads a call's request back from the answer that asked for it.
func (r *run) requestOf(c call.Call) (tool.Request, error) {
	blocks := r.callBlocks()
	if r.conversation.head != c.EntrySeq || c.Index >= len(blocks) {
		return nil, fmt.Errorf("entry %d does not hold call %d", c.EntrySeq, c.Index)
	}
	asked, err := r.parse(c.Index, blocks[c.Index])
	return asked.Request, err
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
	for i, b := range r.callBlocks() {
		k, called := byIndex[i]
		res, err := r.result(i, k, called).FitImages(ctx)
		if err != nil {
			return err
		}
		if fresh[k.ID] {
			c.Events = append(c.Events, r.event(event.Event{
				Type: event.ToolFinished,
				Call: finished(k, res.IsError, k.DoneAt.Sub(k.CreatedAt)),
			}))
		}
		r.entry(&c, session.ToolResult, resultMessage(b, res))
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

// result is what one call came to, as the model sees it.
func (r *run) result(i int, k call.Call, called bool) tool.Result {
	asked, refused := r.parse(i, r.callBlocks()[i])
	if refused != nil {
		return tool.Refused(refused)
	}
	if !called {
		return tool.Render(asked.Request, tool.Failure{Reason: tool.ReasonCancelled})
	}
	return asked.Annotate(tool.Render(asked.Request, r.reply(k)))
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
