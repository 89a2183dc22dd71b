package api_test

import (
	"testing"
	"time"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/rpc"
	"github.com/pawl-dev/pawl/services/control/auth"
	"github.com/pawl-dev/pawl/services/control/run"
)

func TestSchedules(t *testing.T) {
	f := start(t, nil)
	next := func(_ int, after time.Time) time.Time { return after.Add(time.Hour) }
	rows := []run.Schedule{{Cron: "0 3 * * *", Zone: "Europe/Berlin", Catchup: "last"}}
	if err := f.Store.SetSchedules(t.Context(), "default", "three", rows, next); err != nil {
		t.Fatal(err)
	}
	c := pawlv1.NewRunServiceClient(f.operator(t))
	list := func(c pawlv1.RunServiceClient, req *pawlv1.ListSchedulesRequest) []*pawlv1.Schedule {
		t.Helper()
		got, err := c.ListSchedules(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return got.GetSchedules()
	}
	all := list(c, &pawlv1.ListSchedulesRequest{Upcoming: 3})
	if len(all) != 1 || all[0].GetSchedule() != 1 || len(all[0].GetUpcoming()) != 3 || all[0].GetPaused() ||
		all[0].GetTz() != "Europe/Berlin" || all[0].GetCatchup() != "last" {
		t.Fatalf("%v", all)
	}
	if other := list(c, &pawlv1.ListSchedulesRequest{Workflow: "keyed"}); len(other) > 0 {
		t.Errorf("%v", other)
	}
	for _, want := range []bool{true, false} {
		got, err := c.PauseSchedule(t.Context(), &pawlv1.PauseScheduleRequest{Workflow: "three", Schedule: 1})
		one := got.GetSchedule()
		if !want {
			resumed, failed := c.ResumeSchedule(t.Context(), &pawlv1.ResumeScheduleRequest{
				Workflow: "three", Schedule: 1,
			})
			one, err = resumed.GetSchedule(), failed
		}
		if err != nil || one.GetPaused() != want || len(one.GetUpcoming()) == 0 != want {
			t.Errorf("paused: %v: %v, %v", want, one, err)
		}
	}
	first, err := c.TriggerSchedule(t.Context(), &pawlv1.TriggerScheduleRequest{
		Workflow: "three", Schedule: 1, IdempotencyKey: "k",
	})
	if err != nil || first.GetRun().GetSchedule() != 1 || first.GetRun().GetScheduledFor() == nil {
		t.Fatalf("%v, %v", first, err)
	}
	again, err := c.TriggerSchedule(t.Context(), &pawlv1.TriggerScheduleRequest{
		Workflow: "three", Schedule: 1, IdempotencyKey: "k",
	})
	if err != nil || !again.GetReplayed() || again.GetRun().GetRunId() != first.GetRun().GetRunId() {
		t.Errorf("%v, %v", again, err)
	}
	for _, n := range []int32{0, 2, -1} {
		_, err := c.TriggerSchedule(t.Context(), &pawlv1.TriggerScheduleRequest{Workflow: "three", Schedule: n})
		if rpc.Reason(err) != "SCHEDULE_NOT_FOUND" {
			t.Errorf("%d: %v", n, err)
		}
	}
	if _, err := c.ListSchedules(t.Context(), &pawlv1.ListSchedulesRequest{Upcoming: 21}); rpc.Reason(err) !=
		"UPCOMING" {
		t.Errorf("%v", err)
	}
	limited := pawlv1.NewRunServiceClient(f.as(t, auth.Token{
		Kind: auth.Client, Role: auth.Admin, Limits: auth.Limits{Workflows: []string{"keyed"}},
	}))
	if none := list(limited, &pawlv1.ListSchedulesRequest{}); len(none) > 0 {
		t.Errorf("%v", none)
	}
	if _, err := limited.PauseSchedule(t.Context(), &pawlv1.PauseScheduleRequest{Workflow: "three", Schedule: 1}); rpc.
		Reason(err) != "SCHEDULE_NOT_FOUND" {
		t.Errorf("%v", err)
	}
}
