package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/submission"
)

type runs struct {
	pawlv1.UnimplementedRunServiceServer
	deps Deps
}

var (
	errRunStatus = errs.New(errs.InvalidArgument, "RUN_STATUS", "there is no such status of runs")
	errNoJSON    = errs.New(errs.InvalidArgument, "VALUE_INVALID", "the value is not JSON")
)

// StartRun implements RunService.
func (r *runs) StartRun(ctx context.Context, req *pawlv1.StartRunRequest) (*pawlv1.StartRunResponse, error) {
	if err := r.deps.mayWorkflow(ctx, auth.StartRuns, req.GetWorkflow()); err != nil {
		return nil, err
	}
	input, err := decodeValue(req.GetInput())
	if err != nil {
		return nil, err
	}
	got, err := r.deps.Runs.Start(ctx, run.Input{
		Tenant: tenant(ctx), Workflow: req.GetWorkflow(), Input: input, IdempotencyKey: req.GetIdempotencyKey(),
		Key: req.GetConcurrencyKey(), Record: allowed(ctx),
	})
	if err != nil {
		return nil, r.deps.withWorkflows(ctx, err)
	}
	return &pawlv1.StartRunResponse{Run: encodeRunOf(got.Run), Replayed: got.Replayed}, nil
}

// find is a run that the caller may do something with.
func (r *runs) find(ctx context.Context, id string, v auth.Verb) (one run.Run, err error) {
	if err := may(ctx, v, auth.Resource{}); err != nil {
		return one, err
	}
	if err := checkID(id, run.ErrNotFound); err != nil {
		return one, err
	}
	if one, err = r.deps.Runs.Get(ctx, tenant(ctx), id); err != nil {
		return one, err
	}
	return one, may(ctx, v, auth.Resource{Workflow: one.Workflow, Missing: run.ErrNotFound})
}

// whole is a run with whether anything of it may still run.
func (r *runs) whole(ctx context.Context, one run.Run) (*pawlv1.Run, error) {
	out := encodeRunOf(one)
	switch one.Status {
	case run.Cancelled, run.Expired, run.Interrupted:
		of, err := r.deps.Service.Get(ctx, one.Tenant, one.SubmissionID)
		if err != nil && !errors.Is(err, submission.ErrNotFound) {
			return nil, err
		}
		out.Cancellation = encodeCancellation(of.Cancellation)
	case run.Queued, run.Active, run.Completed, run.Failed:
	}
	return out, nil
}

// GetRun implements RunService.
func (r *runs) GetRun(ctx context.Context, req *pawlv1.GetRunRequest) (*pawlv1.GetRunResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.ReadRuns)
	if err != nil {
		return nil, err
	}
	out, err := r.whole(ctx, one)
	return &pawlv1.GetRunResponse{Run: out}, err
}

// WaitRun implements RunService.
func (r *runs) WaitRun(ctx context.Context, req *pawlv1.WaitRunRequest) (*pawlv1.WaitRunResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.ReadRuns)
	if err != nil {
		return nil, err
	}
	limit := submission.Forever
	if req.GetTimeout() != nil {
		limit = req.GetTimeout().AsDuration()
	}
	if one, err = r.deps.Runs.Wait(ctx, one.Tenant, one.ID, limit); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // its token may have ended
	}
	if err != nil {
		return nil, err
	}
	out, err := r.whole(ctx, one)
	return &pawlv1.WaitRunResponse{Run: out}, err
}

// ListRuns implements RunService.
func (r *runs) ListRuns(ctx context.Context, req *pawlv1.ListRunsRequest) (*pawlv1.ListRunsResponse, error) {
	if err := may(ctx, auth.ReadRuns, auth.Resource{}); err != nil {
		return nil, err
	}
	f, err := decodeRunFilter(ctx, req)
	if err != nil {
		return nil, err
	}
	if own, all := auth.FromContext(ctx).Workflows(); !all {
		named := len(f.Workflows) > 0
		f.Workflows = slices.DeleteFunc(f.Workflows, func(name string) bool { return !slices.Contains(own, name) })
		if !named {
			f.Workflows = own
		}
		if len(f.Workflows) == 0 {
			return &pawlv1.ListRunsResponse{}, nil
		}
	}
	page, err := r.deps.Runs.List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &pawlv1.ListRunsResponse{Runs: encodeAll(page, encodeRunOf)}
	if len(page) == f.Limit {
		out.NextPageToken = page[len(page)-1].ID
	}
	return out, nil
}

