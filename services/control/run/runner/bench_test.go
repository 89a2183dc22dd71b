package runner_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/fetch"
	"github.com/pawl-dev/pawl/services/control/run/runner"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/skill"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/command"
	"github.com/pawl-dev/pawl/services/control/wake"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// definitions are the workflows, and the agents, of a test.
type definitions struct {
	workflows map[string]*workflow.Definition // by name
	agents    map[string]agent.Definition
}

func (d definitions) PinWorkflow(_ context.Context, _, name string) (string, *workflow.Definition, error) {
	def, ok := d.workflows[name]
	if !ok {
		return "", nil, workflow.Missing(name)
	}
	return def.Digest(), def, nil
}

func (d definitions) Workflow(_ context.Context, digest string) (*workflow.Definition, error) {
	for _, def := range d.workflows {
		if def.Digest() == digest {
			return def, nil
		}
	}
	return nil, workflow.ErrNotFound
}

func (d definitions) PinAgent(_ context.Context, _, name string) (submission.Pin, error) {
	def, ok := d.agents[name]
	if !ok {
		return submission.Pin{}, agent.ErrNotFound
	}
	return submission.Pin{Digest: def.Digest()}, nil
}

func (d definitions) Definition(_ context.Context, digest string) (agent.Definition, error) {
	for _, def := range d.agents {
		if def.Digest() == digest {
			return def, nil
		}
	}
	return agent.Definition{}, agent.ErrNotFound
}

// models is the offline one.
type models struct{}

func (models) Model(model.Ref) (model.Model, error) { return offline.New(), nil }

// bench is a control plane with one executor.
type bench struct {
	*testing.T
	store   *mortal
	machine *machine
	site    *site
	definitions
	secrets map[string]string

	bus         *wake.Bus
	runs        *run.Service
	submissions *submission.Service
	kill        context.CancelFunc
	drain       chan struct{}
	mu          sync.Mutex
	quits       bool // drain is closed; guarded by mu
	done        chan error
	key         string // of a session, for messages
}

// newBench makes one with workflows, by name.
func newBench(t *testing.T, files map[string]string) *bench {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{
		T: t, store: &mortal{Store: store}, secrets: map[string]string{}, machine: newMachine(), site: newSite(t),
		definitions: definitions{workflows: map[string]*workflow.Definition{}, agents: agents()},
	}
	for name, text := range files {
		d, err := workflow.Parse(name, name+".yaml", []byte(text), workflow.Surrounding{})
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		b.workflows[name] = d
	}
	b.start()
	return b
}

// start begins a replica, the first or the successor of one that is gone.
func (b *bench) start() {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.Default()
	}
	b.bus = wake.NewBus(nil)
	events := event.NewService(b.store, b.bus)
	lookup := func(name string) (string, bool) { v, ok := b.secrets[name]; return v, ok }
	loops := loop.NewRunner(loop.Deps{
		Store: b.store, Events: events, Models: models{}, Agents: b.definitions, Fleet: b.machine,
		Executors: b.machine, Slots: b.machine, Lookup: lookup, Log: log, DisconnectGrace: time.Minute,
	})
	hosts, err := egress.ParseHosts([]string{"*"})
	if err != nil {
		b.Fatal(err)
	}
	attempts := runner.New(runner.Deps{
		Store: b.store, Calls: loops.Calls(), Workflows: b.definitions, Agents: b.definitions, Loops: loops,
		HTTP: fetch.New(hosts, b.site.client()), Lookup: lookup,
	})
	worker := lane.NewWorker(lane.Deps{
		Store: b.store, Runners: map[lane.Kind]lane.Runner{lane.KindRun: attempts, lane.KindSession: loops},
		Events: events, Bus: b.bus, Log: log,
	})
	b.runs = run.NewService(run.Deps{
		Store: b.store, Workflows: b.definitions, Events: events, Worker: worker, Bus: b.bus, Lookup: lookup,
	})
	b.submissions = submission.NewService(b.store, b.definitions, events, worker, b.bus)
	attempts.Connect(b.runs, b.submissions)
	b.machine.mu.Lock()
	b.machine.deliver = worker.Deliver
	b.machine.mu.Unlock()
	id := ident.New()
	dead, err := b.store.RegisterReplica(b.Context(), replica.Replica{ID: id, Host: "h", Lock: "l"}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(b.Context()))
	b.mu.Lock()
	b.kill, b.done, b.drain, b.quits = kill, make(chan error, 1), make(chan struct{}), false
	b.mu.Unlock()
	done, drain := b.done, b.drain
	go func() { done <- worker.Run(ctx, id, dead, drain) }()
	synctest.Wait()
}

