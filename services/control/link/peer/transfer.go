package peer

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/link/files"
)

// Do runs a verb at an executor that is connected to the replica at addr. Both gRPC streams hold back who is too fast.
// Errors are those of files.Transfers.Do.
func (c *Client) Do(ctx context.Context, addr string, q *files.Request) (*pawlv1.Result, error) {
	client, err := c.client(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Transfer(ctx)
	if err != nil {
		return nil, c.unreached(ctx, addr, err)
	}
	t := &transfer{stream: stream, request: q, refused: make(chan error, 1)}
	if err := stream.Send(&peerv1.TransferRequest{ExecutorId: q.Executor, Execute: q.Verb}); err != nil &&
		!errors.Is(err, io.EOF) {
		return nil, c.unreached(ctx, addr, err)
	}
	if q.Next != nil {
		go t.send(cancel) // ends with the client's RPC at the latest
	}
	res, err := t.receive()
	if err == nil {
		return res, nil
	}
	return nil, t.because(ctx, err)
}

func (c *Client) unreached(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.log.Debug("a replica could not be reached", "addr", addr, "error", err)
	return files.ErrAway.With("the replica that the executor is connected to cannot be reached; try again")
}

// transfer is a verb that another replica carries out for a client of this one.
type transfer struct {
	stream  grpc.BidiStreamingClient[peerv1.TransferRequest, peerv1.TransferResponse]
	request *files.Request
	last    atomic.Bool // all of the content was sent
	refused chan error  // why the client's content ended early
}

// send passes the client's content on.
func (t *transfer) send(cancel context.CancelFunc) {
	for {
		var in *pawlv1.Input
		err := contain.Do(func() (err error) { in, err = t.request.Next(); return err })
		if err != nil {
			t.refused <- err
			cancel()
			return
		}
		if in.GetLast() {
			t.last.Store(true)
		}
		if t.stream.Send(&peerv1.TransferRequest{Input: in}) != nil || in.GetLast() {
			return // whoever receives knows why
		}
	}
}

func (t *transfer) receive() (*pawlv1.Result, error) {
	for {
		m, err := t.stream.Recv()
		if err != nil {
			return nil, err
		}
		switch part := m.GetPart().(type) {
		case *peerv1.TransferResponse_Opened_:
			err = t.request.Opened(files.Facts{Size: part.Opened.Size, Sha256: part.Opened.GetSha256()})
		case *peerv1.TransferResponse_Data:
			err = t.request.Take(m.GetStream(), part.Data)
		case *peerv1.TransferResponse_Result:
			return part.Result, nil
		}
		if err != nil {
			return nil, clientError{err}
		}
	}
}

// clientError is one of the client's, as opposed to the replica's.
type clientError struct{ error }

// because is what the client is told.
func (t *transfer) because(ctx context.Context, err error) error {
	var own clientError
	select {
	case refused := <-t.refused:
		return refused
	default:
	}
	switch told := rpc.FromStatus(err); {
	case errors.As(err, &own):
		return own.error
	case errors.Is(told, ErrNotHere):
		return files.ErrAway
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case rpc.Reason(err) != "":
		return told
	}
	return files.Lost(t.request.Verb, t.last.Load())
}
