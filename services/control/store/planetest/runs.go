package planetest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/wake"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// Workflows are definitions by their names, for every tenant. A test may change which are in force while nobody looks.
type Workflows struct {
	Force map[string]*workflow.Definition

	mu  sync.Mutex // guards what follows
	all map[string]*workflow.Definition
}

// NewWorkflows reads definitions, given by their names.
func NewWorkflows(t testing.TB, files map[string]string) *Workflows {
	t.Helper()
	w := &Workflows{Force: map[string]*workflow.Definition{}, all: map[string]*workflow.Definition{}}
	for name, text := range files {
		w.Force[name] = ParseWorkflow(t, name, text)
	}
	return w
}

// ParseWorkflow reads one definition.
func ParseWorkflow(t testing.TB, name, text string) *workflow.Definition {
	t.Helper()
	d, err := workflow.Parse(name, name+".yaml", []byte(text), workflow.Surrounding{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return d
}

// Get finds a definition that is in force.
func (w *Workflows) Get(_, name string) (*workflow.Definition, error) {
	if d := w.Force[name]; d != nil {
		return d, nil
	}
	return nil, workflow.Missing(name)
}

// List is those in force, by name.
func (w *Workflows) List(string) (all []*workflow.Definition) {
	for _, d := range w.Force {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b *workflow.Definition) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// PinWorkflow implements run.Workflows.
func (w *Workflows) PinWorkflow(_ context.Context, tenant, name string) (string, *workflow.Definition, error) {
	d, err := w.Get(tenant, name)
	if err != nil {
		return "", nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[d.Digest()] = d
	return d.Digest(), d, nil
}

// Workflow implements run.Workflows.
func (w *Workflows) Workflow(_ context.Context, digest string) (*workflow.Definition, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.all[digest]; d != nil {
		return d, nil
	}
	return nil, workflow.Missing(digest)
}

// Runs are runs of a Plane that do what a test says.
type Runs struct {
	*run.Service
	// Busy says that no run is owned when it is started. It is set while nobody starts any.
	Busy  bool
	plane *Plane
	owner string

	mu   sync.Mutex             // guards what follows
	held map[string]*lane.Lease // by run
}

// Runs makes the runs of workflows. They are owned as soon as they are started.
func (p *Plane) Runs(t testing.TB, w *Workflows) *Runs {
	t.Helper()
	one := replica.Replica{ID: ident.New(), Host: "host", Lock: "lock of runs"}
	if _, err := p.Store.RegisterReplica(t.Context(), one, time.Hour); err != nil {
		t.Fatal(err)
	}
	r := &Runs{plane: p, owner: one.ID, held: map[string]*lane.Lease{}}
	r.Service = run.NewService(run.Deps{
		Store: p.Store, Workflows: w, Events: p.Events, Worker: worker{r}, Bus: p.bus,
		Lookup: func(name string) (string, bool) { return "value of " + name, true },
	})
	return r
}

// worker is Runs as a Service sees them.
type worker struct{ *Runs }

// Reserve implements run.Worker.
func (w worker) Reserve() (string, bool) {
	if w.Busy {
		return "", false
	}
	return w.owner, true
}

// Unreserve implements run.Worker.
func (worker) Unreserve() {}

// Posted implements run.Worker: in this database mail arrives at once.
func (worker) Posted(context.Context) {}

// Start implements run.Worker.
func (w worker) Start(l lane.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[l.Fence.LaneID] = &l
}

// Claim takes the runs that are due, and says how many these are.
func (r *Runs) Claim(t testing.TB) int {
	t.Helper()
	got, err := r.plane.Store.Claim(t.Context(), r.owner, lane.KindRun, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range got.Leases {
		worker{r}.Start(l)
	}
	return len(got.Leases)
}

// Record commits what became of steps.
func (r *Runs) Record(t testing.TB, runID string, records ...step.Record) {
	t.Helper()
	r.commit(t, runID, lane.Step{Records: records}, event.Event{Type: event.Restarted, Reason: "RECORDED"})
}

// End ends the present attempt of a run.
func (r *Runs) End(t testing.TB, runID string, s lane.Settlement) {
	t.Helper()
	r.commit(t, runID, lane.Step{End: &s}, event.Event{Type: event.Settled, Settlement: &event.Settlement{
		Outcome: string(s.Outcome), Reason: s.Reason, Message: s.Message, Data: s.Data,
	}})
}

func (r *Runs) commit(t testing.TB, runID string, s lane.Step, e event.Event) {
	t.Helper()
	r.mu.Lock()
	l := r.held[runID]
	r.mu.Unlock()
	if l == nil {
		t.Fatalf("run %s is not owned", runID)
	}
	e.Seq, e.Time, e.SubmissionID = l.EventHead+1, time.Now(), l.Root().ID
	s.LoopID, s.SessionID, s.Events = l.Root().ID, runID, []event.Event{e}
	if _, err := r.plane.Store.Commit(t.Context(), lane.Commit{
		Fence: l.Fence, Kind: l.Kind, ID: ident.New(), Tenant: session.DefaultTenant, EventHead: l.EventHead,
		Steps: []lane.Step{s},
	}); err != nil {
		t.Fatal(err)
	}
	l.EventHead++
	r.plane.Events.Publish(runID, l.Root().Key, s.Events)
	r.plane.bus.Publish(wake.Lane(runID))
}
