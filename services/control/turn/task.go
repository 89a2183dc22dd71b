package turn

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// beginTask begins the loop that carries out a task call. Its first step dispatches the call.
func (t *Strand) beginTask(ctx context.Context, c *Call) error {
	asked, err := t.user.Request(ctx, c)
	if err != nil {
		return err
	}
	began, failed, err := t.user.Begin(ctx, c, asked)
	switch {
	case err != nil:
		return err
	case failed != nil:
		return t.conclude(ctx, c, call.Done, failed)
	case began.IsZero():
		return nil // the end of another one has this strand look again
	}
	c.State, c.Dispatch, c.watch.Sent, c.watch.Running = call.Dispatched, 1, began, began
	return nil
}

// Resumed notes that the loop goes on that carries out a task call, which it returns; nil when the turn has no such
// call.
func (t *Strand) Resumed(callID string) *Call {
	c := t.turn.byID[callID]
	if c != nil {
		c.watch.Running = time.Now()
	}
	return c
}

// tookOwn takes the outcome of a call that this process has carried out.
func (t *Strand) tookOwn(ctx context.Context, c *Call, e endedHere) error {
	if !e.committed {
		return t.conclude(ctx, c, call.StateOf(e.reply), e.reply)
	}
	c.State, c.DoneAt, c.usage = e.state, time.Now(), e.usage
	t.user.TaskEnded()
	t.closeCall(c, e.reply)
	return nil
}

// runFunction runs a call that control answers itself.
func (t *Strand) runFunction(ctx context.Context, c *Call) error {
	asked, err := t.user.Request(ctx, c)
	if err != nil {
		return err
	}
	work := asked.Call
	work.ID = c.ID
	run := work.Run
	if c.watch.Inherited {
		if err := t.user.Recall(ctx); err != nil {
			return err
		}
		run = work.RunAgain
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.watch.Running = time.Now()
	id, done := c.ID, c.cancel
	ctx = tool.WithProgress(ctx, func(p tool.Progress) { t.mail.progress(id, p) })
	go func() { // not waited for: one that does not end must not keep the lane
		defer done()
		reply, err := run(ctx, t.lane.deps.Log)
		if err != nil {
			reply = tool.Failure{Reason: tool.ReasonCancelled, Message: "the call was cancelled"}
		}
		t.mail.end(endedHere{callID: id, reply: reply})
	}()
	return nil
}

// spending is what the stored form of a reply to a task call has beside the reply: what the sub-agent has cost. It is
// counted for the loop that asked when that appends the result.
type spending struct {
	Usage model.Usage `json:"usage"`
}

// EncodeTask is the stored form of what a task call came to.
func EncodeTask(r tool.Reply, cost model.Usage) ([]byte, error) {
	body, err := tool.Encode(r)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("encoding a sub-agent's reply: %w", err)
	}
	all["usage"] = cost
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
