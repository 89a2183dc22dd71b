package link

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// connection is one executor's link to this replica.
type connection struct {
	server   *Server
	stream   stream
	executor fleet.Executor // as it connected
	cancel   context.CancelCauseFunc
	gone     <-chan struct{} // closed when the connection ends
	// unix nanoseconds of the last answer to a Ping: whoever sends and does not listen is of no use
	heard atomic.Int64
	begun atomic.Int64 // calls that the executor's journal has begun

	handling atomic.Bool // a frame: that time is ours, and no silence of the executor's
	saved    int64       // of begun, in the database; of the goroutine that watches

	mu       sync.Mutex // guards what follows
	queue    []*pawlv1.ConnectResponse
	content  []*pawlv1.ConnectResponse // Input, sent when the queue is empty; each transfer has at most a window in it
	ready    chan struct{}
	lastCall string // that was put into the queue
	// calls of sessions that were asked for over this connection and may still be heard of
	asked     map[string]asked
	unacked   map[string]bool      // calls whose results are recorded, and are acknowledged when their output was taken
	transfers map[string]*transfer // calls of no session, until the executor has ended them
	pinged    map[uint64]string
	nonce     uint64
	beat      chan struct{} // closed by the next Heartbeat
	beaten    uint64        // the latest nonce that a Heartbeat has answered
	draining  bool
	over      bool
}

// asked is a call that was asked for.
type asked struct {
	lane  string
	there bool // the executor has said that it has the call
}

func newConnection(s *Server, stream stream, e fleet.Executor, cancel context.CancelCauseFunc) *connection {
	c := &connection{
		server: s, stream: stream, executor: e, cancel: cancel, ready: make(chan struct{}, 1),
		beat: make(chan struct{}), pinged: map[uint64]string{}, asked: map[string]asked{}, unacked: map[string]bool{},
		transfers: map[string]*transfer{}, draining: e.Draining,
	}
	c.heard.Store(time.Now().UnixNano())
	c.begun.Store(e.Journal.Begun)
	c.saved = e.Journal.Begun
	return c
}

// end closes the connection with a cause that the executor is told.
func (c *connection) end(cause error) {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.cancel(cause)
}

// enqueue hands a frame to the sender; false when the connection has ended. It never blocks: an executor that does not
// read is found by the ttl, and the length of the queue is bounded by then.
func (c *connection) enqueue(f *pawlv1.ConnectResponse) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enqueueLocked(f)
}

func (c *connection) enqueueLocked(f *pawlv1.ConnectResponse) bool {
	if c.over {
		return false
	}
	if len(c.queue) >= queueLimit {
		c.over = true
		c.cancel(ErrSilent)
		return false
	}
	switch f := f.GetFrame().(type) {
	case *pawlv1.ConnectResponse_Execute:
		c.lastCall = f.Execute.GetCallId()
		c.askLocked(f.Execute.GetCallId(), f.Execute.GetLaneId())
	case *pawlv1.ConnectResponse_Attach:
		c.askLocked(f.Attach.GetCallId(), f.Attach.GetLaneId())
	case *pawlv1.ConnectResponse_Cancel:
		c.askLocked(f.Cancel.GetCallId(), f.Cancel.GetLaneId())
	case *pawlv1.ConnectResponse_ResultAck:
		delete(c.asked, f.ResultAck.GetCallId())
		delete(c.unacked, f.ResultAck.GetCallId())
	}
	c.queue = append(c.queue, f)
	c.wake()
	return true
}

// askLocked notes that a call is asked for. The caller holds mu.
func (c *connection) askLocked(id, lane string) {
	if lane != "" {
		c.asked[id] = asked{lane: lane, there: c.asked[id].there}
	}
}

// answered notes what a frame says about a call, and returns the lane whose owner asked for it over this connection, ""
// for none. A call that the executor does not have will not be heard of again.
func (c *connection) answered(rep call.Report) (lane string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.asked[rep.CallID]
	if !ok {
		return ""
	}
	over := false
	switch body := rep.Body.(type) {
	case call.Rejected:
		over = !known.there // else a Cancel was rejected
	case call.Found:
		over = body.State == call.Unknown || body.State == call.TombstoneThere
		known.there = !over
	default:
		known.there = true
	}
	if over {
		delete(c.asked, rep.CallID)
	} else {
		c.asked[rep.CallID] = known
	}
	return known.lane
}

