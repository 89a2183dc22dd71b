package link

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
)

// do runs a verb at an executor that is connected to another replica. Both gRPC streams hold back who is too fast.
func (p *Peers) do(ctx context.Context, addr string, f *File) (*pawlv1.Result, error) {
	client, err := p.client(addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Transfer(ctx)
	if err != nil {
		return nil, p.unreached(ctx, addr, err)
	}
	r := &relay{stream: stream, call: newTransfer(f.Verb), file: f, refused: make(chan error, 1)}
	if err := stream.Send(&peerv1.TransferRequest{ExecutorId: f.Executor, Execute: f.Verb}); err != nil &&
		!errors.Is(err, io.EOF) {
		return nil, p.unreached(ctx, addr, err)
	}
	if f.Next != nil {
		go r.send(cancel) // ends with the client's RPC at the latest
	}
	res, err := r.receive()
	if err == nil {
		return res, nil
	}
	return nil, r.because(ctx, err)
}

func (p *Peers) unreached(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.log.Debug("a replica could not be reached", "addr", addr, "error", err)
	return ErrAway.With("the replica that the executor is connected to cannot be reached; try again")
}

// relay is a transfer that another replica drives.
type relay struct {
	stream  grpc.BidiStreamingClient[peerv1.TransferRequest, peerv1.TransferResponse]
	call    *transfer
	file    *File
	last    atomic.Bool // all of the content was sent
	refused chan error  // why the client's content ended early
}

// send passes the client's content on.
func (r *relay) send(cancel context.CancelFunc) {
	for {
		var in *pawlv1.Input
		err := contain.Do(func() (err error) { in, err = r.file.Next(); return err })
		if err != nil {
			r.refused <- err
			cancel()
			return
		}
		if in.GetLast() {
			r.last.Store(true)
		}
		if r.stream.Send(&peerv1.TransferRequest{Input: in}) != nil || in.GetLast() {
			return // whoever receives knows why
		}
	}
}

func (r *relay) receive() (*pawlv1.Result, error) {
	for {
		m, err := r.stream.Recv()
		if err != nil {
			return nil, err
		}
		switch part := m.GetPart().(type) {
		case *peerv1.TransferResponse_Opened_:
			err = r.file.Opened(part.Opened.Size)
		case *peerv1.TransferResponse_Data:
			err = r.file.Take(part.Data)
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
func (r *relay) because(ctx context.Context, err error) error {
	var own clientError
	select {
	case refused := <-r.refused:
		return refused
	default:
	}
	switch told := rpc.FromStatus(err); {
	case errors.As(err, &own):
		return own.error
	case errors.Is(told, ErrNotHere):
		return ErrAway
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case rpc.Reason(err) != "":
		return told
	}
	return lost(r.call.effects, r.call.chunked && !r.last.Load())
}

// Transfer implements PeerService.
func (p *PeerServer) Transfer(stream grpc.BidiStreamingServer[peerv1.TransferRequest, peerv1.TransferResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c := p.server.connection(first.GetExecutorId())
	if c == nil {
		return ErrNotHere
	}
	f := &File{Executor: first.GetExecutorId(), Verb: first.GetExecute()}
	switch v := first.GetExecute().GetVerb().(type) {
	case *pawlv1.Execute_ReadFile:
		f.Opened = func(size *int64) error {
			return stream.Send(&peerv1.TransferResponse{Part: &peerv1.TransferResponse_Opened_{Opened: &peerv1.TransferResponse_Opened{Size: size}}})
		}
		f.Take = func(data []byte) error {
			return stream.Send(&peerv1.TransferResponse{Part: &peerv1.TransferResponse_Data{Data: data}})
		}
	case *pawlv1.Execute_WriteFile:
		if v.WriteFile.GetChunked() {
			f.Next = func() (*pawlv1.Input, error) {
				m, err := stream.Recv()
				return m.GetInput(), err
			}
		}
	}
	res, err := c.do(stream.Context(), f)
	if err != nil {
		return err
	}
	return stream.Send(&peerv1.TransferResponse{Part: &peerv1.TransferResponse_Result{Result: res}})
}