func decodeRunFilter(ctx context.Context, req *pawlv1.ListRunsRequest) (f run.Filter, err error) {
	f = run.Filter{
		Tenant: tenant(ctx), Workflows: req.GetWorkflows(), Parent: req.GetParentRunId(), Key: req.GetConcurrencyKey(),
	}
	if f.Limit, f.Before, err = pageByID(req); err != nil {
		return f, err
	}
	for _, s := range req.GetStatuses() {
		if s < pawlv1.RunStatus_RUN_STATUS_QUEUED || s > pawlv1.RunStatus_RUN_STATUS_INTERRUPTED {
			return f, errRunStatus
		}
		f.Statuses = append(f.Statuses, run.Status(s-1))
	}
	for _, name := range f.Workflows {
		err = errors.Join(err, checkRef("workflows", name))
	}
	if f.Parent != "" {
		err = errors.Join(err, checkID(f.Parent, run.ErrNotFound))
	}
	return f, errors.Join(err, checkRef("concurrency_key", f.Key))
}

// ListRunSteps implements RunService.
func (r *runs) ListRunSteps(
	ctx context.Context, req *pawlv1.ListRunStepsRequest,
) (*pawlv1.ListRunStepsResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.ReadRuns)
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	page, err := r.deps.Runs.Steps(ctx, one.Tenant, one.ID, int(req.GetAfter()), limit)
	if err != nil {
		return nil, err
	}
	weigh := func(s *step.Record) int { return len(s.Output) + eventFrame }
	return &pawlv1.ListRunStepsResponse{Steps: encodeAll(page[:cut(page, maxWeight, weigh)], encodeRunStep)}, nil
}

