package runner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/egress"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/fetch"
	"github.com/pawl-dev/pawl/services/control/run/runner"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
	"github.com/pawl-dev/pawl/services/control/workflow"
)

// machine is an executor that the test plays. A command "N: rest" takes so many seconds, "exit N" ends with N, and
// everything else prints itself. "hold" runs until it is cancelled.
type machine struct {
	mu      sync.Mutex // guards what follows
	deliver func(call.Report) bool
	orders  map[string]*call.Order // by call
	replies map[string]tool.Reply  // by call, of those that have ended
	sent    []string               // "execute echo 1", "attach echo 1", …
}

func (m *machine) info() fleet.Executor {
	return fleet.Executor{ID: "x1", Slots: 9, ConnectionEpoch: 1, Replica: "r", JournalID: "j"}
}

func (m *machine) Place(context.Context, fleet.Wanted) (fleet.Executor, bool, error) {
	return m.info(), true, nil
}

func (m *machine) Offering(context.Context, fleet.Wanted) (fleet.Executor, bool, error) {
	return m.info(), true, nil
}
func (m *machine) Find(context.Context, string) (fleet.Executor, error) { return m.info(), nil }
func (m *machine) Local(string) (fleet.Executor, bool)                  { return m.info(), true }
func (m *machine) TryDispatch(string, string) (fleet.Executor, bool)    { return m.info(), true }
func (m *machine) Wait(context.Context, call.Queued) error              { return nil }
func (m *machine) Freed(string, ...string)                              {}

func (m *machine) Send(_ context.Context, _ string, message call.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch message := message.(type) {
	case *call.Order:
		m.orders[message.Call.ID] = message
		m.sent = append(m.sent, "execute "+m.command(message.Call.ID))
		go m.execute(message)
	case *call.Attach:
		m.sent = append(m.sent, "attach "+m.command(message.CallID))
		r := call.Report{Executor: "x1", CallID: message.CallID, LaneID: message.LaneID, Body: call.Found{
			State: call.RunningThere, Dispatch: message.Dispatch, Journal: "j",
		}}
		if reply, ended := m.replies[message.CallID]; ended {
			r.Body = call.Ended{Reply: reply}
		}
		go m.deliver(r)
	case *call.Cancel:
		m.sent = append(m.sent, "cancel "+m.command(message.CallID))
		go m.end(message.CallID, tool.ExecReply{ExitCode: 143, Cancelled: true, Confirmed: true, Whole: true})
	}
	return nil
}

// command names a call. The mutex is held.
func (m *machine) command(callID string) string {
	o := m.orders[callID]
	if o == nil {
		return "nothing"
	}
	switch q := o.Request.(type) {
	case tool.Exec:
		return q.Command
	default:
		return fmt.Sprintf("%T", q)
	}
}

func (m *machine) execute(o *call.Order) {
	x, ok := o.Request.(tool.Exec)
	if !ok {
		return
	}
	command := x.Command
	var seconds int
	if n, _ := fmt.Sscanf(command, "%d:", &seconds); n == 1 {
		time.Sleep(time.Duration(seconds) * time.Second)
		_, command, _ = strings.Cut(command, ": ")
	}
	reply := tool.ExecReply{Confirmed: true, Whole: x.Whole}
	switch n, _ := fmt.Sscanf(command, "exit %d", &reply.ExitCode); {
	case command == "hold":
		return
	case n == 1:
	default:
		for name, value := range x.Env {
			command = strings.ReplaceAll(command, "$"+name, value)
		}
		reply.Stdout = tool.Captured{Head: []byte(command), Size: int64(len(command))}
	}
	m.end(o.Call.ID, reply)
}

// end ends a command.
func (m *machine) end(callID string, reply tool.Reply) {
	m.mu.Lock()
	if _, over := m.replies[callID]; over {
		m.mu.Unlock()
		return
	}
	m.replies[callID] = reply
	o, deliver := m.orders[callID], m.deliver
	m.mu.Unlock()
	deliver(call.Report{Executor: "x1", CallID: callID, LaneID: o.LaneID, Body: call.Ended{Reply: reply}})
}

// executed are the commands that were sent to be executed.
func (m *machine) executed() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.sent {
		if command, ok := strings.CutPrefix(one, "execute "); ok {
			all = append(all, command)
		}
	}
	return all
}

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
	store   *sqlite.Store
	machine *machine
	definitions
	secrets map[string]string

	bus         *wake.Bus
	runs        *run.Service
	submissions *submission.Service
	kill        context.CancelFunc
	drain       chan struct{}
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
		T: t, store: store, secrets: map[string]string{},
		machine: &machine{orders: map[string]*call.Order{}, replies: map[string]tool.Reply{}},
		definitions: definitions{
			workflows: map[string]*workflow.Definition{}, agents: map[string]agent.Definition{"shell": agent.Shell()},
		},
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
		HTTP: fetch.New(hosts, egress.Client{}), Lookup: lookup,
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
	b.kill, b.done, b.drain = kill, make(chan error, 1), make(chan struct{})
	done, drain := b.done, b.drain
	go func() { done <- worker.Run(ctx, id, dead, drain) }()
	synctest.Wait()
}

// die ends the replica without a word, as SIGKILL does.
func (b *bench) die() { b.kill(); <-b.done; b.done <- nil }

// restart kills the replica, and starts the next one.
func (b *bench) restart() { b.Helper(); b.die(); b.start() }

// replace ends the replica as a deployment does, and starts the next one.
func (b *bench) replace() {
	b.Helper()
	close(b.drain)
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
