package turn_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/tool/builtin"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// machine is an executor that the test plays: what it was sent runs until the test says otherwise.
type machine struct {
	mu      sync.Mutex // guards what follows
	deliver func(call.Report) bool
	orders  map[string]*call.Order // by command
	sent    []string               // "execute echo 1", "attach echo 1", …
}

func (m *machine) info() fleet.Executor {
	return fleet.Executor{ID: "x1", Slots: 9, ConnectionEpoch: 1, Replica: "r", JournalID: "j"}
}

func (m *machine) Place(context.Context, fleet.Wanted) (fleet.Executor, bool, error) {
	return m.info(), true, nil
}
func (m *machine) Find(context.Context, string) (fleet.Executor, error) { return m.info(), nil }
func (m *machine) Local(string) (fleet.Executor, bool)                  { return m.info(), true }
func (m *machine) TryDispatch(string, string) (fleet.Executor, bool)    { return m.info(), true }
func (m *machine) Wait(context.Context, call.Queued) error              { return nil }
func (m *machine) Freed(string, ...string)                              {}
func (m *machine) command(callID string) string {
	for command, o := range m.orders {
		if o.Call.ID == callID {
			return command
		}
	}
	return ""
}

func (m *machine) Send(_ context.Context, _ string, message call.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch message := message.(type) {
	case *call.Order:
		command := message.Request.(tool.Exec).Command
		m.orders[command] = message
		m.sent = append(m.sent, "execute "+command)
	case *call.Attach:
		m.sent = append(m.sent, "attach "+m.command(message.CallID))
		go m.deliver(call.Report{Executor: "x1", CallID: message.CallID, LaneID: message.LaneID, Body: call.Found{
			State: call.RunningThere, Dispatch: message.Dispatch, Journal: "j",
		}})
	case *call.Cancel:
		command := m.command(message.CallID)
		m.sent = append(m.sent, "cancel "+command)
		go m.end(command, tool.ExecReply{ExitCode: 143, Cancelled: true, Confirmed: true})
	}
	return nil
}

// end ends a command.
func (m *machine) end(command string, reply tool.Reply) {
	m.mu.Lock()
	o := m.orders[command]
	m.mu.Unlock()
	m.deliver(call.Report{
		Executor: "x1", CallID: o.Call.ID, LaneID: o.LaneID, Body: call.Ended{Reply: reply},
	})
}

func (m *machine) told() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

// piece is a step of a run: one call of a command, which may need an approval. "a then b" are two tries.
type piece struct {
	*turn.Strand
	ord     int
	command string
	gated   bool
	above   chan struct{}
	of      *attempt
	kit     turn.Kit
	over    bool // its record is committed; guarded by the bench's mutex
}

func (p *piece) Turn() int { return p.ord }
func (p *piece) Sign(s *lane.Step) {
	root := p.of.row()
	s.LoopID, s.SessionID = root.ID, root.SessionID
}
func (p *piece) Wrote(lane.Step, lane.Committed) error { return nil }
func (p *piece) Stalled() *lane.Progress               { return nil }
func (p *piece) Read(context.Context) error            { return nil }
func (p *piece) Recall(context.Context) error          { return nil }
func (p *piece) Unreadable(error) bool                 { return false }
func (p *piece) TaskEnded()                            {}
func (p *piece) Begin(context.Context, *turn.Call, tool.Asked) (began time.Time, failed tool.Reply, err error) {
	return began, nil, errors.New("a command is no task")
}

func (p *piece) tries() []string { return strings.Split(p.command, " then ") }

// Request makes the call of the step, the same for each owner.
func (p *piece) Request(_ context.Context, c *turn.Call) (tool.Asked, error) {
	args, err := json.Marshal(map[string]string{"command": p.tries()[c.Index]})
	asked := p.kit.Tools.Read(model.Message{Role: model.Assistant, Content: []model.Block{{
		Type: model.ToolCallBlock, CallID: fmt.Sprint(p.ord), Tool: p.kit.Tools.Names()[0], Args: args,
	}}})
	return asked[0], errors.Join(err, asked[0].Refused)
}

