package scheduler

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/document"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/schedule"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Entry is a schedule with what is to come.
type Entry struct {
	run.Schedule
	// Upcoming are the instants that are due next, at most as many as were asked for; none while it is paused.
	Upcoming []time.Time
	// Problem is why this replica cannot act on what is due; nil if it can.
	Problem error
}

// MaxUpcoming is how many instants to come are told of a schedule.
const MaxUpcoming = 20

// List returns the schedules of a tenant, of one of its workflows or, for "", of all, in order of workflow and index,
// each with at most some instants to come.
func (s *Service) List(ctx context.Context, tenant, workflow string, upcoming int) (all []Entry, err error) {
	rows, err := s.Store.Schedules(ctx, cmp.Or(tenant, session.DefaultTenant))
	for _, row := range rows {
		if workflow == "" || row.Workflow == workflow {
			all = append(all, s.entry(row, min(upcoming, MaxUpcoming)))
		}
	}
	return all, err
}

func (s *Service) entry(row run.Schedule, upcoming int) Entry {
	e := Entry{Schedule: row}
	if when, err := schedule.Parse(row.Cron, row.Zone); err == nil && !row.Paused {
		for at := row.Next; len(e.Upcoming) < upcoming && !at.IsZero(); at = when.Next(at) {
			e.Upcoming = append(e.Upcoming, at)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.failed[nameOf(row)]; ok && f.next.Equal(row.Next) {
		e.Problem = f.err
	}
	return e
}

// Which names a schedule, and says what is on record of what is done with it.
type Which struct {
	Tenant   string
	Workflow string
	Index    int           // in its workflow, from 0
	Record   *audit.Record // nil is none
}

// Missing is run.ErrNoSchedule about a schedule.
func Missing(w Which) error {
	return run.ErrNoSchedule.With("workflow %s has no schedule %d", document.Printable(w.Workflow), w.Index+1)
}

// find is the schedule as its row has it, or ErrNoSchedule.
func (s *Service) find(ctx context.Context, w Which) (run.Schedule, error) {
	rows, err := s.Store.Schedules(ctx, cmp.Or(w.Tenant, session.DefaultTenant))
	if err != nil {
		return run.Schedule{}, err
	}
	i := slices.IndexFunc(rows, func(r run.Schedule) bool { return r.Workflow == w.Workflow && r.Index == w.Index })
	if i < 0 {
		return run.Schedule{}, Missing(w)
	}
	return rows[i], nil
}

// Pause pauses a schedule, or has it go on: with the first instant after now. What was due in between is not made up
// for. Errors: run.ErrNoSchedule, and schedule.ErrInvalid for one that cannot go on.
func (s *Service) Pause(ctx context.Context, w Which, paused bool) (Entry, error) {
	row, err := s.find(ctx, w)
	if err != nil {
		return Entry{}, err
	}
	n := run.Pausing{Tenant: row.Tenant, Workflow: row.Workflow, Index: row.Index, Paused: paused}
	if !paused {
		when, err := schedule.Parse(row.Cron, row.Zone)
		if err != nil {
			return Entry{}, err
		}
		n.Next = when.Next
	}
	n.Record = w.Record.Event()
	if row, err = s.Store.PauseSchedule(ctx, n); err != nil {
		return Entry{}, err
	}
	if n.Record != nil {
		w.Record.Stored()
	}
	return s.entry(row, 1), nil
}

// Trigger starts a run as a schedule would now, be it paused or not. What is due stays so. Whoever repeats a request
// with its idempotency key, "" for none, is answered with its run. Errors: run.ErrNoSchedule, and those of
// run.Service.Start.
func (s *Service) Trigger(ctx context.Context, w Which, idempotencyKey string) (run.Started, error) {
	row, err := s.find(ctx, w)
	if err != nil {
		return run.Started{}, err
	}
	d, err := s.Workflows.Get(row.Tenant, row.Workflow)
	if err != nil {
		return run.Started{}, err
	}
	if row.Index >= len(d.Schedules) || !is(d.Schedules[row.Index], row) {
		return run.Started{}, errElsewhere
	}
	return s.Runs.Start(ctx, run.Input{
		Tenant: row.Tenant, Workflow: row.Workflow, Input: d.Schedules[row.Index].Input,
		Fired:          &run.Fired{Index: row.Index, For: time.Now().UTC().Truncate(time.Microsecond)},
		IdempotencyKey: idempotencyKey, Record: w.Record,
	})
}
