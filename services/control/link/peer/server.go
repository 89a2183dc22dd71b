package peer

import (
	"context"

	"google.golang.org/grpc"

	peerv1 "github.com/pawl-dev/pawl/gen/pawl/peer/v1"
	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/link/files"
)

// Local is what this replica does for others: with the executors that are connected here, and the lanes that it owns.
type Local interface {
	// SendHere sends a frame to an executor; false when it is not connected here.
	SendHere(executor string, frame *pawlv1.ConnectResponse) bool
	// DeliverHere hands a frame of an executor to the owner of a lane; false when that is not here.
	DeliverHere(executor, lane string, frame *pawlv1.ConnectRequest) bool
	// WaitHere queues pending calls for the slots of an executor; false when it is not connected here.
	WaitHere(w call.Queued) bool
	// ProbeHere asks an executor for a sign of life over one connection; false when there is none.
	ProbeHere(ctx context.Context, executor string, connectionEpoch int64) (bool, error)
	// DoHere runs a verb on the files of an executor. ErrNotHere.
	DoHere(ctx context.Context, q *files.Request) (*pawlv1.Result, error)
}

// Server implements PeerService: it serves the other replicas.
type Server struct {
	peerv1.UnimplementedPeerServiceServer
	local Local
}

// NewServer makes a Server.
func NewServer(local Local) *Server { return &Server{local: local} }

// Forward implements PeerService.
func (s *Server) Forward(_ context.Context, req *peerv1.ForwardRequest) (*peerv1.ForwardResponse, error) {
	if !s.local.SendHere(req.GetExecutorId(), req.GetFrame()) {
		return nil, ErrNotHere
	}
	return &peerv1.ForwardResponse{}, nil
}

// Wait implements PeerService.
func (s *Server) Wait(_ context.Context, req *peerv1.WaitRequest) (*peerv1.WaitResponse, error) {
	w := call.Queued{
		Executor: req.GetExecutorId(), Tenant: req.GetTenant(), LaneID: req.GetLaneId(), CallIDs: req.GetCallIds(),
	}
	if !s.local.WaitHere(w) {
		return nil, ErrNotHere
	}
	return &peerv1.WaitResponse{}, nil
}

// Probe implements PeerService.
func (s *Server) Probe(ctx context.Context, req *peerv1.ProbeRequest) (*peerv1.ProbeResponse, error) {
	alive, err := s.local.ProbeHere(ctx, req.GetExecutorId(), req.GetConnectionEpoch())
	if err == nil && !alive {
		err = ErrNotHere
	}
	if err != nil {
		return nil, err
	}
	return &peerv1.ProbeResponse{}, nil
}

// Deliver implements PeerService.
func (s *Server) Deliver(_ context.Context, req *peerv1.DeliverRequest) (*peerv1.DeliverResponse, error) {
	if !s.local.DeliverHere(req.GetExecutorId(), req.GetLaneId(), req.GetFrame()) {
		return nil, ErrNotHere
	}
	return &peerv1.DeliverResponse{}, nil
}

// Transfer implements PeerService.
func (s *Server) Transfer(stream grpc.BidiStreamingServer[peerv1.TransferRequest, peerv1.TransferResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	q := &files.Request{Executor: first.GetExecutorId(), Verb: first.GetExecute()}
	verb := first.GetExecute()
	if verb.GetReadFile() != nil || verb.GetExec() != nil {
		q.Opened = func(f files.Facts) error {
			return stream.Send(&peerv1.TransferResponse{Part: &peerv1.TransferResponse_Opened_{
				Opened: &peerv1.TransferResponse_Opened{Size: f.Size, Sha256: f.Sha256},
			}})
		}
		q.Take = func(s pawlv1.Stream, data []byte) error {
			return stream.Send(&peerv1.TransferResponse{Stream: s, Part: &peerv1.TransferResponse_Data{Data: data}})
		}
	}
	if verb.GetWriteFile().GetChunked() || verb.GetExec().GetStdin() {
		q.Next = func() (*pawlv1.Input, error) {
			m, err := stream.Recv()
			return m.GetInput(), err
		}
	}
	res, err := s.local.DoHere(stream.Context(), q)
	if err != nil {
		return err
	}
	return stream.Send(&peerv1.TransferResponse{Part: &peerv1.TransferResponse_Result{Result: res}})
}