// begin attaches to the call of the step, or makes it.
func (p *piece) begin(ctx context.Context) error {
	if err := p.Inherit(ctx); err != nil || len(p.Calls()) > 0 {
		return err
	}
	return p.try(ctx, 0)
}

// try makes the call of a try.
func (p *piece) try(ctx context.Context, index int) error {
	asked, err := p.Request(ctx, &turn.Call{Call: call.Call{Index: index}})
	if err != nil {
		return err
	}
	c, err := p.Make(index, asked, 0)
	if err != nil {
		return err
	}
	s := lane.Step{Records: []step.Record{p.record(step.Started)}}
	if p.gated {
		digest, err := p.Digest(asked)
		if err != nil {
			return err
		}
		root := p.of.row()
		a := approval.Approval{
			ID: ident.New(), Tenant: root.Key.Tenant, LaneID: root.LaneID, SessionID: root.SessionID, LoopID: root.ID,
			Turn: p.ord, CallID: c.ID, Key: root.Key, RootID: root.ID, Digest: digest,
			Subject: approval.Subject{
				Call: c.ID, Tool: c.Tool, Path: []approval.Stage{{Agent: "w"}},
				Asks: []approval.Ask{{Agent: "w", Number: 1, Rule: approval.Rule{
					Tools: []string{c.Tool}, Do: approval.DoAsk,
				}}},
			},
		}
		c.Approval, s.Approvals = a.ID, append(s.Approvals, a)
	}
	s.Calls = append(s.Calls, c)
	return p.Start(ctx, s)
}

func (p *piece) record(state step.State) step.Record {
	return step.Record{
		Ord: p.ord, Path: fmt.Sprint("step", p.ord), Kind: "shell", State: state, Try: 1, Wait: step.Never,
	}
}

// work carries the step out, and records what it came to in the commit that has the call's outcome.
func (p *piece) work(ctx context.Context) error {
	if err := p.begin(ctx); err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	last := p.Last()
	if next := last.Index + 1; next < len(p.tries()) {
		s := lane.Step{}
		p.AddLast(&s, true)
		if err := p.Commit(s, lane.With{}); err != nil {
			return err
		}
		p.Finish(last)
		if err := errors.Join(p.try(ctx, next), p.wait(ctx)); err != nil {
			return err
		}
		last = p.Last()
	}
	state := step.Completed
	if last.State == call.Cancelled {
		state = step.Cancelled
	}
	s := lane.Step{Records: []step.Record{p.record(state)}}
	p.AddLast(&s, state != step.Completed)
	if err := p.Commit(s, lane.With{}); err != nil {
		return err
	}
	p.Finish(last)
	p.of.mu.Lock()
	p.over = true
	p.of.mu.Unlock()
	p.of.root.Nudge()
	return nil
}

// wait waits until the step's call has ended.
func (p *piece) wait(ctx context.Context) error {
	for p.Open() > 0 {
		if err := p.Await(ctx); err != nil {
			return err
		}
		switch {
		case p.of.Leaving():
			return turn.ErrLeft
		case p.Ends():
			p.Stop()
		}
	}
	return nil
}

// attempt is a run at work: a root that waits, and a strand for each step.
type attempt struct {
	*turn.Lane
	*bench
	root   *piece
	pieces []*piece
}

func (a *attempt) row() *lane.Loop {
	head := a.Head()
	return head.Root()
}

