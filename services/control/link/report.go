package link

import (
	"context"
	"errors"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// pass hands a frame to the run that it concerns, here or at the replica that owns the session. One that gets lost is
// asked for again.
func (c *connection) pass(req *pawlv1.ConnectRequest) error {
	rep, ok := report(c.executor.ID, req)
	if !ok {
		return nil
	}
	if err := ident.CheckText("call_id", rep.CallID, maxText); err != nil {
		return ErrFrame.With("a frame came: %v", err)
	}
	if m := c.calls.refused(rep); m != nil {
		c.out.put(encode(m))
	}
	rep.LaneID = c.calls.heard(rep)
	if rep.LaneID == "" {
		return nil // nobody asked over this connection; whoever waits attaches and asks
	}
	if !c.server.deps.Owner.Deliver(rep) {
		c.server.deps.Peers.Deliver(c.executor.ID, rep.LaneID, req)
	}
	return nil
}

// result hands a result to the session's run, which records and acknowledges it. When no run here owns the session it
// is recorded right here: any replica may (C3), and its owner, wherever it is, finds the row.
func (c *connection) result(ctx context.Context, req *pawlv1.ConnectRequest) error {
	rep, _ := report(c.executor.ID, req)
	if err := ident.CheckText("call_id", rep.CallID, maxText); err != nil {
		return ErrFrame.With("a result came: %v", err)
	}
	c.calls.heard(rep)
	if c.server.deps.Owner.Deliver(rep) {
		return nil
	}
	known, err := c.assigned(ctx, rep.CallID)
	if err != nil {
		return err
	}
	reply := rep.Body.(call.Ended).Reply
	if known.LaneID != "" && !known.State.Terminal() && call.StateOf(reply) == call.Lost {
		// Whether an interrupted call runs again is its owner's decision; the executor keeps the news until then.
		c.leaveToOwner(known, req)
		return nil
	}
	switch {
	case known.LaneID == "":
		c.enqueue(encode(&call.ResultAck{CallID: rep.CallID})) // nobody's
		return nil
	case known.State.Terminal() && known.State != call.Lost:
		c.recorded(known, reply)
		return nil
	}
	clean, err := c.server.deps.Redactor.Redact(ctx, known, reply)
	if _, here := errs.Public(err); here && !errs.Temporary(err) {
		if !known.State.Terminal() {
			c.leaveToOwner(known, req)
			return nil
		}
		clean, err = withheld, nil
	}
	if err != nil {
		return err
	}
	return c.record(ctx, known, clean)
}

// withheld is what is kept of a late reply whose secrets are not known.
var withheld = tool.Failure{Reason: "WITHHELD", Message: "what the call came to is not kept: the secrets in it are " +
	"not known here"}

// leaveToOwner tells the owner of a session about a result that is not recorded here. The executor keeps it until it is
// acknowledged.
func (c *connection) leaveToOwner(known call.Call, req *pawlv1.ConnectRequest) {
	c.server.deps.Peers.Deliver(c.executor.ID, known.LaneID, req)
	c.server.changed(known.LaneID)
}

// assigned is the record of a call of this executor; without a session when there is none, or it is another executor's.
func (c *connection) assigned(ctx context.Context, id string) (call.Call, error) {
	known, err := c.server.deps.Calls.GetCall(ctx, id)
	if errors.Is(err, call.ErrNotFound) {
		return call.Call{}, nil
	}
	if err == nil && known.Executor != c.executor.ID {
		return call.Call{}, nil
	}
	return known, err
}

// record makes a result durable and acknowledges it.
func (c *connection) record(ctx context.Context, known call.Call, reply tool.Reply) error {
	body, err := tool.Encode(reply)
	if err != nil {
		return err
	}
	known, err = c.server.deps.Calls.CompleteCall(ctx, call.Outcome{
		CallID: known.ID, State: call.StateOf(reply), Reply: body, Leaves: tool.Leaves(reply),
	})
	if err != nil {
		return err
	}
	c.server.changed(known.LaneID)
	c.recorded(known, reply)
	return nil
}

// recorded acknowledges a result that is on record, once the output of its call is in the session's stream.
func (c *connection) recorded(known call.Call, reply tool.Reply) {
	if outputMayLack(known, reply) {
		// The session's owner takes the output first. Its acknowledgement is one of both.
		c.calls.later(known.ID)
		return
	}
	c.enqueue(encode(&call.ResultAck{CallID: known.ID}))
}

// outputMayLack reports whether a command's output may not be in its session's stream yet.
func outputMayLack(c call.Call, reply tool.Reply) bool {
	x, ok := reply.(tool.Process)
	return ok && !taken(c) && x.Written() != [2]int64{}
}

// taken reports whether nobody takes output of a call any more whose outcome is on record: its end is in the stream,
// its result in the transcript, or nobody waits for it.
func taken(c call.Call) bool {
	return c.State == call.Lost || c.Reply == nil || c.Shown[0] == call.Told
}

// acknowledgeTaken acknowledges results that nobody needs by now, in case their owner's acknowledgement does not come
// through.
func (c *connection) acknowledgeTaken(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pingEvery/2)
	defer cancel()
	for _, id := range c.calls.waiting() {
		known, err := c.assigned(ctx, id)
		if err != nil {
			if ctx.Err() == nil {
				c.server.deps.Log.Warn("reading a call failed, trying again", "call_id", id, "error", err)
			}
			return
		}
		if taken(known) {
			c.enqueue(encode(&call.ResultAck{CallID: id}))
		}
	}
}
