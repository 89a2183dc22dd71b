// Package planetest runs the services of a control plane on SQLite in memory, for tests of the surfaces that are built
// on these services.
package planetest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// Plane is a control plane without surfaces and without executors.
type Plane struct {
	Store       *sqlite.Store
	Agents      *agent.Catalogue
	Events      *event.Service
	Submissions *submission.Service

	bus *wake.Bus
}

// New starts a Plane that has the built-in agent and the given ones. All of them ask m. A nil m starts no worker, so
// that submissions stay queued. The Plane ends with the test.
func New(t testing.TB, m model.Model, agents ...agent.Definition) *Plane {
	t.Helper()
	unset := func(string) (string, bool) { return "", false }
	catalogue, err := agent.Load("", unset, nil, append(agents, agent.Shell())...)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	bus := wake.NewBus(nil)
	p := &Plane{Store: db, Agents: catalogue, Events: event.NewService(db, bus), bus: bus}
	pinned := pins{catalogue}
	runner := loop.NewRunner(loop.Deps{
		Store: db, Events: p.Events, Models: models{m}, Agents: pinned,
		Fleet:     fleet.NewService(db, func() string { return "" }),
		Executors: nobody{},
		Slots:     nobody{},
		Log:       slog.New(slog.DiscardHandler),
	})
	worker := lane.NewWorker(lane.Deps{
		Store: db, Runners: map[lane.Kind]lane.Runner{lane.KindSession: runner}, Events: p.Events, Bus: bus,
		Log: slog.New(slog.DiscardHandler),
	})
	p.Submissions = submission.NewService(db, pinned, p.Events, worker, bus)
	background(t, func(ctx context.Context) error { return p.Events.Run(ctx, worker.Owns) })
	if m == nil {
		return p
	}
	one := replica.Replica{ID: ident.New(), Host: "host", Lock: "lock"}
	if _, err := db.RegisterReplica(t.Context(), one, time.Hour); err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error { return worker.Run(ctx, one.ID, nil, nil) })
	return p
}

// background runs f until the test ends.
func background(t testing.TB, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pins needs no stored definitions: the catalogue of a Plane never changes.
type pins struct{ *agent.Catalogue }

// PinAgent implements submission.Agents.
func (p pins) PinAgent(_ context.Context, tenant, name string) (submission.Pin, error) {
	d, err := p.Get(tenant, name)
	return submission.Pin{Digest: d.Digest(), Timeout: d.Limits.Timeout}, err
}

// Definition implements loop.Definitions.
func (p pins) Definition(_ context.Context, digest string) (agent.Definition, error) {
	return p.ByDigest(digest)
}

// models resolves every name to one model.
type models struct{ model model.Model }

// Model implements loop.Models.
func (m models) Model(model.Ref) (model.Model, error) { return m.model, nil }

// nobody is a fleet without executors.
type nobody struct{}

// Send implements loop.Executors.
func (nobody) Send(context.Context, string, call.Message) error {
	return errors.New("there are no executors")
}

// TryDispatch implements loop.Slots.
func (nobody) TryDispatch(string, string) (fleet.Executor, bool) { return fleet.Executor{}, false }

// Wait implements loop.Slots.
func (nobody) Wait(context.Context, call.Queued) error { return nil }

// Freed implements loop.Slots.
func (nobody) Freed(string, ...string) {}
