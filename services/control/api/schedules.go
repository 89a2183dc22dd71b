package api

import (
	"cmp"
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/run/scheduler"
)

var errUpcoming = errs.New(errs.InvalidArgument, "UPCOMING", fmt.Sprintf(
	"the number of instants to come is 1 to %d, or 0 for 1", scheduler.MaxUpcoming))

// ListSchedules implements RunService.
func (r *runs) ListSchedules(
	ctx context.Context, req *pawlv1.ListSchedulesRequest,
) (*pawlv1.ListSchedulesResponse, error) {
	if err := may(ctx, auth.ReadRuns, auth.Resource{}); err != nil {
		return nil, err
	}
	upcoming := int(cmp.Or(req.GetUpcoming(), 1))
	if upcoming < 1 || upcoming > scheduler.MaxUpcoming {
		return nil, errUpcoming
	}
	all, err := r.deps.Schedules.List(ctx, tenant(ctx), req.GetWorkflow(), upcoming)
	if err != nil {
		return nil, err
	}
	var own []scheduler.Entry
	for _, e := range all {
		if auth.Authorize(auth.FromContext(ctx), auth.ReadRuns, auth.Resource{Workflow: e.Workflow}) == nil {
			own = append(own, e)
		}
	}
	page, next, err := pageOf(own, req, func(e scheduler.Entry) string {
		return fmt.Sprintf("%s %05d", e.Workflow, e.Index)
	})
	if err != nil {
		return nil, err
	}
	return &pawlv1.ListSchedulesResponse{Schedules: encodeAll(page, encodeSchedule), NextPageToken: next}, nil
}

// scheduled is a request that names a schedule.
type scheduled interface {
	GetWorkflow() string
	GetSchedule() int32
}

// which is a schedule that the caller may do something with, and the record of that.
func which(ctx context.Context, v auth.Verb, req scheduled) (w scheduler.Which, err error) {
	w = scheduler.Which{Tenant: tenant(ctx), Workflow: req.GetWorkflow(), Index: int(req.GetSchedule()) - 1}
	err = may(ctx, v, auth.Resource{Workflow: w.Workflow, Missing: scheduler.Missing(w)})
	if err == nil {
		names(ctx, fmt.Sprintf("schedule=%d", req.GetSchedule()))
		w.Record = allowed(ctx)
	}
	return w, err
}

func (r *runs) pause(ctx context.Context, req scheduled, paused bool) (*pawlv1.Schedule, error) {
	w, err := which(ctx, auth.ChangeSchedules, req)
	if err != nil {
		return nil, err
	}
	e, err := r.deps.Schedules.Pause(ctx, w, paused)
	if err != nil {
		return nil, err
	}
	return encodeSchedule(e), nil
}

// PauseSchedule implements RunService.
func (r *runs) PauseSchedule(
	ctx context.Context, req *pawlv1.PauseScheduleRequest,
) (*pawlv1.PauseScheduleResponse, error) {
	s, err := r.pause(ctx, req, true)
	return &pawlv1.PauseScheduleResponse{Schedule: s}, err
}

// ResumeSchedule implements RunService.
func (r *runs) ResumeSchedule(
	ctx context.Context, req *pawlv1.ResumeScheduleRequest,
) (*pawlv1.ResumeScheduleResponse, error) {
	s, err := r.pause(ctx, req, false)
	return &pawlv1.ResumeScheduleResponse{Schedule: s}, err
}

// TriggerSchedule implements RunService.
func (r *runs) TriggerSchedule(
	ctx context.Context, req *pawlv1.TriggerScheduleRequest,
) (*pawlv1.TriggerScheduleResponse, error) {
	w, err := which(ctx, auth.StartRuns, req)
	if err != nil {
		return nil, err
	}
	got, err := r.deps.Schedules.Trigger(ctx, w, req.GetIdempotencyKey())
	if err != nil {
		return nil, err
	}
	return &pawlv1.TriggerScheduleResponse{Run: encodeRunOf(got.Run), Replayed: got.Replayed}, nil
}

func encodeSchedule(e scheduler.Entry) *pawlv1.Schedule {
	out := &pawlv1.Schedule{
		Workflow: e.Workflow, Schedule: int32(e.Index + 1), Cron: e.Cron, Tz: e.Zone, Catchup: e.Catchup,
		Paused: e.Paused, Last: stamp(e.Last), LastRunId: e.LastRun,
	}
	for _, at := range e.Upcoming {
		out.Upcoming = append(out.Upcoming, timestamppb.New(at))
	}
	if e.Problem != nil {
		out.Problem = &pawlv1.Error{Reason: reasonOf(e.Problem), Message: "the log of the server tells why"}
		if public, ok := errs.Public(e.Problem); ok {
			out.Problem.Message = clean(public.Error())
		}
	}
	return out
}
