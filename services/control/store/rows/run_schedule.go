package rows

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/run"
)

const scheduleColumns = `SELECT tenant, workflow, idx, cron, zone, catchup, paused, next_at, last_at, last_run, {now}
	FROM schedules `

var (
	workflowSchedules = reads(scheduleColumns + `WHERE tenant = $1 AND workflow = $2 ORDER BY idx`)
	tenantSchedules   = reads(scheduleColumns + `WHERE tenant = $1 ORDER BY workflow, idx`)
	// Those of tenants that are suspended or go are due later, or never.
	dueSchedules = reads(scheduleColumns + `WHERE NOT paused AND next_at IS NOT NULL AND next_at <= {now}
		AND (next_at, tenant, workflow, idx) > ($2, $3, $4, $5)
		AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.tenant = schedules.tenant AND t.suspended_at IS NOT NULL)
		ORDER BY next_at, tenant, workflow, idx LIMIT $1`)
	// holdSchedules makes others that set the schedules of a workflow, or act on one, wait. It changes nothing.
	holdSchedules = writes(`UPDATE schedules SET catchup = catchup WHERE tenant = $1 AND workflow = $2`)
	dropSchedules = writes(`DELETE FROM schedules WHERE tenant = $1 AND workflow = $2`)
	setSchedule   = writes(`INSERT INTO schedules (tenant, workflow, idx, cron, zone, catchup, paused, next_at, last_at,
		last_run) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (tenant, workflow, idx) DO UPDATE
		SET cron = excluded.cron, zone = excluded.zone, catchup = excluded.catchup, next_at = excluded.next_at`)
	// Whoever acts on an instant first moves the schedule on. The others find another instant.
	fireSchedule = writes(`UPDATE schedules SET next_at = $7
		WHERE tenant = $1 AND workflow = $2 AND idx = $3 AND cron = $4 AND zone = $5
		AND next_at = $6 AND NOT paused`)
	pauseSchedule = writes(`UPDATE schedules SET paused = $4, next_at = CASE WHEN $4 OR NOT paused THEN next_at
		ELSE $5 END WHERE tenant = $1 AND workflow = $2 AND idx = $3`)
	lastFired = writes(`UPDATE schedules SET last_at = $4, last_run = $5
		WHERE tenant = $1 AND workflow = $2 AND idx = $3`)
	dropFreeKey = writes(`DELETE FROM conc_keys
		WHERE tenant = $1 AND workflow = $2 AND key = $3 AND active = 0 AND waiting = 0`)
	clockNow = reads(`SELECT {now}`)
)

func decodeSchedule(r Row) (run.Schedule, error) {
	return run.Schedule{
		Tenant: r.text(0), Workflow: r.text(1), Index: int(r.int(2)), Cron: r.text(3), Zone: r.text(4),
		Catchup: r.text(5), Paused: r.bool(6), Next: r.time(7), Last: r.time(8), LastRun: r.text(9),
	}, nil
}

// now is the platform's time.
func now(ctx context.Context, p Port) (time.Time, error) {
	return one(ctx, p, func(r Row) (time.Time, error) { return r.time(0), nil }, nil, clockNow)
}

