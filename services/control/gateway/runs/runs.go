// Package runs is runs of workflows as the compatible routes have them.
//
//	gateway ── Start, Runs ──▶ run.Service
//	gateway ◀── Events, Follow ── flue.RunTranslator ◀── events of the run's lane
//
// It keeps the contract of gateway.Workflows. The index of an event is its place among all that its run's events come
// to, so each reader has them from the first one on, and drops what its client has.
package runs

import (
	"context"
	"errors"
	"iter"
	"math"
	"slices"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Definitions are the workflows in force.
type Definitions interface {
	// Get finds one of a tenant. Fails as workflow.Catalogue does.
	Get(tenant, name string) (*workflow.Definition, error)
}

// Deps are what a Service works with.
type Deps struct {
	Definitions Definitions
	Runs        *run.Service
	API         flue.APIOf // over which a model is asked
}

// Service implements gateway.Workflows.
type Service struct{ d Deps }

// New makes a Service.
func New(d Deps) *Service { return &Service{d} }

// Surfaces implements gateway.Workflows.
func (s *Service) Surfaces(tenant, name string) ([]agent.Surface, error) {
	d, err := s.d.Definitions.Get(tenant, name)
	if errors.Is(err, workflow.ErrNotFound) {
		return nil, gateway.ErrWorkflowNotFound
	}
	if err != nil {
		return nil, err
	}
	return d.Expose, nil
}

// Start implements gateway.Workflows.
func (s *Service) Start(ctx context.Context, in gateway.Start) (flue.Run, error) {
	got, err := s.d.Runs.Start(ctx, run.Input{
		ID: in.ID, Tenant: in.Tenant, Workflow: in.Workflow, Input: in.Payload, IdempotencyKey: in.IdempotencyKey,
	})
	if errors.Is(err, workflow.ErrNotFound) {
		err = gateway.ErrWorkflowNotFound
	}
	return runOf(got.Run), err
}

// Run implements gateway.Workflows.
func (s *Service) Run(ctx context.Context, tenant, id string) (flue.Run, error) {
	r, err := s.get(ctx, tenant, id)
	return runOf(r), err
}

func (s *Service) get(ctx context.Context, tenant, id string) (run.Run, error) {
	r, err := s.d.Runs.Get(ctx, tenant, id)
	return r, known(err)
}

// known is an error in the terms of the gateway.
func known(err error) error {
	if errors.Is(err, run.ErrNotFound) {
		return gateway.ErrRunNotFound
	}
	return err
}

// statusesOf are the statuses that a status of the original has, and names the names of the errors of a run that has
// none of the first.
var (
	statusesOf = map[flue.RunStatus][]run.Status{
		flue.Active:    {run.Queued, run.Active},
		flue.Completed: {run.Completed},
		flue.Errored:   {run.Failed, run.Cancelled, run.Expired, run.Interrupted},
	}
	names = map[run.Status]string{
		run.Failed: "Failed", run.Cancelled: "Cancelled", run.Expired: "Expired", run.Interrupted: "Interrupted",
	}
)

// runOf is a run in the form of the original. One that waits has begun there.
func runOf(r run.Run) flue.Run {
	out := flue.Run{
		ID: r.ID, Workflow: r.Workflow, Status: flue.Active, StartedAt: r.CreatedAt, Payload: r.Input,
	}
	if !r.Status.Ended() {
		return out
	}
	out.EndedAt, out.Took = r.EndedAt, max(r.EndedAt.Sub(r.CreatedAt), 0)
	if r.Status == run.Completed {
		out.Status, out.Result = flue.Completed, r.Output
		return out
	}
	message := r.Message
	if message == "" {
		message = r.Reason
	}
	out.Status, out.Error = flue.Errored, flue.FailureOf(names[r.Status], message)
	return out
}

// Runs implements gateway.Workflows. The ids of runs are in the order in which these were started.
func (s *Service) Runs(ctx context.Context, f gateway.RunFilter) (page []flue.Run, more bool, err error) {
	q := run.Filter{Tenant: f.Tenant, Workflows: f.Workflows, Statuses: statusesOf[f.Status], Limit: f.Limit}
	if f.Workflow != "" {
		if len(f.Workflows) > 0 && !slices.Contains(f.Workflows, f.Workflow) {
			return nil, false, nil
		}
		q.Workflows = []string{f.Workflow}
	}
	if f.After != nil {
		q.Before = f.After.ID
	}
	found, err := s.d.Runs.List(ctx, q)
	if err != nil {
		return nil, false, err
	}
	for _, r := range found {
		page = append(page, runOf(r))
	}
	if len(found) == f.Limit {
		q.Before, q.Limit = found[len(found)-1].ID, 1
		found, err = s.d.Runs.List(ctx, q)
		more = len(found) > 0
	}
	return page, more, err
}

// Events implements gateway.Workflows.
func (s *Service) Events(ctx context.Context, tenant, id string, after int) iter.Seq2[flue.RunEvent, error] {
	return func(yield func(flue.RunEvent, error) bool) {
		for batch, err := range s.read(ctx, reading{tenant: tenant, id: id, after: after, past: true}) {
			if err != nil {
				yield(flue.RunEvent{}, err)
				return
			}
			for _, e := range batch {
				if !flue.Ephemeral(e.Type) && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Follow implements gateway.Workflows.
func (s *Service) Follow(ctx context.Context, tenant, id string, after int) iter.Seq2[[]flue.RunEvent, error] {
	return func(yield func([]flue.RunEvent, error) bool) {
		if after != math.MaxInt {
			s.read(ctx, reading{tenant: tenant, id: id, after: after})(yield)
		} else if _, err := s.d.Runs.Wait(ctx, tenant, id, submission.Forever); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			yield(nil, known(err))
		}
	}
}

// reading is what a reader wants of a run.
type reading struct {
	tenant, id string
	after      int  // only events with a greater index
	past       bool // those that there are; else until the run has ended
}

// read yields the events of a run.
func (s *Service) read(ctx context.Context, q reading) iter.Seq2[[]flue.RunEvent, error] {
	return func(yield func([]flue.RunEvent, error) bool) {
		r, err := s.get(ctx, q.tenant, q.id)
		if err != nil {
			yield(nil, err)
			return
		}
		t := flue.NewRunTranslator(runOf(r), s.d.API)
		hand := func(events []flue.RunEvent) bool {
			for len(events) > 0 && events[0].Index <= q.after {
				events = events[1:]
			}
			return len(events) == 0 || yield(events, nil)
		}
		if !hand(t.Begin()) {
			return
		}
		went, err := s.translate(ctx, r, q.past, t, hand)
		switch {
		case went:
			return
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case err == nil:
			if r, err = s.get(ctx, q.tenant, q.id); err == nil && r.Status.Ended() {
				hand(t.End(runOf(r)))
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// translate hands on what the events of a run come to. What retention has deleted is left out. went is that the reader
// has gone.
func (s *Service) translate(
	ctx context.Context, r run.Run, past bool, t *flue.RunTranslator, hand func([]flue.RunEvent) bool,
) (went bool, err error) {
	w := run.Watching{Past: past}
	for {
		gone := int64(0)
		for batch, err := range s.d.Runs.Watch(ctx, r, w) {
			if floor, ok := event.FloorOf(err); ok {
				gone = floor
				break
			}
			if err != nil {
				return false, known(err)
			}
			if n := len(batch); n > 0 {
				w.After = batch[n-1].Seq
			}
			if !hand(t.Translate(batch)) {
				return true, nil
			}
		}
		if gone <= w.After {
			return false, nil
		}
		w.After = gone
		t.Skip(gone)
	}
}