func (a *attempt) Drive(ctx context.Context) error {
	_, err := a.Run(ctx, func(context.Context) ([]turn.Job, error) {
		a.root = &piece{of: a}
		a.root.Strand = turn.NewStrand(a.Lane, a.root, turn.Who{LoopID: a.row().ID, SessionID: a.row().SessionID},
			&a.root.kit)
		jobs := []turn.Job{{Strand: a.root.Strand, Work: a.rootWork}}
		done, err := a.store.ListSteps(ctx, a.row().LaneID, 0, 100)
		if err != nil {
			return nil, err
		}
		for i, command := range a.commands {
			p := &piece{
				ord: i + 1, command: strings.TrimPrefix(command, "ask "), gated: strings.HasPrefix(command, "ask "),
				above: make(chan struct{}), of: a,
				kit: turn.Kit{
					Tools: builtin.Shell(), Env: func(*tool.Tool) map[string]*string { return nil },
					Sandbox: agent.Sandbox{Kind: agent.SandboxLocal},
				},
			}
			if slices.ContainsFunc(done, func(r step.Record) bool { return r.Ord == p.ord && r.State.Ended() }) {
				continue
			}
			p.Strand = turn.NewStrand(a.Lane, p, turn.Who{
				LoopID: a.row().ID, SessionID: a.row().SessionID, Parent: a.root.Strand, Above: p.above,
			}, &p.kit)
			a.pieces, jobs = append(a.pieces, p), append(jobs, turn.Job{Strand: p.Strand, Work: p.work})
		}
		for _, j := range jobs {
			a.Add(j.Strand)
		}
		return jobs, nil
	})
	return err
}

// rootWork ends the run when all of its steps are over.
func (a *attempt) rootWork(ctx context.Context) error {
	for !a.Leaving() {
		a.root.Look()
		a.mu.Lock()
		open := slices.ContainsFunc(a.pieces, func(p *piece) bool { return !p.over })
		a.mu.Unlock()
		if !open && time.Until(a.until) <= 0 {
			return a.root.Commit(lane.Step{
				End: &lane.Settlement{Outcome: lane.Completed},
				Events: []event.Event{a.root.Event(event.Event{
					Type: event.Settled, Settlement: &event.Settlement{Outcome: string(lane.Completed)},
				})},
			}, lane.With{})
		}
		if err := a.root.Idle(ctx, a.until, a.root.Event(event.Event{
			Type: event.Restarted, Reason: "rests",
		})); err != nil {
			return err
		}
	}
	return turn.ErrLeft
}

// bench is a replica with one executor, whose runs have these commands as steps.
type bench struct {
	*testing.T
	store    *sqlite.Store
	machine  *machine
	commands []string
	until    time.Time // runs do not end before; zero is no condition
	bus      *wake.Bus
	worker   *lane.Worker
	id       string
	kill     context.CancelFunc
	done     chan error

	mu  sync.Mutex // guards what follows
	now *attempt
	had int // attempts
}

// Begin implements lane.Runner.
func (b *bench) Begin(o *lane.Owner, _ bool) lane.Run {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.had++
	b.now = &attempt{bench: b, Lane: turn.NewLane(turn.Deps{
		Store: b.store, Watchers: nobody{}, Fleet: b.machine, Executors: b.machine, Slots: b.machine,
		Log: slog.New(slog.DiscardHandler), DisconnectGrace: time.Minute,
	}, o)}
	return b.now
}

// nobody watches.
type nobody struct{}

func (nobody) Watched(session.Key) bool             { return false }
func (nobody) WatchedTask(session.Key, string) bool { return false }

