package api

import (
	"context"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/fleet"
)

type executors struct {
	pawlv1.UnimplementedExecutorServiceServer
	deps Deps
}

// Connect implements ExecutorService.
func (e *executors) Connect(stream grpc.BidiStreamingServer[pawlv1.ConnectRequest, pawlv1.ConnectResponse]) error {
	if err := may(stream.Context(), auth.Connect, auth.Resource{}); err != nil {
		return err
	}
	return e.deps.Connector.Connect(stream)
}

// ListExecutors implements ExecutorService.
func (e *executors) ListExecutors(
	ctx context.Context, req *pawlv1.ListExecutorsRequest,
) (*pawlv1.ListExecutorsResponse, error) {
	if err := may(ctx, auth.ReadExecutors, auth.Resource{}); err != nil {
		return nil, err
	}
	all, err := e.deps.Fleet.ListExecutors(ctx)
	if err != nil {
		return nil, err
	}
	page, next, err := pageOf(all, req, func(x fleet.Executor) string { return x.ID })
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListExecutorsResponse{Executors: encodeAll(page, encodeExecutor), NextPageToken: next}, nil
}

// GetExecutor implements ExecutorService.
func (e *executors) GetExecutor(
	ctx context.Context, req *pawlv1.GetExecutorRequest,
) (*pawlv1.GetExecutorResponse, error) {
	if err := may(ctx, auth.ReadExecutors, auth.Resource{}); err != nil {
		return nil, err
	}
	if err := checkRef("executor_id", req.GetExecutorId()); err != nil {
		return nil, err
	}
	x, err := e.deps.Fleet.GetExecutor(ctx, req.GetExecutorId())
	if err != nil {
		return nil, err
	}
	return &pawlv1.GetExecutorResponse{Executor: encodeExecutor(x)}, nil
}

func encodeExecutor(x fleet.Executor) *pawlv1.Executor {
	out := &pawlv1.Executor{
		ExecutorId: x.ID, Connected: x.Connected(), Draining: x.Draining, Labels: x.Labels, Slots: uint32(x.Slots),
		Running: uint32(x.Running), Version: x.Version, Root: x.Root, Isolation: x.Isolation, ReplicaId: x.Replica,
		ConnectionEpoch: x.ConnectionEpoch, LastSeen: stamp(x.LastSeen),
	}
	for _, o := range x.Tools {
		out.Tools = append(out.Tools, o.Name)
	}
	return out
}