// WatchRun implements RunService.
func (r *runs) WatchRun(
	req *pawlv1.WatchRunRequest, stream grpc.ServerStreamingServer[pawlv1.WatchRunResponse],
) error {
	ctx := stream.Context()
	if req.GetAfter() < 0 {
		return errCursor
	}
	want, err := decodeWant(&pawlv1.WatchSessionRequest{Children: req.GetChildren()})
	if err != nil {
		return err
	}
	one, err := r.find(ctx, req.GetRunId(), auth.ReadRuns)
	if err != nil {
		return err
	}
	of, err := r.deps.Sessions.GetSession(ctx, one.Tenant, one.ID)
	switch {
	case errors.Is(err, session.ErrNotFound): // it goes with its run
		return run.ErrNotFound
	case err != nil:
		return err
	case req.GetAfter() > of.EventHead:
		return event.Ahead(req.GetAfter(), of.EventHead)
	}
	if err := stream.Send(&pawlv1.WatchRunResponse{}); err != nil {
		return err
	}
	w := run.Watching{After: req.GetAfter(), Want: want, Past: req.GetPastOnly()}
	for batch, err := range r.deps.Runs.Watch(ctx, one, w) {
		if err != nil {
			return err
		}
		err := sendEvents(batch, of, func(events []*pawlv1.Event) error {
			return stream.Send(&pawlv1.WatchRunResponse{Events: events})
		})
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// CancelRun implements RunService.
func (r *runs) CancelRun(ctx context.Context, req *pawlv1.CancelRunRequest) (*pawlv1.CancelRunResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.SteerRuns)
	if err != nil {
		return nil, err
	}
	if one, err = r.deps.Runs.Cancel(ctx, one.Tenant, one.ID); err != nil {
		return nil, err
	}
	out, err := r.whole(ctx, one)
	return &pawlv1.CancelRunResponse{Run: out}, err
}

// SignalRun implements RunService.
func (r *runs) SignalRun(ctx context.Context, req *pawlv1.SignalRunRequest) (*pawlv1.SignalRunResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.SteerRuns)
	if err != nil {
		return nil, err
	}
	body, err := decodeValue(req.GetBody())
	if err != nil {
		return nil, err
	}
	by := auth.FromContext(ctx)
	told, replayed, err := r.deps.Runs.Signal(ctx, run.Signalling{
		Tenant: one.Tenant, RunID: one.ID, Name: req.GetSignal(), MessageID: req.GetMessageId(), Body: body,
		By: cmp.Or(by.Name, string(by.Kind)), Record: allowed(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &pawlv1.SignalRunResponse{
		Seq: told.Seq, MessageId: told.MessageID, ReceivedAt: stamp(told.At), Replayed: replayed,
	}, nil
}

// RetryRun implements RunService.
func (r *runs) RetryRun(ctx context.Context, req *pawlv1.RetryRunRequest) (*pawlv1.RetryRunResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.StartRuns)
	if err != nil {
		return nil, err
	}
	got, err := r.deps.Runs.Retry(ctx, run.Retrying{
		Tenant: one.Tenant, RunID: one.ID, From: req.GetFrom(), Attempt: int(req.GetAttempt()), Record: allowed(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &pawlv1.RetryRunResponse{Run: encodeRunOf(got.Run), Replayed: got.Replayed}, nil
}

// ForkRun implements RunService.
func (r *runs) ForkRun(ctx context.Context, req *pawlv1.ForkRunRequest) (*pawlv1.ForkRunResponse, error) {
	one, err := r.find(ctx, req.GetRunId(), auth.StartRuns)
	if err != nil {
		return nil, err
	}
	var input json.RawMessage
	if req.GetInput() != nil {
		if input, err = decodeValue(structpb.NewStructValue(req.GetInput())); err != nil {
			return nil, err
		}
	}
	got, err := r.deps.Runs.Fork(ctx, run.Forking{
		Tenant: one.Tenant, RunID: one.ID, From: req.GetFrom(), Input: input,
		IdempotencyKey: req.GetIdempotencyKey(), Record: allowed(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &pawlv1.ForkRunResponse{Run: encodeRunOf(got.Run), Replayed: got.Replayed}, nil
}

// decodeValue is the JSON of a value; nil for none.
func decodeValue(v *structpb.Value) (json.RawMessage, error) {
	if v == nil {
		return nil, nil
	}
	out, err := json.Marshal(v.AsInterface())
	if err != nil {
		return nil, errNoJSON
	}
	return out, nil
}

// encodeRunOf is a run, with its input and output as far as they were read.
func encodeRunOf(r run.Run) *pawlv1.Run {
	out := &pawlv1.Run{
		RunId: r.ID, Workflow: r.Workflow, Digest: r.Digest, Status: pawlv1.RunStatus(r.Status + 1), Blocked: r.Blocked,
		Resting: r.Resting, Attempt: int32(r.Attempt), SubmissionId: r.SubmissionID, Input: encodeValue(r.Input),
		Output: encodeValue(r.Output), Usage: encodeUsage(r.Usage), ConcurrencyKey: clean(r.Key),
		ForkedFromRunId: r.ForkedFrom, CancelRequested: r.Abort, CreatedAt: stamp(r.CreatedAt),
		StartedAt: stamp(r.StartedAt), EndedAt: stamp(r.EndedAt),
	}
	if r.Status.Ended() && r.Status != run.Completed {
		out.Error = &pawlv1.Error{Reason: r.Reason, Message: clean(r.Message)}
	}
	if r.Parent != nil {
		out.ParentRunId, out.ParentPath = r.Parent.RunID, r.Parent.Path
	}
	if r.Fired != nil {
		out.Schedule, out.ScheduledFor = int32(r.Fired.Index+1), stamp(r.Fired.For)
	}
	return out
}

// encodeRunStep is the record of a step.
func encodeRunStep(s step.Record) *pawlv1.RunStep {
	return &pawlv1.RunStep{
		Ordinal: int32(s.Ord), Parent: int32(s.Parent), Path: s.Path, Kind: s.Kind, State: s.State.String(),
		Try: int32(s.Try), Pausing: s.Pausing, Duration: durationpb.New(s.Took), Output: encodeValue(s.Output),
		Failure: encodeFailure(s.Failed), Ref: s.Ref, StartedAt: stamp(s.StartedAt), EndedAt: stamp(s.EndedAt),
	}
}
