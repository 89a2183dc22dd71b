package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/schedule"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

const (
	// every is how often a replica looks for what is due.
	every = time.Second
	// page is how many schedules it reads at once, and pages how many times it does in a pass.
	page, pages = 100, 10
	// atOnce is how many it acts on at the same time: one that waits for a lock keeps no others. patience bounds that.
	atOnce, patience = 4, 10 * time.Second
	// A schedule that cannot be acted on is tried again after a pause, which doubles.
	shortest, longest = time.Second, 5 * time.Minute
	// tries is how often it is tried before instants whose runs are refused go without.
	tries = 3
)

var (
	// errElsewhere is a schedule that the definitions here do not have: those of another replica are newer, or older.
	errElsewhere = errs.New(errs.FailedPrecondition, "SCHEDULE_ELSEWHERE", "the workflow has no such schedule on this "+
		"server")
	// errMoved is a schedule that another replica has acted on, if the next look does not find it where it was.
	errMoved = errs.New(errs.Aborted, "SCHEDULE_MOVED", "the schedule was not where it was read")
)

// failure is why a schedule was not acted on.
type failure struct {
	next  time.Time // what was due: another instant is another matter
	n     int       // how often in a row
	until time.Time
	err   error
}

// sweep acts on what is due, again and again, until ctx ends.
func (s *Service) sweep(ctx context.Context) error {
	for place := (run.Place{}); ; {
		next, more, err := s.pass(ctx, place)
		place = next
		if err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "looking for schedules that are due failed, trying again later", "error", err)
		}
		if more {
			continue
		}
		if await.Sleep(ctx, every-rand.N(every/4)) != nil { // so that replicas do not look all at once
			return nil
		}
	}
}

// Sweep acts on all that is due now.
func (s *Service) Sweep(ctx context.Context) error {
	for place := (run.Place{}); ; {
		next, _, err := s.pass(ctx, place)
		if place = next; err != nil || place == (run.Place{}) {
			return err
		}
	}
}

// pass acts on what is due after a place, and returns where the next one goes on. more says that there is more to do,
// and that this pass got on.
func (s *Service) pass(ctx context.Context, place run.Place) (next run.Place, more bool, err error) {
	for range pages {
		due, now, err := s.Store.DueSchedules(ctx, place, page)
		if err != nil {
			return place, false, err
		}
		full := len(due) == page
		if full {
			place = due[page-1].Place()
		}
		more = s.actOn(ctx, due, now) || more
		if !full {
			s.forget()
			return run.Place{}, false, ctx.Err()
		}
	}
	return place, more && ctx.Err() == nil, ctx.Err()
}

// actOn acts on schedules, in an order that other replicas do not have. done reports whether any was acted on.
func (s *Service) actOn(ctx context.Context, due []run.Schedule, now time.Time) (done bool) {
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	acted := make(chan struct{}, len(due))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, one := range due {
		tried, rests := s.before(one)
		if rests {
			continue
		}
		g.Go(func() error {
			err := contain.Do(func() error { return s.act(ctx, one, now, tried) })
			if s.note(ctx, one, err); err == nil {
				acted <- struct{}{}
			}
			return nil
		})
	}
	_ = g.Wait() // what has failed is noted
	return len(acted) > 0
}

// act acts on a schedule of which something is due, after it has been tried a number of times.
func (s *Service) act(ctx context.Context, one run.Schedule, now time.Time, tried int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := s.Workflows.Get(one.Tenant, one.Workflow)
	if err != nil {
		return err
	}
	if one.Index >= len(d.Schedules) || !is(d.Schedules[one.Index], one) {
		return errElsewhere
	}
	of := d.Schedules[one.Index]
	when, err := schedule.Parse(of.Cron, of.Zone)
	if err != nil {
		return err
	}
	starts, err := s.starts(ctx, one, of, when.Due(one.Next, now, of.Catchup), tried)
	if err != nil {
		return err
	}
	fired, err := s.Store.Fire(ctx, one, when.Next(now), starts)
	switch {
	case err != nil:
		return err
	case !fired:
		return errMoved
	case len(starts) > 0:
		s.Runs.Ready()
		s.Log.InfoContext(ctx, "a schedule was due", "tenant", one.Tenant, "workflow", one.Workflow,
			"schedule", one.Index+1, "runs", len(starts))
	}
	return nil
}

// starts are the runs of instants. The last of some tries leaves out those that are refused for good.
func (s *Service) starts(
	ctx context.Context, one run.Schedule, of workflow.Schedule, due []time.Time, tried int,
) (all []run.Start, err error) {
	for _, at := range due {
		n, err := s.Runs.Prepare(ctx, run.Input{
			Tenant: one.Tenant, Workflow: one.Workflow, Input: of.Input, Fired: &run.Fired{Index: one.Index, For: at},
		})
		switch {
		case err == nil:
			all = append(all, n)
		case tried < tries || !final(err):
			return nil, fmt.Errorf("preparing the run of %s: %w", at.Format(time.RFC3339), err)
		default:
			s.Log.ErrorContext(ctx, "an instant of a schedule goes without a run", "tenant", one.Tenant,
				"workflow", one.Workflow, "schedule", one.Index+1, "instant", at, "error", err)
		}
	}
	return all, nil
}

// final reports whether an error says that a run as it is will be refused again.
func final(err error) bool {
	e, ok := errs.Public(err)
	return ok && (e.Code() == errs.InvalidArgument || e.Code() == errs.FailedPrecondition)
}

// before is how often a schedule has been tried, and whether it rests after that.
func (s *Service) before(one run.Schedule) (tried int, rests bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.failed[nameOf(one)]
	if !ok || !f.next.Equal(one.Next) {
		return 0, false
	}
	return f.n, time.Now().Before(f.until)
}

// note takes down why a schedule was not acted on; nil is that it was. The log is told, unless another replica has
// probably acted.
func (s *Service) note(ctx context.Context, one run.Schedule, err error) {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.failed, nameOf(one))
		return
	}
	f := s.failing(one, err)
	if ctx.Err() != nil || f.n < tries && (errors.Is(err, errMoved) || errors.Is(err, errElsewhere)) {
		return
	}
	pause := time.Until(f.until).Round(time.Second)
	s.Log.WarnContext(ctx, "a schedule cannot be acted on, trying again later", "tenant", one.Tenant,
		"workflow", one.Workflow, "schedule", one.Index+1, "pause", pause, "error", err)
}

// failing is the failure of a schedule with one more error.
func (s *Service) failing(one run.Schedule, err error) failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failed[nameOf(one)]
	if !f.next.Equal(one.Next) {
		f = failure{next: one.Next}
	}
	f.n++
	pause := min(shortest<<min(f.n-1, 16), longest)
	f.until, f.err = time.Now().Add(pause), err
	s.failed[nameOf(one)] = f
	return f
}

// forget drops failures that nobody has met for long.
func (s *Service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.failed, func(_ name, f failure) bool { return time.Since(f.until) > longest })
}