func (c *connection) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// run serves the connection until the executor closes it, which is no error, or it ends with a cause. What it starts
// may be stuck in the stream, which an executor that reads nothing can hold up, until Connect has returned; then the
// server waits for it.
func (c *connection) run(ctx context.Context, hello *pawlv1.Hello) error {
	ended := make(chan error, 2)
	c.server.streams.Go(func() { ended <- contain.Do(func() error { return c.send(ctx) }) })
	c.server.streams.Go(func() { ended <- contain.Do(func() error { return c.receive(ctx) }) })
	c.server.streams.Go(func() {
		if err := contain.Do(func() error { c.watch(ctx); return nil }); err != nil {
			c.end(err)
		}
	})
	if err := c.reconcile(ctx, hello); err != nil {
		c.end(err)
	} else {
		c.attach(false)
		c.server.deps.Owner.FleetChanged()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attach tells the fleet what the executor is, unless the connection has ended.
func (c *connection) attach(draining bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.draining = c.draining || draining
	e := c.executor
	e.Draining = c.draining
	c.server.deps.Local.Attached(e)
}

func (c *connection) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ready:
		}
		for batch := c.next(); len(batch) > 0; batch = c.next() {
			for _, f := range batch {
				if err := c.stream.Send(f); err != nil {
					return err
				}
			}
		}
	}
}

// next is what is to be sent next: all that waits, or one piece of content when nothing else does.
func (c *connection) next() []*pawlv1.ConnectResponse {
	c.mu.Lock()
	defer c.mu.Unlock()
	if batch := c.queue; len(batch) > 0 {
		c.queue = nil
		return batch
	}
	if len(c.content) == 0 {
		return nil
	}
	first := c.content[0]
	c.content[0] = nil
	c.content = c.content[1:]
	return []*pawlv1.ConnectResponse{first}
}

// watch pings, and ends a connection on which no answer came for a whole ttl.
func (c *connection) watch(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !c.handling.Load() && time.Since(time.Unix(0, c.heard.Load())) > ttl {
			c.end(ErrSilent)
			return
		}
		c.ping()
		c.acknowledgeTaken(ctx)
		c.confirm(ctx)
	}
}

// confirm makes durable how many calls the executor has begun: a copy of its journal that has begun fewer is known by
// that. It ends a connection that is not the executor's present one: the replica that has that one may not have reached
// this one to ask.
func (c *connection) confirm(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pingEvery/2)
	defer cancel()
	begun := c.begun.Load()
	present, err := c.present(ctx, begun)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			c.server.deps.Log.Debug("recording what an executor has begun failed, trying again", "executor_id",
				c.executor.ID, "error", err)
		}
	case !present:
		c.end(ErrSuperseded)
	default:
		c.saved = begun
	}
}

// present reports whether this is the executor's connection. begun is recorded if it is news.
func (c *connection) present(ctx context.Context, begun int64) (bool, error) {
	id, epoch := c.executor.ID, c.executor.ConnectionEpoch
	if begun != c.saved {
		return c.server.deps.Fleet.SetBegun(ctx, id, epoch, begun)
	}
	e, err := c.server.deps.Fleet.GetExecutor(ctx, id)
	if errors.Is(err, fleet.ErrNotFound) {
		return false, nil
	}
	return e.ConnectionEpoch == epoch, err
}

// probeLimit is how long an executor may take to show that it is there while another one wants its place.
const probeLimit = 3 * time.Second

