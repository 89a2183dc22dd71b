// Package scheduler starts the runs that the schedules of workflows ask for.
//
//	definitions ──load, reload──▶ rows of schedules ──due──▶ runs, and the instant that is due next
//
// Every replica does both, and none leads: whoever acts on an instant first moves the row on in the transaction that
// starts the runs, and the others find another instant. Which instants those are says package schedule; what time it
// is says the database.
//
// Invariants: each instant has one run, or none where catchup, a busy concurrency key, or a refusal that stays says so;
// a schedule that cannot be acted on is tried again, at growing intervals, and keeps no other from its turn; what a
// pass reads is bounded, whatever is due; a schedule that is paused stays so until somebody has it go on.
package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pawl-dev/pawl/internal/await"
	"github.com/pawl-dev/pawl/internal/contain"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/tenancy"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Store keeps the rows. See run.Store and tenancy.Store.
type Store interface {
	SetSchedules(ctx context.Context, tenant, workflow string, all []run.Schedule,
		next func(i int, after time.Time) time.Time) error
	Schedules(ctx context.Context, tenant string) ([]run.Schedule, error)
	DueSchedules(ctx context.Context, after run.Place, limit int) (due []run.Schedule, now time.Time, err error)
	Fire(ctx context.Context, s run.Schedule, next time.Time, starts []run.Start) (fired bool, err error)
	PauseSchedule(ctx context.Context, p run.Pausing) (run.Schedule, error)
	ListTenants(ctx context.Context) ([]tenancy.Tenant, error)
}

// Runs prepares and starts runs. See run.Service.
type Runs interface {
	Prepare(ctx context.Context, in run.Input) (run.Start, error)
	Start(ctx context.Context, in run.Input) (run.Started, error)
	Ready()
}

// Workflows are the definitions in force. What they return must not be changed.
type Workflows interface {
	// Get finds one of a tenant. Fails as workflow.Catalogue does.
	Get(tenant, name string) (*workflow.Definition, error)
	// List is all that exist for a tenant, by name.
	List(tenant string) []*workflow.Definition
}

// Deps are what a Service works with.
type Deps struct {
	Store     Store
	Runs      Runs
	Workflows Workflows
	Log       *slog.Logger // nil is slog's default
}

// Service acts on schedules, and tells of them. Its methods may be called concurrently.
type Service struct {
	Deps
	reloaded await.Signal

	mu      sync.Mutex // guards what follows
	tenants map[string]bool
	failed  map[name]failure
}

// NewService makes a Service.
func NewService(d Deps) *Service {
	if d.Log == nil {
		d.Log = slog.Default()
	}
	return &Service{Deps: d, reloaded: await.NewSignal(), tenants: map[string]bool{}, failed: map[name]failure{}}
}

// name is a schedule's.
type name struct {
	tenant, workflow string
	index            int
}

func nameOf(s run.Schedule) name { return name{s.Tenant, s.Workflow, s.Index} }

// Reloaded says that other definitions may be in force.
func (s *Service) Reloaded() {
	s.mu.Lock()
	clear(s.tenants)
	clear(s.failed) // the new ones may be better
	s.mu.Unlock()
	s.reloaded.Set()
}

// Run keeps the rows and acts on what is due until ctx ends. What fails is tried again.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return contain.Loop(ctx, s.Log, "writing schedules", s.keep) })
	g.Go(func() error { return contain.Loop(ctx, s.Log, "acting on schedules", s.sweep) })
	return g.Wait()
}
