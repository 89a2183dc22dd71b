package link

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/link/files"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// connection is one executor's connection to this replica.
type connection struct {
	server   *Server
	stream   stream
	executor fleet.Executor  // as it connected; never written again
	ctx      context.Context // ends with the connection
	cancel   context.CancelCauseFunc

	out    *outbox
	pulse  *pulse
	calls  *ledger
	files  *files.Transfers
	grants *fleet.Granter // nil without Deps.Grants
	begun  atomic.Int64   // calls that the executor's journal has begun
	begins await.Signal   // begun has grown

	mu       sync.Mutex // guards what follows
	draining bool
	over     bool
}

func newConnection(s *Server, stream stream, e fleet.Executor, inflight []*pawlv1.CallState) *connection {
	ctx, cancel := context.WithCancelCause(stream.Context())
	c := &connection{
		server: s, stream: stream, executor: e, ctx: ctx, cancel: cancel,
		pulse: newPulse(s.deps.Clock), calls: newLedger(inflight), draining: e.Draining, begins: await.NewSignal(),
	}
	c.out = newOutbox(func() { cancel(ErrSilent) })
	c.files = files.New(c.enqueue, c.out.ready.Set)
	c.grants = c.newGranter()
	c.begun.Store(e.Journal.Begun)
	return c
}

// end closes the connection with a cause that the executor is told. What waits for a file is told too.
func (c *connection) end(cause error) {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.cancel(cause)
	c.out.close()
	c.files.Close()
}

func (c *connection) isOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.over
}

// enqueue hands a frame to the sender; false when the connection has ended. It never blocks.
func (c *connection) enqueue(f *pawlv1.ConnectResponse) bool {
	c.calls.sent(f)
	if ack := f.GetResultAck(); ack != nil {
		c.freed(ack.GetCallId())
	}
	return c.out.put(f)
}

// run serves the connection until the executor closes it, which is no error, or it ends with a cause. What it starts
// may be stuck in the stream, which an executor that reads nothing can hold up, until Connect has returned; then the
// server waits for it.
func (c *connection) run() error {
	ended := make(chan error, 2)
	c.server.streams.Go(func() { ended <- contain.Do(c.send) })
	c.server.streams.Go(func() { ended <- contain.Do(c.receive) })
	c.server.streams.Go(func() {
		if err := contain.Do(func() error { c.watch(); return nil }); err != nil {
			c.end(err)
		}
	})
	c.server.streams.Go(func() {
		contain.Run(c.server.deps.Log, "recording what an executor begins", c.recordBegun)
	})
	if c.grants != nil {
		c.server.streams.Go(func() {
			if err := contain.Do(func() error { return c.grants.Run(c.ctx) }); err != nil {
				c.end(err)
			}
		})
	}
	c.attach()
	c.server.deps.Bus.Publish(wake.Executor(c.executor.ID))
	select {
	case err := <-ended:
		return err
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// attach tells the fleet what the executor is, unless the connection has ended.
func (c *connection) attach() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	e := c.executor
	e.Draining = c.draining
	c.server.deps.Local.Attached(e)
}

func (c *connection) send() error {
	for {
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-c.out.ready:
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
	if batch := c.out.take(); len(batch) > 0 {
		return batch
	}
	if f := c.files.Next(); f != nil {
		return []*pawlv1.ConnectResponse{f}
	}
	return nil
}

// watch pings, ends a connection on which no answer came for a whole ttl, compares, and acknowledges.
func (c *connection) watch() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for ticks := 0; ; ticks++ {
		if ticks%int(compareEvery/pingEvery) == 0 {
			if err := c.compare(c.ctx); err != nil && c.ctx.Err() == nil {
				c.server.deps.Log.Warn("comparing calls with an executor failed, trying again", "executor_id",
					c.executor.ID, "error", err)
				ticks = -1 // at the next tick
			}
		}
		c.acknowledgeTaken(c.ctx)
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		if c.pulse.silent() {
			c.end(ErrSilent)
			return
		}
		c.out.ping()
	}
}

func (c *connection) receive() error {
	for {
		req, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.pulse.handle(func() error { return c.handle(c.ctx, req) })
		}
		if err != nil {
			return err
		}
	}
}

// handle takes one frame.
func (c *connection) handle(ctx context.Context, req *pawlv1.ConnectRequest) error {
	if c.files.Hear(req) {
		return nil
	}
	switch f := req.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Heartbeat:
		return c.heartbeat(f.Heartbeat)
	case *pawlv1.ConnectRequest_Draining:
		c.drains(ctx)
		return nil
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
	case *pawlv1.ConnectRequest_Output, *pawlv1.ConnectRequest_Rejected, *pawlv1.ConnectRequest_Progress:
		return c.pass(req)
	case *pawlv1.ConnectRequest_McpChanged:
		if c.server.deps.ToolsChanged != nil {
			c.server.deps.ToolsChanged(c.executor.ID, f.McpChanged.GetServerId())
		}
		return nil
	case *pawlv1.ConnectRequest_InputAck:
		return nil // of a transfer that is over
	}
	return ErrFrame.With("an unexpected frame %T came", req.GetFrame())
}

// heartbeat checks that the executor has received what was sent before the Ping.
func (c *connection) heartbeat(h *pawlv1.Heartbeat) error {
	c.hasBegun(h.GetBegun())
	want, asked := c.out.answered(h.GetNonce())
	switch {
	case !asked:
		return nil
	case want != h.GetLastCallId():
		return ErrSilent.With("call %s was sent and did not arrive", want)
	}
	c.pulse.answered(h.GetNonce())
	return nil
}

// hasBegun notes how many calls the executor's journal has begun. Only the goroutine that receives calls it.
func (c *connection) hasBegun(n int64) {
	if n > c.begun.Load() {
		c.begun.Store(n)
		c.begins.Set()
	}
}
