package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
	"github.com/pawl-dev/pawl/internal/plural"
)

// withWorkflows starts a control plane with workflows, by their names.
func (r *run) withWorkflows(ctx context.Context, files map[string]string) (*plane, error) {
	p, err := r.newControl(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.Data, "workflows")
	err = os.MkdirAll(dir, 0o700)
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600))
	}
	if err == nil {
		err = p.start(ctx)
	}
	return p, err
}

// runOf starts a run and waits for its end.
func (p *plane) runOf(ctx context.Context, workflow string) (*pawlv1.Run, error) {
	service := pawlv1.NewRunServiceClient(p.conn)
	got, err := service.StartRun(ctx, &pawlv1.StartRunRequest{Workflow: workflow})
	if err != nil {
		return nil, err
	}
	ended, err := service.WaitRun(ctx, &pawlv1.WaitRunRequest{RunId: got.GetRun().GetRunId()})
	if err != nil {
		return nil, err
	}
	if s := ended.GetRun().GetStatus(); s != pawlv1.RunStatus_RUN_STATUS_COMPLETED {
		return nil, fmt.Errorf("run %s of %s is %s: %s", got.GetRun().GetRunId(), workflow, s,
			ended.GetRun().GetError().GetMessage())
	}
	return ended.GetRun(), nil
}

// noopRuns measures runs of one step that does nothing, from their start until they have ended.
func noopRuns(ctx context.Context, r *run) error {
	p, err := r.withWorkflows(ctx, map[string]string{"noop": "steps: [{id: a, set: {done: true}}]\n"})
	if err != nil {
		return err
	}
	for _, clients := range []int{1, 16} {
		floor, err := r.commitFloor(ctx, clients)
		if err != nil {
			return err
		}
		f, err := p.load(ctx, clients, 0, r.lasts(), func(ctx context.Context, _ int) error {
			_, err := p.runOf(ctx, "noop")
			return err
		})
		if err != nil {
			return err
		}
		row := Row{What: "run of one step that does nothing, " + plural.Of(clients, "client"), Floor: floor.rate()}
		if clients == 1 {
			row.Floor = floor.p50()
		} else if r.database == Postgres {
			row.Goal = least(Rate, 2000)
		}
		r.addWithCPU(f, row, Goal{})
	}
	return nil
}

// longRun measures one run of 10,000 steps that do nothing, and whether what one takes grows with what was recorded
// before. Such steps are recorded together, as many as there are at a time.
func longRun(ctx context.Context, r *run) error {
	steps, calls := r.some(10_000, 500), r.some(500, 50)
	p, err := r.withWorkflows(ctx, map[string]string{
		"long":  fmt.Sprintf("steps: [{repeat: %d, until: 'false', do: [{id: a, set: {done: true}}]}]\n", steps),
		"calls": fmt.Sprintf("steps: [{repeat: %d, until: 'false', do: [{id: a, shell: 'true'}]}]\n", calls),
	})
	if err != nil {
		return err
	}
	floor, err := r.commitFloor(ctx, 1)
	if err != nil {
		return err
	}
	ends, err := p.ends(ctx, "long", "set")
	if err != nil {
		return err
	}
	quarter := len(ends) / 4
	each := func(from, to int) Quantity { return took(ends[to].Sub(ends[from]) / time.Duration(to-from)) }
	last := len(ends) - 1
	r.add(Row{
		What: fmt.Sprintf("step that does nothing, in a run of %d (mean)", len(ends)), P50: each(0, last),
		Floor: floor.p50(),
	})
	r.add(Row{
		What: "… in its last quarter, beside its first", P50: each(last-quarter, last), Floor: each(0, quarter),
		Goal: flat,
	})
	if ends, err = p.ends(ctx, "calls", "shell"); err != nil {
		return err
	}
	var times []time.Duration
	for i := range ends[1:] {
		times = append(times, ends[i+1].Sub(ends[i]))
	}
	r.add(timed(Row{What: "step to step, each a command that does nothing", Floor: floor.p50()}, times))
	return nil
}