// answers asks for a sign of life: what was sent before the question is none. ErrContended when none can be received
// now, because this replica is busy with a frame.
func (c *connection) answers(ctx context.Context) (bool, error) {
	nonce := c.ping()
	limit := time.NewTimer(probeLimit)
	defer limit.Stop()
	for {
		c.mu.Lock()
		beat, over, answered := c.beat, c.over, c.beaten >= nonce
		c.mu.Unlock()
		if over || answered {
			return answered && !over, nil
		}
		select {
		case <-beat:
		case <-c.gone:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-limit.C:
			if c.handling.Load() {
				return false, ErrContended
			}
			return false, nil
		}
	}
}

// ping asks for a Heartbeat that names the last call before it in the queue: nothing may get between the two. It
// returns the nonce that the Heartbeat will have.
func (c *connection) ping() (nonce uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nonce++
	c.pinged[c.nonce] = c.lastCall
	c.enqueueLocked(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Ping{Ping: &pawlv1.Ping{
		Nonce: c.nonce, LastCallId: c.lastCall,
	}}})
	return c.nonce
}

func (c *connection) receive(ctx context.Context) error {
	for {
		req, err := c.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		began := time.Now()
		c.handling.Store(true)
		err = c.handle(ctx, req)
		c.heard.Add(int64(time.Since(began)))
		c.handling.Store(false)
		if err != nil {
			return err
		}
	}
}

// handle takes one frame.
func (c *connection) handle(ctx context.Context, req *pawlv1.ConnectRequest) error {
	if c.transferred(req) {
		return nil
	}
	switch f := req.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Heartbeat:
		return c.heartbeat(f.Heartbeat)
	case *pawlv1.ConnectRequest_Draining:
		c.attach(true)
		return c.server.deps.Fleet.SetDraining(ctx, c.executor.ID, c.executor.ConnectionEpoch)
	case *pawlv1.ConnectRequest_Result:
		return c.result(ctx, req)
	case *pawlv1.ConnectRequest_Accepted:
		c.hasBegun(f.Accepted.GetBegun())
		return c.pass(req)
	case *pawlv1.ConnectRequest_Status:
		if f.Status.GetJournalId() == c.executor.Journal.Name {
			// what the answer proves is bound to the journal as control knows it
			f.Status.JournalId = c.executor.JournalID
		}
		return c.pass(req)
	case *pawlv1.ConnectRequest_Output, *pawlv1.ConnectRequest_Rejected:
		return c.pass(req)
	case *pawlv1.ConnectRequest_InputAck:
		return nil // of a transfer that is over
	}
	return ErrFrame.With("an unexpected frame %T came", req.GetFrame())
}

