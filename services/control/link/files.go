package link

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const (
	// transferLimit is how many transfers run at once on one connection.
	transferLimit = 32
	// stallLimit is how long a client may neither send nor take anything.
	stallLimit = 2 * time.Minute
)

// File is a verb on the files of an executor, for a client who waits. Its functions may be called by another goroutine
// than Do's, one at a time, and may outlast Do: they must end when the client's RPC does.
type File struct {
	Executor string
	Verb     *pawlv1.Execute // verb and cwd; the rest is filled in
	// Next is the next piece of the content of a chunked WriteFile, up to and including the one that is last.
	Next func() (*pawlv1.Input, error)
	// Opened and Take are what a ReadFile gives: the size, nil for unknown, and then the bytes.
	Opened func(size *int64) error
	Take   func(data []byte) error
}

// Do runs a verb at an executor, over its connection here or through the replica that has it. It is asked for once,
// whatever happens: ErrAway when nothing was done, ErrOutcome when nobody knows. When ctx ends so does the call.
func (s *Server) Do(ctx context.Context, f *File) (*pawlv1.Result, error) {
	if c := s.connection(f.Executor); c != nil {
		return c.do(ctx, f)
	}
	e, err := s.deps.Fleet.GetExecutor(ctx, f.Executor)
	if err != nil {
		return nil, err
	}
	if !e.Connected() || e.Replica == s.deps.Replica() || e.ReplicaAddr == "" {
		return nil, ErrAway.With("executor %s is not connected; try again", e.ID)
	}
	return s.deps.Peers.do(ctx, e.ReplicaAddr, f)
}

// do runs a verb over this connection.
func (c *connection) do(ctx context.Context, f *File) (*pawlv1.Result, error) {
	t, err := c.begin(f.Verb)
	if err != nil {
		return nil, err
	}
	defer c.leave(t)
	switch {
	case f.Next != nil:
		return c.supply(ctx, t, f)
	case f.Take != nil:
		return c.hand(ctx, t, f)
	}
	for {
		if res, err := t.over(); res != nil || err != nil {
			return res, err
		}
		select {
		case <-t.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// begin asks for a call of no session.
func (c *connection) begin(verb *pawlv1.Execute) (*transfer, error) {
	x := &pawlv1.Execute{
		CallId: ident.New(), Dispatch: 1, Safety: encodeSafety(safety(verb)), Cwd: verb.GetCwd(),
		Verb: verb.GetVerb(),
	}
	body, err := proto.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("encoding a call: %w", err)
	}
	sum := sha256.Sum256(body)
	x.ArgsSha256 = sum[:]
	t := newTransfer(x)
	c.mu.Lock()
	switch {
	case c.over:
		err = ErrAway
	case len(c.transfers) >= transferLimit:
		err = ErrBusy
	default:
		c.transfers[t.id] = t
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if !c.enqueue(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Execute{Execute: x}}) {
		c.forget(t)
		return nil, ErrAway
	}
	return t, nil
}

func safety(verb *pawlv1.Execute) tool.Safety {
	switch verb.GetVerb().(type) {
	case *pawlv1.Execute_WriteFile:
		return tool.Idempotent
	case *pawlv1.Execute_MakeDir, *pawlv1.Execute_Remove:
		return tool.AtMostOnce
	}
	return tool.Pure
}

// forget ends what is known of a transfer here.
func (c *connection) forget(t *transfer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.transfers, t.id)
}

// leave ends a transfer for its client. What the executor has not ended is cancelled, and stays known until it has.
func (c *connection) leave(t *transfer) {
	t.leave()
	c.mu.Lock()
	_, open := c.transfers[t.id]
	c.content = slices.DeleteFunc(c.content, func(f *pawlv1.ConnectResponse) bool { return f.GetInput().GetCallId() == t.id })
	c.mu.Unlock()
	if open {
		c.enqueue(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Cancel{Cancel: &pawlv1.Cancel{CallId: t.id}}})
	}
}

// transferred takes a frame that is about a transfer; false when it is about something else. It never waits.
func (c *connection) transferred(req *pawlv1.ConnectRequest) bool {
	c.mu.Lock()
	t := c.transfers[subject(req)]
	if t != nil && ends(req) {
		// Before the client hears of the end: it would cancel what it still finds here.
		delete(c.transfers, t.id)
	}
	c.mu.Unlock()
	if t == nil {
		return false
	}
	t.hear(req)
	if req.GetResult() != nil {
		c.enqueue(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_ResultAck{ResultAck: &pawlv1.ResultAck{CallId: t.id}}})
	}
	return true
}

// ends reports whether a frame is the last one about its call.
func ends(req *pawlv1.ConnectRequest) bool { return req.GetResult() != nil || req.GetRejected() != nil }

