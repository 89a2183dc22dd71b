// Package flowtest has workflows whose runs are in memory, for tests of what is built on gateway.Workflows.
//
//	Set ── Start ──▶ run: a goroutine, its events, its record ◀── Follow, Events, Run, Runs
//
// It keeps that contract: a run is admitted once under an idempotency key, goes on without readers, and ends however
// its workflow does, by a panic too.
package flowtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/internal/rawjson"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/gateway"
	"github.com/pawl-dev/pawl/services/control/gateway/flue"
)

// ErrConflict refuses a request under an idempotency key that another one has.
var ErrConflict = errs.New(errs.AlreadyExists, "IDEMPOTENCY_CONFLICT", "another request has this idempotency key")

// Workflow is one that tests run.
type Workflow struct {
	Name   string
	Expose []agent.Surface
	// Do is a run. What it returns is the run's result, or a *Failure, or another error.
	Do func(ctx context.Context, c *Call) (result any, err error)
}

// Failure is an error whose name clients see.
type Failure struct{ Name, Message string }

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// Set is workflows and their runs.
type Set struct {
	workflows map[string]Workflow
	ctx       context.Context //nolint:containedctx // that of the runs, which nobody's request is
	stop      context.CancelFunc
	working   sync.WaitGroup

	mu   sync.Mutex // guards what follows
	runs map[string]*run
	keys map[string]*run // by tenant, workflow and idempotency key
	fail error
}

// New makes a Set. Close ends its runs.
func New(workflows ...Workflow) *Set {
	s := &Set{workflows: map[string]Workflow{}, runs: map[string]*run{}, keys: map[string]*run{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for _, w := range workflows {
		s.workflows[w.Name] = w
	}
	return s
}

// Close ends the runs and waits for them.
func (s *Set) Close() {
	s.stop()
	s.working.Wait()
}

// Break makes every method fail with err from now on; nil mends them.
func (s *Set) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Surfaces implements gateway.Workflows.
func (s *Set) Surfaces(_, name string) ([]agent.Surface, error) {
	w, ok := s.workflows[name]
	if !ok {
		return nil, gateway.ErrWorkflowNotFound
	}
	return w.Expose, nil
}

// Start implements gateway.Workflows.
func (s *Set) Start(_ context.Context, in gateway.Start) (flue.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return flue.Run{}, s.fail
	}
	key := fmt.Sprintf("%q %q %q", in.Tenant, in.Workflow, in.IdempotencyKey)
	if before := s.keys[key]; before != nil {
		if !bytes.Equal(before.start.Payload, in.Payload) {
			return flue.Run{}, ErrConflict
		}
		return before.record(), nil
	}
	w, ok := s.workflows[in.Workflow]
	if !ok {
		return flue.Run{}, gateway.ErrWorkflowNotFound
	}
	r := &run{start: in, is: flue.Run{
		ID: in.ID, Workflow: in.Workflow, Status: flue.Active, StartedAt: time.Now(), Payload: in.Payload,
	}, changed: make(chan struct{})}
	s.runs[in.ID] = r
	if in.IdempotencyKey != "" {
		s.keys[key] = r
	}
	s.working.Go(func() { r.work(s.ctx, w) })
	return r.record(), nil
}

func (s *Set) find(tenant, id string) (*run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	r := s.runs[id]
	if r == nil || r.start.Tenant != tenant {
		return nil, gateway.ErrRunNotFound
	}
	return r, nil
}

// Started is who asked for a run, and how.
func (s *Set) Started(id string) gateway.Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[id].start
}

// Run implements gateway.Workflows.
func (s *Set) Run(_ context.Context, tenant, id string) (flue.Run, error) {
	r, err := s.find(tenant, id)
	if err != nil {
		return flue.Run{}, err
	}
	return r.record(), nil
}

// Runs implements gateway.Workflows.
func (s *Set) Runs(_ context.Context, f gateway.RunFilter) (page []flue.Run, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.runs {
		r := one.record()
		if one.start.Tenant == f.Tenant && (f.Workflow == "" || f.Workflow == r.Workflow) &&
			(len(f.Workflows) == 0 || slices.Contains(f.Workflows, r.Workflow)) &&
			(f.Status == "" || f.Status == r.Status) && (f.After == nil || f.After.Before(r)) {
			page = append(page, r)
		}
	}
	slices.SortFunc(page, func(a, b flue.Run) int {
		if (flue.Cursor{StartedAt: a.StartedAt, ID: a.ID}).Before(b) {
			return -1
		}
		return 1
	})
	if len(page) > f.Limit {
		return page[:f.Limit], true, s.fail
	}
	return page, false, s.fail
}

// Events implements gateway.Workflows.
func (s *Set) Events(_ context.Context, tenant, id string, after int) iter.Seq2[flue.RunEvent, error] {
	return func(yield func(flue.RunEvent, error) bool) {
		r, err := s.find(tenant, id)
		if err != nil {
			yield(flue.RunEvent{}, err)
			return
		}
		events, _, _ := r.since(0)
		for _, e := range events {
			if e.Index > after && !flue.Ephemeral(e.Type) && !yield(e, nil) {
				return
			}
		}
	}
}

// Follow implements gateway.Workflows.
func (s *Set) Follow(ctx context.Context, tenant, id string, after int) iter.Seq2[[]flue.RunEvent, error] {
	return func(yield func([]flue.RunEvent, error) bool) {
		r, err := s.find(tenant, id)
		if err != nil {
			yield(nil, err)
			return
		}
		for next := 0; ; {
			events, changed, ended := r.since(next)
			next += len(events)
			events = slices.DeleteFunc(events, func(e flue.RunEvent) bool { return e.Index <= after })
			if len(events) > 0 && !yield(events, nil) || ended {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(nil, context.Cause(ctx))
				return
			}
		}
	}
}

// run is one run.
type run struct {
	start gateway.Start

	mu      sync.Mutex // guards what follows
	is      flue.Run
	events  []flue.RunEvent
	changed chan struct{} // closed when something has changed
}

func (r *run) record() flue.Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.is
}

// since are the events from a place on, what is closed when there are more, and whether there will be none.
func (r *run) since(n int) (events []flue.RunEvent, changed <-chan struct{}, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events[n:]), r.changed, r.is.Status != flue.Active
}

// emit adds an event.
func (r *run) emit(kind string, fields json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(kind, fields)
}

// add is emit for who holds mu.
func (r *run) add(kind string, fields json.RawMessage) {
	r.events = append(r.events, flue.RunEvent{Index: len(r.events), Type: kind, Time: time.Now(), Fields: fields})
	close(r.changed)
	r.changed = make(chan struct{})
}

// work is the run.
func (r *run) work(ctx context.Context, w Workflow) {
	r.emit(flue.RunStartType, r.record().Started())
	var result any
	err := contain.Do(func() (err error) {
		result, err = w.Do(ctx, &Call{Payload: r.start.Payload, run: r})
		return err
	})
	body, failed := rawjson.Encode(result)
	if err == nil {
		err = failed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is.EndedAt = time.Now()
	r.is.Took = r.is.EndedAt.Sub(r.is.StartedAt)
	r.is.Status, r.is.Result = flue.Completed, body
	if err != nil {
		r.is.Status, r.is.Result, r.is.Error = flue.Errored, nil, failure(err)
	}
	r.add(flue.RunEndType, r.is.Ended())
}