// ends is when the steps of a kind of a new run of a workflow have ended, in order.
func (p *plane) ends(ctx context.Context, workflow, kind string) (ends []time.Time, err error) {
	one, err := p.runOf(ctx, workflow)
	if err != nil {
		return nil, err
	}
	for after := int32(0); ; {
		page, err := pawlv1.NewRunServiceClient(p.conn).ListRunSteps(ctx, &pawlv1.ListRunStepsRequest{
			RunId: one.GetRunId(), After: after, PageSize: 1000,
		})
		if err != nil {
			return nil, err
		}
		if len(page.GetSteps()) == 0 {
			break
		}
		for _, s := range page.GetSteps() {
			if after = s.GetOrdinal(); s.GetKind() == kind {
				ends = append(ends, s.GetEndedAt().AsTime())
			}
		}
	}
	if len(ends) < 2 {
		return nil, fmt.Errorf("run %s has %d %s steps on record", one.GetRunId(), len(ends), kind)
	}
	return ends, nil
}

// parkedRuns measures what 100,000 runs hold that sleep, and how late those beside them wake whose time has come.
func parkedRuns(ctx context.Context, r *run) error {
	p, err := r.withWorkflows(ctx, map[string]string{
		"sleep": "input: {type: object, required: [at], properties: {at: {type: string}}}\n" +
			"steps: [{sleep: \"${{ timestamp(input.at) }}\"}]\n",
	})
	if err != nil {
		return err
	}
	service := pawlv1.NewRunServiceClient(p.conn)
	sleeps := func(ctx context.Context, at time.Time) (string, error) {
		input, err := structpb.NewValue(map[string]any{"at": at.UTC().Format(time.RFC3339Nano)})
		if err != nil {
			return "", err
		}
		got, err := service.StartRun(ctx, &pawlv1.StartRunRequest{Workflow: "sleep", Input: input})
		return got.GetRun().GetRunId(), err
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	if _, err := sleeps(ctx, tomorrow); err != nil {
		return err
	}
	before, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	parked := r.some(100_000, 1000)
	if _, err := load(ctx, 32, parked, 0, func(ctx context.Context, _ int) error {
		_, err := sleeps(ctx, tomorrow)
		return err
	}); err != nil {
		return err
	}
	after, err := p.atRest(ctx)
	if err != nil {
		return err
	}
	r.add(Row{What: fmt.Sprintf("RSS beside %d runs that sleep", parked), P50: bytes(after), Floor: bytes(before)})
	woken := r.some(1000, 100)
	ids, due := make([]string, woken), make([]time.Time, woken)
	first := time.Now().Add(10 * time.Second)
	if _, err := load(ctx, 8, woken, 0, func(ctx context.Context, n int) (err error) {
		due[n] = first.Add(time.Duration(n) * 10 * time.Millisecond)
		ids[n], err = sleeps(ctx, due[n])
		return err
	}); err != nil {
		return err
	}
	var late []time.Duration
	for i, id := range ids {
		got, err := service.WaitRun(ctx, &pawlv1.WaitRunRequest{RunId: id})
		if err != nil {
			return err
		}
		late = append(late, got.GetRun().GetEndedAt().AsTime().Sub(due[i]))
	}
	r.add(timed(Row{What: "… end of a run after its sleep", Goal: most(P99, 1.5)}, late))
	return nil
}

// scheduledRuns measures how long after their instants runs of schedules start, a hundred at the same minute.
func scheduledRuns(ctx context.Context, r *run) error {
	files := map[string]string{}
	n := r.some(100, 10)
	for i := range n {
		files[fmt.Sprint("job-", i)] = "on: {schedule: [{cron: \"* * * * *\"}]}\nsteps: [{id: a, set: {done: true}}]\n"
	}
	p, err := r.withWorkflows(ctx, files)
	if err != nil {
		return err
	}
	minute := time.Now().Truncate(time.Minute).Add(time.Minute)
	if err := wait(ctx, time.Until(minute)+10*time.Second); err != nil {
		return err
	}
	service := pawlv1.NewRunServiceClient(p.conn)
	var late []time.Duration
	for name := range files {
		got, err := service.ListRuns(ctx, &pawlv1.ListRunsRequest{Workflows: []string{name}})
		if err != nil {
			return err
		}
		for _, one := range got.GetRuns() {
			if one.GetScheduledFor().AsTime().Equal(minute) {
				late = append(late, one.GetStartedAt().AsTime().Sub(minute))
			}
		}
	}
	if len(late) != n {
		return fmt.Errorf("%d of %d schedules have started a run", len(late), n)
	}
	r.add(timed(Row{
		What: fmt.Sprintf("start of a scheduled run after its instant, %d at once", n), Goal: most(P99, 1.5),
	}, late))
	return nil
}