// heartbeat checks that the executor has received what was sent before the ping.
func (c *connection) heartbeat(h *pawlv1.Heartbeat) error {
	c.hasBegun(h.GetBegun())
	c.mu.Lock()
	want, asked := c.pinged[h.GetNonce()]
	delete(c.pinged, h.GetNonce())
	c.mu.Unlock()
	if !asked {
		return nil
	}
	if want != h.GetLastCallId() {
		return ErrSilent.With("call %s was sent and did not arrive", want)
	}
	c.heard.Store(time.Now().UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beaten = max(c.beaten, h.GetNonce())
	close(c.beat)
	c.beat = make(chan struct{})
	return nil
}

// hasBegun notes how many calls the executor's journal has begun. Only the goroutine that receives calls it.
func (c *connection) hasBegun(n int64) { c.begun.Store(max(c.begun.Load(), n)) }

// pass hands a frame to the run that it concerns, here or at the replica that owns the session. One that gets lost is
// asked for again.
func (c *connection) pass(req *pawlv1.ConnectRequest) error {
	rep, ok := report(c.executor, req)
	if !ok {
		return nil
	}
	if err := ident.CheckText("call_id", rep.CallID, maxText); err != nil {
		return ErrFrame.With("a frame came: %v", err)
	}
	rep.LaneID = c.answered(rep)
	if rep.LaneID == "" {
		return nil // nobody asked over this connection; whoever waits attaches and asks
	}
	if !c.server.deps.Owner.Deliver(rep) {
		c.server.deps.Peers.deliver(c.executor.ID, rep.LaneID, req)
	}
	return nil
}

// result hands a result to the session's run, which records and acknowledges it. When no run here owns the session it
// is recorded right here: any replica may (C3), and its owner, wherever it is, finds the row.
func (c *connection) result(ctx context.Context, req *pawlv1.ConnectRequest) error {
	rep, _ := report(c.executor, req)
	if err := ident.CheckText("call_id", rep.CallID, maxText); err != nil {
		return ErrFrame.With("a result came: %v", err)
	}
	if c.server.deps.Owner.Deliver(rep) {
		return nil
	}
	known, err := c.assigned(ctx, rep.CallID)
	if err != nil {
		return err
	}
	reply := rep.Body.(call.Ended).Reply
	if known.SessionID != "" && !known.State.Terminal() && call.StateOf(reply) == call.Lost {
		// Whether an interrupted call runs again is its owner's decision; the executor keeps the news until then.
		c.leaveToOwner(known, req)
		return nil
	}
	switch {
	case known.SessionID == "":
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
	c.server.deps.Peers.deliver(c.executor.ID, known.SessionID, req)
	c.server.deps.Hints.Notify(known.SessionID)
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
	body, err := call.EncodeReply(reply)
	if err != nil {
		return err
	}
	known, err = c.server.deps.Calls.CompleteCall(ctx, call.Outcome{
		CallID: known.ID, State: call.StateOf(reply),
		Reply: body,
	})
	if err != nil {
		return err
	}
	c.server.deps.Hints.Notify(known.SessionID)
	c.recorded(known, reply)
	return nil
}

// recorded acknowledges a result that is on record, once the output of its call is in the session's stream.
func (c *connection) recorded(known call.Call, reply tool.Reply) {
	if outputMayLack(known, reply) {
		// The session's owner takes the output first. Its acknowledgement is one of both.
		c.mu.Lock()
		c.unacked[known.ID] = true
		c.mu.Unlock()
		return
	}
	c.enqueue(encode(&call.ResultAck{CallID: known.ID}))
}

// outputMayLack reports whether a command's output may not be in its session's stream yet: it is when the transcript
// has the result.
func outputMayLack(c call.Call, reply tool.Reply) bool {
	x, ok := reply.(tool.ExecReply)
	return ok && c.State != call.Lost && c.Reply != nil && x.Stdout.Size+x.Stderr.Size > 0
}

// acknowledgeTaken acknowledges results that are in the transcript by now, in case their owner's acknowledgement does
// not come through.
func (c *connection) acknowledgeTaken(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pingEvery/2)
	defer cancel()
	c.mu.Lock()
	unacked := slices.Collect(maps.Keys(c.unacked))
	c.mu.Unlock()
	for _, id := range unacked {
		known, err := c.assigned(ctx, id)
		if err != nil {
			if ctx.Err() == nil {
				c.server.deps.Log.Warn("reading a call failed, trying again", "call_id", id, "error", err)
			}
			return
		}
		if known.Reply == nil || known.State == call.Lost {
			c.enqueue(encode(&call.ResultAck{CallID: id}))
		}
	}
}

// reconcile is C4: what the executor holds and nobody waits for is ended and acknowledged; what is dispatched to it is
// left to the owners of the sessions, who are told that it is here and attach.
func (c *connection) reconcile(ctx context.Context, hello *pawlv1.Hello) error {
	for _, in := range hello.GetInflight() {
		known, err := c.assigned(ctx, in.GetCallId())
		if err != nil {
			return err
		}
		if known.SessionID != "" && !known.State.Terminal() {
			continue
		}
		if in.GetState() == pawlv1.State_STATE_RUNNING {
			c.enqueue(encode(&call.Cancel{
				CallID: in.GetCallId(), LaneID: in.GetLaneId(), Epoch: in.GetEpoch(),
				Grace: time.Second,
			}))
		}
	}
	open, err := c.server.deps.Calls.DispatchedCalls(ctx, c.executor.ID)
	if err != nil {
		return err
	}
	sessions := map[string]bool{}
	for _, o := range open {
		if !sessions[o.SessionID] {
			sessions[o.SessionID] = true
			c.server.deps.Hints.Notify(o.SessionID)
		}
	}
	return nil
}
