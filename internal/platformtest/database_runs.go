package platformtest

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/step"
)

// StartRun implements run.Store.
func (d *Database) StartRun(ctx context.Context, s run.Start) (run.Started, error) {
	return put(ctx, d, Step{Op: "StartRun"}, func(ctx context.Context) (run.Started, error) {
		return d.db.StartRun(ctx, s)
	})
}

// RetryRun implements run.Store.
func (d *Database) RetryRun(ctx context.Context, r run.Retry) (run.Started, error) {
	return put(ctx, d, Step{Op: "RetryRun"}, func(ctx context.Context) (run.Started, error) {
		return d.db.RetryRun(ctx, r)
	})
}

// GetRun implements run.Store.
func (d *Database) GetRun(ctx context.Context, tenant, id string) (run.Run, error) {
	return ask(ctx, d, "GetRun", func(ctx context.Context) (run.Run, error) { return d.db.GetRun(ctx, tenant, id) })
}

// ListRuns implements run.Store.
func (d *Database) ListRuns(ctx context.Context, f run.Filter) ([]run.Run, error) {
	return ask(ctx, d, "ListRuns", func(ctx context.Context) ([]run.Run, error) { return d.db.ListRuns(ctx, f) })
}

// OpenSteps implements run.Store.
func (d *Database) OpenSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error) {
	return ask(ctx, d, "OpenSteps", func(ctx context.Context) ([]step.Record, error) {
		return d.db.OpenSteps(ctx, runID, after, limit)
	})
}

// PartsOf implements run.Store.
func (d *Database) PartsOf(ctx context.Context, runID string, ord, after, limit int) ([]step.Record, error) {
	return ask(ctx, d, "PartsOf", func(ctx context.Context) ([]step.Record, error) {
		return d.db.PartsOf(ctx, runID, ord, after, limit)
	})
}

// ListSteps implements run.Store.
func (d *Database) ListSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error) {
	return ask(ctx, d, "ListSteps", func(ctx context.Context) ([]step.Record, error) {
		return d.db.ListSteps(ctx, runID, after, limit)
	})
}

// Tell implements run.Store.
func (d *Database) Tell(ctx context.Context, t run.Telling) (s step.Signal, replayed bool, err error) {
	err = put0(ctx, d, "Tell", func(ctx context.Context) (err error) {
		s, replayed, err = d.db.Tell(ctx, t)
		return err
	})
	return s, replayed, err
}

// Untaken implements run.Store.
func (d *Database) Untaken(ctx context.Context, runID string) ([]step.Signal, error) {
	return ask(ctx, d, "Untaken", func(ctx context.Context) ([]step.Signal, error) {
		return d.db.Untaken(ctx, runID)
	})
}

// SetSchedules implements run.Store.
func (d *Database) SetSchedules(
	ctx context.Context, tenant, workflow string, all []run.Schedule, next func(i int, after time.Time) time.Time,
) error {
	return put0(ctx, d, "SetSchedules", func(ctx context.Context) error {
		return d.db.SetSchedules(ctx, tenant, workflow, all, next)
	})
}

// Schedules implements run.Store.
func (d *Database) Schedules(ctx context.Context, tenant string) ([]run.Schedule, error) {
	return ask(ctx, d, "Schedules", func(ctx context.Context) ([]run.Schedule, error) {
		return d.db.Schedules(ctx, tenant)
	})
}

// DueSchedules implements run.Store.
func (d *Database) DueSchedules(
	ctx context.Context, after run.Place, limit int,
) (due []run.Schedule, now time.Time, err error) {
	_, err = ask(ctx, d, "DueSchedules", func(ctx context.Context) (n int, err error) {
		due, now, err = d.db.DueSchedules(ctx, after, limit)
		return len(due), err
	})
	return due, now, err
}

// Fire implements run.Store.
func (d *Database) Fire(
	ctx context.Context, s run.Schedule, next time.Time, starts []run.Start,
) (fired bool, err error) {
	return put(ctx, d, Step{Op: "Fire"}, func(ctx context.Context) (bool, error) {
		return d.db.Fire(ctx, s, next, starts)
	})
}

// PauseSchedule implements run.Store.
func (d *Database) PauseSchedule(ctx context.Context, p run.Pausing) (run.Schedule, error) {
	return put(ctx, d, Step{Op: "PauseSchedule"}, func(ctx context.Context) (run.Schedule, error) {
		return d.db.PauseSchedule(ctx, p)
	})
}