// die ends the replica without a word, as SIGKILL does.
func (b *bench) die() { b.kill(); <-b.done; b.done <- nil }

// restart kills the replica, and starts the next one.
func (b *bench) restart() { b.Helper(); b.die(); b.start() }

// quit has the replica end as a deployment does, without waiting for it.
func (b *bench) quit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.quits {
		b.quits = true
		close(b.drain)
	}
}

// replace ends the replica as a deployment does, and starts the next one.
func (b *bench) replace() {
	b.Helper()
	b.quit()
	if err := <-b.done; err != nil {
		b.Fatal(err)
	}
	b.done <- nil
	b.kill()
	b.start()
}

// begin starts a run.
func (b *bench) begin(name, input string) string {
	b.Helper()
	got, err := b.runs.Start(b.Context(), run.Input{Workflow: name, Input: json.RawMessage(input)})
	if err != nil {
		b.Fatal(err)
	}
	return got.Run.ID
}

// elapse lets the bubble's time pass.
func elapse(d time.Duration) { time.Sleep(d) }

// wait lets time pass until nothing is under way.
func (b *bench) wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

// get is a run as it is.
func (b *bench) get(id string) run.Run {
	b.Helper()
	r, err := b.runs.Get(b.Context(), session.DefaultTenant, id)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// end waits for the end of a run, and tells what it came to.
func (b *bench) end(id string) string {
	b.Helper()
	r, err := b.runs.Wait(b.Context(), session.DefaultTenant, id, 100*time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	switch {
	case r.Status == run.Completed:
		return "completed " + string(r.Output)
	default:
		return strings.TrimSpace(r.Status.String() + " " + r.Reason + " " + r.Message)
	}
}

// steps are the records of a run: "path state", in order.
func (b *bench) steps(id string) string {
	b.Helper()
	all, err := b.runs.Steps(b.Context(), session.DefaultTenant, id, 0, 100)
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, r := range all {
		out = append(out, r.Path+" "+r.State.String())
	}
	return strings.Join(out, ", ")
}

// record is that of a path.
func (b *bench) record(id, path string) step.Record {
	b.Helper()
	all, err := b.runs.Steps(b.Context(), session.DefaultTenant, id, 0, 1000)
	if err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(all, func(r step.Record) bool { return r.Path == path })
	if i < 0 {
		b.Fatalf("no record of %s among %s", path, b.steps(id))
	}
	return all[i]
}

func (b *bench) expect(got, want string) {
	b.Helper()
	if got != want {
		b.Errorf("%s\nwant %s", got, want)
	}
}

// tell gives a run a signal.
func (b *bench) tell(id, name, body string) {
	b.Helper()
	if _, _, err := b.runs.Signal(b.Context(), run.Signalling{
		Tenant: session.DefaultTenant, RunID: id, Name: name, Body: json.RawMessage(body),
	}); err != nil {
		b.Fatal(err)
	}
}

// conversations are the entries of the sessions of a run's agents.
func (b *bench) conversations(id string) (all [][]session.Entry) {
	b.Helper()
	found, err := b.store.ListSessions(b.Context(), session.Filter{
		Tenant: session.DefaultTenant, ParentID: id, Limit: 100,
	})
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range found {
		entries, err := b.store.Entries(b.Context(), s.ID, 0, 100)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, entries)
	}
	return all
}

// agents are those of a test.
func agents() map[string]agent.Definition {
	shell, artist, skilled := agent.Shell(), agent.Shell(), agent.Shell()
	artist.Name, skilled.Name = "artist", "skilled"
	draw := command.Definition{
		Name: "draw", Description: "Draws.", Arguments: []byte(`{"type":"object"}`), Command: "2: ./draw",
		Safety: tool.AtMostOnce, Output: command.Text,
	}
	artist.Tools = append(slices.Clone(artist.Tools), draw.Name)
	artist.Commands = map[string]command.Definition{draw.Name: draw}
	skilled.Skills = []string{"quiet"}
	skilled.SkillFolders = map[string]skill.Skill{
		"quiet": {Name: "quiet", Description: "d", Body: "Hush.", Digest: "q"},
	}
	return map[string]agent.Definition{"shell": shell, "artist": artist, "skilled": skilled}
}