// subject is the call that a frame is about, "" for none.
func subject(req *pawlv1.ConnectRequest) string {
	switch f := req.GetFrame().(type) {
	case *pawlv1.ConnectRequest_Accepted:
		return f.Accepted.GetCallId()
	case *pawlv1.ConnectRequest_Rejected:
		return f.Rejected.GetCallId()
	case *pawlv1.ConnectRequest_Output:
		return f.Output.GetCallId()
	case *pawlv1.ConnectRequest_InputAck:
		return f.InputAck.GetCallId()
	case *pawlv1.ConnectRequest_Result:
		return f.Result.GetCallId()
	}
	return ""
}

// loseTransfers ends all transfers when the connection has ended.
func (c *connection) loseTransfers() {
	c.mu.Lock()
	c.over = true
	all := c.transfers
	c.transfers, c.content = map[string]*transfer{}, nil
	c.mu.Unlock()
	for _, t := range all {
		t.lose()
	}
}

// hand gives a file to its client, one piece at a time. What the client has taken makes room for more.
func (c *connection) hand(ctx context.Context, t *transfer, f *File) (*pawlv1.Result, error) {
	give, given := make(chan []byte), make(chan error, 1)
	defer close(give)
	go func() { // ends with the client's RPC at the latest
		for data := range give {
			given <- contain.Do(func() error {
				if data == nil {
					return f.Opened(t.size) // does not change once it is open
				}
				return f.Take(data)
			})
		}
	}()
	stall := time.NewTimer(stallLimit)
	defer stall.Stop()
	opened, holds, n := false, false, 0
	for {
		var late <-chan time.Time
		if !holds {
			var data []byte
			if data, holds = t.piece(&opened); holds {
				give <- data
				n = len(data)
				stall.Reset(stallLimit)
			}
		}
		if holds {
			late = stall.C
		}
		if res, err := t.over(); err != nil || res != nil && !holds {
			return res, err
		}
		select {
		case <-t.ready:
		case err := <-given:
			if err != nil {
				return nil, err
			}
			holds = false
			c.acknowledge(t, n)
		case <-late:
			return nil, ErrStalled
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// acknowledge gives credit for what the client has taken.
func (c *connection) acknowledge(t *transfer, n int) {
	if n == 0 {
		return
	}
	t.mu.Lock()
	t.taken += int64(n)
	upto := t.taken
	t.mu.Unlock()
	c.enqueue(&pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_OutputAck{OutputAck: &pawlv1.OutputAck{
		CallId: t.id, Stream: pawlv1.Stream_STREAM_FILE, Upto: upto,
	}}})
}

// supply sends the client's content while the executor has room for it.
func (c *connection) supply(ctx context.Context, t *transfer, f *File) (*pawlv1.Result, error) {
	type next struct {
		in  *pawlv1.Input
		err error
	}
	came, quit := make(chan next), make(chan struct{})
	defer close(quit)
	go func() { // ends with the client's RPC at the latest
		for {
			var in *pawlv1.Input
			err := contain.Do(func() (err error) { in, err = f.Next(); return err })
			select {
			case came <- next{in, err}:
			case <-quit:
				return
			}
			if err != nil || in.GetLast() {
				return
			}
		}
	}()
	stall := time.NewTimer(stallLimit)
	defer stall.Stop()
	var rest *pawlv1.Input // came and was not sent
	last := false
	for {
		if res, err := t.over(); res != nil || err != nil {
			return res, err
		}
		if rest = c.sendContent(t, rest); rest == nil && !last {
			stall.Reset(stallLimit)
		}
		var more <-chan next
		var late <-chan time.Time
		if rest == nil && !last {
			more, late = came, stall.C
		}
		select {
		case <-t.ready:
		case n := <-more:
			if n.err != nil {
				return nil, n.err
			}
			rest, last = n.in, n.in.GetLast()
		case <-late:
			return nil, ErrStalled.With("no content came for %s; nothing was written", stallLimit)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// sendContent sends of a piece what the executor has room for and returns the rest, nil for none.
func (c *connection) sendContent(t *transfer, in *pawlv1.Input) *pawlv1.Input {
	for in != nil {
		data := in.GetData()
		n := int(min(int64(len(data)), maxFrame, t.credit()))
		whole := n == len(data)
		if n == 0 && !whole {
			return in
		}
		part := &pawlv1.Input{CallId: t.id, Data: data[:n]}
		if whole && in.GetLast() {
			part.Last, part.Sha256 = true, in.GetSha256()
		}
		if n > 0 || part.Last {
			c.input(t, part)
		}
		if whole {
			return nil
		}
		in = &pawlv1.Input{Data: data[n:], Last: in.GetLast(), Sha256: in.GetSha256()}
	}
	return nil
}

// input hands content to the sender, within the transfer's credit.
func (c *connection) input(t *transfer, in *pawlv1.Input) {
	t.mu.Lock()
	in.Offset = t.sent
	t.sent += int64(len(in.GetData()))
	t.last = in.GetLast()
	t.mu.Unlock()
	c.mu.Lock()
	if !c.over {
		c.content = append(c.content, &pawlv1.ConnectResponse{Frame: &pawlv1.ConnectResponse_Input{Input: in}})
	}
	c.mu.Unlock()
	c.wake()
}