// SetSchedules implements run.Store.
func (t *Tables) SetSchedules(
	ctx context.Context, tenant, workflow string, all []run.Schedule, next func(i int, after time.Time) time.Time,
) error {
	if err := within(ctx, tenant); err != nil {
		return err
	}
	return wrap("set schedules", t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		if _, err := p.Exec(ctx, holdSchedules, tenant, workflow); err != nil {
			return err
		}
		before, err := schedulesOf(ctx, p, tenant, workflow)
		if err != nil {
			return err
		}
		at, err := now(ctx, p)
		if err != nil {
			return err
		}
		want := merged(before, all, at, next)
		for i := range want {
			want[i].Tenant, want[i].Workflow, want[i].Index = tenant, workflow, i
		}
		if slices.Equal(before, want) {
			return nil
		}
		if _, err := p.Exec(ctx, dropSchedules, tenant, workflow); err != nil {
			return err
		}
		for _, s := range want {
			if _, err := p.Exec(ctx, setSchedule, tenant, workflow, s.Index, s.Cron, s.Zone, s.Catchup, s.Paused,
				s.Next, s.Last, optional(s.LastRun)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// merged is what the schedules of a workflow become that were some and are to be others. One that there was keeps what
// is known of it, but for an instant that is later than what is due next: the clock was ahead when it was written. One
// whose expression or zone is another than that of the one in its place pauses if that one does.
func merged(before, all []run.Schedule, now time.Time, next func(i int, after time.Time) time.Time) []run.Schedule {
	want, free := make([]run.Schedule, len(all)), slices.Clone(before)
	same := make([]bool, len(all))
	for i, s := range all {
		n := slices.IndexFunc(free, func(k run.Schedule) bool { return k.Cron == s.Cron && k.Zone == s.Zone })
		want[i] = run.Schedule{Cron: s.Cron, Zone: s.Zone, Catchup: s.Catchup, Next: next(i, now)}
		if n < 0 {
			continue
		}
		k := &free[n]
		want[i].Paused, want[i].Last, want[i].LastRun = k.Paused, k.Last, k.LastRun
		if first := want[i].Next; !k.Next.IsZero() && (first.IsZero() || k.Next.Before(first)) {
			want[i].Next = k.Next
		}
		k.Cron, same[i] = "", true // it is another's no more
	}
	for i := range want {
		if !same[i] && i < len(free) && free[i].Cron != "" {
			want[i].Paused = free[i].Paused
		}
	}
	return want
}

func schedulesOf(ctx context.Context, p Port, tenant, workflow string) (all []run.Schedule, err error) {
	found, err := p.Query(ctx, workflowSchedules, tenant, workflow)
	for _, r := range found {
		s, _ := decodeSchedule(r) // which has no errors
		all = append(all, s)
	}
	return all, err
}

// Schedules implements run.Store.
func (t *Tables) Schedules(ctx context.Context, tenant string) ([]run.Schedule, error) {
	all, err := list(ctx, t, decodeSchedule, tenantSchedules, tenant)
	slices.SortFunc(all, func(a, b run.Schedule) int { // each database has a collation of its own
		return cmp.Or(cmp.Compare(a.Workflow, b.Workflow), a.Index-b.Index)
	})
	return all, wrap("list schedules", err)
}

// DueSchedules implements run.Store.
func (t *Tables) DueSchedules(
	ctx context.Context, after run.Place, limit int,
) (due []run.Schedule, at time.Time, err error) {
	next, tenant, workflow, index := after.Split()
	due, err = list(ctx, t, func(r Row) (run.Schedule, error) {
		at = r.time(10)
		return decodeSchedule(r)
	}, dueSchedules, max(limit, 0), Instant(next.UnixMicro()), tenant, workflow, index)
	return due, at, wrap("look for schedules that are due", err)
}

// PauseSchedule implements run.Store.
func (t *Tables) PauseSchedule(ctx context.Context, n run.Pausing) (s run.Schedule, err error) {
	if err := within(ctx, n.Tenant); err != nil {
		return s, err
	}
	err = t.port.Transact(ctx, func(ctx context.Context, p Port) error {
		if _, err := p.Exec(ctx, holdSchedules, n.Tenant, n.Workflow); err != nil {
			return err
		}
		at, err := now(ctx, p)
		if err != nil {
			return err
		}
		var due time.Time
		if !n.Paused {
			due = n.Next(at)
		}
		if err := change(ctx, p, run.ErrNoSchedule, pauseSchedule, n.Tenant, n.Workflow, n.Index, n.Paused,
			due); err != nil {
			return err
		}
		all, err := schedulesOf(ctx, p, n.Tenant, n.Workflow)
		for _, one := range all {
			if one.Index == n.Index {
				s = one
			}
		}
		if err == nil && n.Record != nil {
			err = AppendAudit(ctx, p, *n.Record)
		}
		return err
	})
	return s, wrap("pause a schedule", err)
}

// FireIn is run.Store's Fire in a transaction.
func (t *Tables) FireIn(
	ctx context.Context, p RunTx, s run.Schedule, next time.Time, starts []run.Start,
) (fired bool, err error) {
	n, err := p.Exec(ctx, fireSchedule, s.Tenant, s.Workflow, s.Index, s.Cron, s.Zone, s.Next, next)
	if err == nil && n == 0 {
		return firedEarlier(ctx, p, starts)
	}
	if err != nil {
		return false, err
	}
	if err := holdKeys(ctx, p, s, starts); err != nil {
		return false, err
	}
	name, err := nameOf(ctx, p, s)
	for i := range starts {
		if err == nil {
			err = t.fire(ctx, p, s, starts[i], name)
		}
	}
	return err == nil, err
}

// holdKeys locks the concurrency keys of all starts: whoever holds several keys has taken them in one order.
func holdKeys(ctx context.Context, p Port, s run.Schedule, starts []run.Start) error {
	var gates []*run.Gate
	for _, one := range starts {
		if one.Gate != nil && one.Gate.Key != "" {
			gates = append(gates, one.Gate)
		}
	}
	slices.SortFunc(gates, func(a, b *run.Gate) int { return cmp.Compare(a.Key, b.Key) })
	for _, g := range gates {
		if _, err := p.Query(ctx, enterKey, s.Tenant, s.Workflow, g.Key, g.Limit, 0); err != nil {
			return err
		}
	}
	return nil
}

// fire starts a run of a schedule, unless its key is busy or its instant has a run.
func (t *Tables) fire(ctx context.Context, p RunTx, s run.Schedule, one run.Start, name string) error {
	if one.Fired == nil {
		return errors.New("a run that a schedule starts has no instant")
	}
	one.IdempotencyKey = ""
	out, err := t.startOnce(ctx, p, one, receipt{
		encode([]string{s.Tenant, "schedule:" + s.Workflow}), name + one.Fired.For.UTC().Format(time.RFC3339),
	})
	switch {
	case errors.Is(err, run.ErrKeyBusy):
		return nil
	case err == nil && out.Replayed && one.Gate != nil: // its key was held, which made it
		_, err = p.Exec(ctx, dropFreeKey, s.Tenant, s.Workflow, one.Gate.Key)
	case err == nil && !out.Replayed:
		_, err = p.Exec(ctx, lastFired, s.Tenant, s.Workflow, s.Index, one.Fired.For, out.Run.ID)
	}
	return err
}

// firedEarlier reports whether one of the starts is of an earlier try, whose answer was lost.
func firedEarlier(ctx context.Context, p Port, starts []run.Start) (bool, error) {
	for _, one := range starts {
		mine, err := p.Query(ctx, holdAttempt, one.ID, one.Tenant)
		if err != nil || len(mine) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// nameOf names a schedule as long as its expression and its zone are the same, wherever it stands in its workflow: by
// these, and by how many of the same there are before it.
func nameOf(ctx context.Context, p Port, s run.Schedule) (string, error) {
	all, err := schedulesOf(ctx, p, s.Tenant, s.Workflow)
	nth := 0
	for _, one := range all {
		if one.Index < s.Index && one.Cron == s.Cron && one.Zone == s.Zone {
			nth++
		}
	}
	return encode([]any{s.Cron, s.Zone, nth}), err
}