func newBench(t *testing.T, commands ...string) *bench {
	store, err := sqlite.Open(t.Context(), sqlite.Memory, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{T: t, store: store, machine: &machine{orders: map[string]*call.Order{}}, commands: commands}
	b.start()
	t.Cleanup(func() { b.die() })
	return b
}

// start begins a replica, the first or the successor of a dead one.
func (b *bench) start() {
	b.bus = wake.NewBus(nil)
	b.worker = lane.NewWorker(lane.Deps{
		Store: b.store, Runners: map[lane.Kind]lane.Runner{lane.KindRun: b}, Events: event.NewService(b.store, b.bus),
		Bus: b.bus, Log: slog.New(slog.DiscardHandler),
	})
	b.machine.deliver = b.worker.Deliver
	b.id = ident.New()
	dead, err := b.store.RegisterReplica(b.Context(), replica.Replica{ID: b.id, Host: "h", Lock: "l"}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(b.Context()))
	b.kill, b.done = kill, make(chan error, 1)
	worker, id, done := b.worker, b.id, b.done
	go func() { done <- worker.Run(ctx, id, dead, make(chan struct{})) }()
	synctest.Wait()
}

// die ends the replica without a word, as SIGKILL does.
func (b *bench) die() { b.kill(); <-b.done; b.done <- nil }

// begin starts a run.
func (b *bench) begin() run.Run {
	id := ident.New()
	out, err := b.store.StartRun(b.Context(), run.Start{
		ID: id, SubmissionID: ident.New(), Tenant: session.DefaultTenant, Workflow: "w", Digest: "digest",
		Input: json.RawMessage(`{}`), InputHash: []byte("hash"),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.bus.Publish(wake.Ready)
	b.settle()
	return out.Run
}

// settle lets what is under way come to a stand.
func (b *bench) settle() { time.Sleep(2 * time.Second); synctest.Wait() }

// states are those of the steps, "" while there is no record, and of the run.
func (b *bench) states(id string) string {
	b.settle()
	all, err := b.store.ListSteps(b.Context(), id, 0, 100)
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, r := range all {
		out = append(out, fmt.Sprint(r.Ord, " ", r.State))
	}
	got, err := b.store.GetRun(b.Context(), session.DefaultTenant, id)
	if err != nil {
		b.Fatal(err)
	}
	return strings.Join(append(out, got.Status.String()), ", ")
}

func (b *bench) expect(got, want string) {
	b.Helper()
	if got != want {
		b.Fatalf("%s\nwant %s", got, want)
	}
}

var fine = tool.ExecReply{Confirmed: true}

// Calls of several strands are in flight in one lane at once, under one fence. Each ends, and is recorded, by itself,
// in the commit that has the record of its step.
func TestStrandsOfOneLaneAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "a", "b", "c", "d")
		r := b.begin()
		b.expect(b.states(r.ID), "1 started, 2 started, 3 started, 4 started, active")
		var epochs []int64
		for _, o := range b.machine.orders {
			epochs = append(epochs, o.Epoch)
		}
		if slices.Sort(epochs); len(epochs) != 4 || epochs[0] != epochs[3] {
			t.Errorf("epochs %v", epochs)
		}
		b.machine.end("c", fine)
		b.expect(b.states(r.ID), "1 started, 2 started, 3 completed, 4 started, active")
		close(b.now.pieces[1].above) // one is cancelled, the others go on
		b.expect(b.states(r.ID), "1 started, 2 cancelled, 3 completed, 4 started, active")
		go b.machine.end("a", fine)
		go b.machine.end("d", fine)
		b.expect(b.states(r.ID), "1 completed, 2 cancelled, 3 completed, 4 completed, completed")
		sent := b.machine.told()
		slices.Sort(sent)
		b.expect(strings.Join(sent, ", "), "cancel b, execute a, execute b, execute c, execute d")
	})
}

// Whoever takes the lane over attaches to the calls of all strands, and makes none again.
func TestCallsOfAllStrandsAreAttachedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "a", "b", "c")
		r := b.begin()
		b.machine.end("b", fine)
		b.settle()
		b.die()
		b.start()
		b.expect(b.states(r.ID), "1 started, 2 completed, 3 started, active")
		for _, command := range []string{"a", "c"} {
			b.machine.end(command, fine)
		}
		b.expect(b.states(r.ID), "1 completed, 2 completed, 3 completed, completed")
		var executed []string
		for _, s := range b.machine.told() {
			if strings.HasPrefix(s, "execute") {
				executed = append(executed, s)
			}
		}
		if slices.Sort(executed); len(executed) != 3 || !slices.Contains(b.machine.told(), "attach a") {
			t.Errorf("%q", b.machine.told())
		}
	})
}

