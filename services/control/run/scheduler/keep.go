package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/schedule"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

const (
	// looks is how often rows are looked at again: there may be new tenants.
	looks = time.Minute
	// again is how soon what failed is tried again.
	again = 5 * time.Second
)

// keep writes the rows when definitions were loaded, and looks at them from time to time, until ctx ends.
func (s *Service) keep(ctx context.Context) error {
	for {
		pause := looks
		if err := s.Keep(ctx); err != nil && ctx.Err() == nil {
			pause = again
			s.Log.WarnContext(ctx, "writing schedules failed, trying again later", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.reloaded:
		case <-time.After(pause):
		}
	}
}

// Keep makes the rows of each tenant what the definitions say, once after they were loaded. Later it writes those only
// that are due too late: it must not undo what a replica has written that has newer definitions. What fails is left for
// the next time.
func (s *Service) Keep(ctx context.Context) error {
	tenants, err := s.Store.ListTenants(ctx)
	if err != nil {
		return fmt.Errorf("looking for tenants: %w", err)
	}
	var failed []error
	for _, t := range tenants {
		if t.DeletingAt.IsZero() {
			failed = append(failed, s.keepOf(ctx, t.Name))
		}
	}
	return errors.Join(failed...)
}

// keepOf keeps the rows of a tenant.
func (s *Service) keepOf(ctx context.Context, tenant string) error {
	s.mu.Lock()
	first := !s.tenants[tenant]
	s.tenants[tenant] = true // a reload meanwhile makes it the first time again
	s.mu.Unlock()
	there, err := s.Store.Schedules(ctx, tenant)
	if err == nil {
		err = s.write(ctx, tenant, first, there)
	}
	if err != nil && first {
		s.mu.Lock()
		delete(s.tenants, tenant)
		s.mu.Unlock()
	}
	return err
}

// write writes rows of a tenant which has some. One that cannot be written keeps no other.
func (s *Service) write(ctx context.Context, tenant string, first bool, there []run.Schedule) error {
	rows := map[string][]run.Schedule{}
	for _, one := range there {
		rows[one.Workflow] = append(rows[one.Workflow], one)
	}
	var failed []error
	for _, d := range s.Workflows.List(tenant) {
		have := rows[d.Name]
		delete(rows, d.Name)
		switch {
		case len(have)+len(d.Schedules) == 0:
		case first, late(d, have, time.Now()):
			failed = append(failed, s.set(ctx, tenant, d))
		}
	}
	for name := range rows { // of workflows that are not there any more
		if first {
			failed = append(failed, s.Store.SetSchedules(ctx, tenant, name, nil, nil))
		}
	}
	return errors.Join(failed...)
}

// set writes the rows of a workflow.
func (s *Service) set(ctx context.Context, tenant string, d *workflow.Definition) error {
	all := make([]run.Schedule, len(d.Schedules))
	times := make([]schedule.Schedule, len(d.Schedules))
	for i, of := range d.Schedules {
		var err error
		if times[i], err = schedule.Parse(of.Cron, of.Zone); err != nil {
			return fmt.Errorf("schedule %d of workflow %s: %w", i+1, d.Name, err)
		}
		all[i] = run.Schedule{Cron: of.Cron, Zone: of.Zone, Catchup: string(of.Catchup)}
	}
	return s.Store.SetSchedules(ctx, tenant, d.Name, all, func(i int, after time.Time) time.Time {
		return times[i].Next(after)
	})
}

// late reports whether the rows of a definition seem to be due later than it says. They were written when the clock was
// ahead.
func late(d *workflow.Definition, rows []run.Schedule, now time.Time) bool {
	if !slices.EqualFunc(d.Schedules, rows, is) {
		return false
	}
	return slices.ContainsFunc(rows, func(one run.Schedule) bool {
		when, err := schedule.Parse(one.Cron, one.Zone)
		return err == nil && one.Next.After(when.Next(now))
	})
}

// is reports whether a row is of a schedule as a definition has it.
func is(of workflow.Schedule, row run.Schedule) bool {
	return of.Cron == row.Cron && of.Zone == row.Zone
}