// Calls of one turn that were made one after the other are told apart: one that has ended is over for the next owner,
// which knows what it came to.
func TestTriesOfOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "a then b")
		r := b.begin()
		b.machine.end("a", tool.ExecReply{Stdout: tool.Captured{Head: []byte("first")}, ExitCode: 1, Confirmed: true})
		b.settle()
		b.die()
		b.start()
		b.settle()
		p := b.now.pieces[0]
		if p.Open() != 1 || len(p.Calls()) != 2 {
			t.Fatalf("%d of %d calls are open", p.Open(), len(p.Calls()))
		}
		if x, ok := p.Calls()[0].Result().(tool.ExecReply); !ok || string(x.Stdout.Head) != "first" {
			t.Errorf("the first try came to %+v", p.Calls()[0].Result())
		}
		b.machine.end("b", fine)
		b.expect(b.states(r.ID), "1 completed, completed")
		if slices.Contains(b.machine.told(), "attach a") {
			t.Errorf("%q", b.machine.told())
		}
	})
}

// The lane rests when all strands do, those without calls too, and what comes for one of them brings all back.
func TestLaneRestsWhenAllStrandsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "a", "ask b", "ask c")
		r := b.begin()
		resting := func() bool {
			b.settle()
			got, err := b.store.GetRun(t.Context(), session.DefaultTenant, r.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got.Resting
		}
		if resting() {
			t.Error("the lane rests while a command runs")
		}
		b.machine.end("a", fine)
		if !resting() {
			t.Fatal("the lane does not rest although all strands do")
		}
		b.expect(b.states(r.ID), "1 completed, 2 started, 3 started, active")
		b.decide(r.ID, 2, true)
		b.expect(b.states(r.ID), "1 completed, 2 started, 3 started, active")
		b.machine.end("b", fine)
		if !resting() {
			t.Fatal("the lane does not rest again")
		}
		b.decide(r.ID, 3, false)
		b.expect(b.states(r.ID), "1 completed, 2 completed, 3 completed, completed")
		b.expect(strings.Join(b.machine.told(), ", "), "execute a, execute b")
	})
}

// A strand that waits for nothing but a time rests the lane until then.
func TestLaneRestsUntilATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "a")
		b.until = time.Now().Add(time.Minute)
		r := b.begin()
		b.machine.end("a", fine)
		b.expect(b.states(r.ID), "1 completed, active")
		if got, err := b.store.GetRun(t.Context(), session.DefaultTenant, r.ID); err != nil || !got.Resting {
			t.Errorf("the lane does not rest: %+v, %v", got, err)
		}
		time.Sleep(time.Minute)
		b.expect(b.states(r.ID), "1 completed, completed")
		if b.had != 2 {
			t.Errorf("the lane was claimed %d times", b.had)
		}
	})
}

// decide decides about the call of a step.
func (b *bench) decide(runID string, ord int, approve bool) {
	b.Helper()
	got, err := b.store.GetRun(b.Context(), session.DefaultTenant, runID)
	if err != nil {
		b.Fatal(err)
	}
	all, err := b.store.TurnApprovals(b.Context(), got.SubmissionID, ord)
	if err != nil || len(all) != 1 {
		b.Fatalf("%d approvals, %v", len(all), err)
	}
	if _, _, err := b.store.DecideApproval(b.Context(), approval.Decision{
		ID: all[0].ID, Tenant: all[0].Tenant, Digest: all[0].Digest, Approve: approve, By: audit.Who{Name: "ann"},
	}); err != nil {
		b.Fatal(err)
	}
	b.bus.Publish(wake.Ready)
}
