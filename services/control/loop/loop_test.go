package loop_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/model/offline"
	"github.com/pawl-dev/pawl/services/control/replica"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/sqlite"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/wake"
	"github.com/pawl-dev/pawl/services/control/workspace"
)

// executor is an executor that the test plays.
type executor struct {
	mu      sync.Mutex // guards what follows
	deliver func(call.Report) bool
	epoch   int64
	away    bool
	cut     bool  // it counts as connected, and nothing gets through to it
	here    bool  // connected to this replica
	unseen  error // what looking for it is answered with
	ran     []string
	acked   map[string]bool
	cancels []string
	// on says what an order comes to; nil leaves it running.
	on func(o *call.Order) tool.Reply
	// known is what Attach finds, attached from which byte of stdout it was asked.
	known    map[string]call.FoundState
	attached map[string]int64
	journal  string
	labels   map[string]string
	gate     chan struct{}         // Find waits for it, unless nil
	deaf     bool                  // to Cancel
	leaves   bool                  // processes behind when cancelled
	full     bool                  // has no free slot
	waiting  []string              // calls that were told to wait for a slot
	results  map[string]tool.Reply // of calls that have ended, sent again with each Attach
	tools    []tool.Offered
	wanted   []fleet.Wanted // what Place was asked for
}

var errAway = errors.New("away")

func (e *executor) info() fleet.Executor {
	x := fleet.Executor{
		ID: "x1", Slots: 4, Root: "/work", ConnectionEpoch: e.epoch, Replica: "r",
		JournalID: e.journal, Labels: e.labels, Tools: e.tools,
	}
	if e.away {
		x.Replica = ""
	}
	return x
}

func (e *executor) Place(_ context.Context, w fleet.Wanted) (fleet.Executor, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.info()
	e.wanted = append(e.wanted, w)
	fits := len(w.Needs) == 0 || w.Executor != ""
	for _, name := range w.Needs {
		_, offers := x.Offers(name)
		fits = fits || offers
	}
	return x, !e.away && fits, nil
}

// Offering implements loop.Fleet.
func (e *executor) Offering(context.Context, fleet.Wanted) (fleet.Executor, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info(), true, nil
}

// TryDispatch implements loop.Slots.
func (e *executor) TryDispatch(string, string) (fleet.Executor, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info(), !e.full
}

// Wait implements loop.Slots.
func (e *executor) Wait(_ context.Context, q call.Queued) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, q.CallIDs...)
	return nil
}

// Freed implements loop.Slots.
func (e *executor) Freed(string, ...string) {}

func (e *executor) Find(context.Context, string) (fleet.Executor, error) {
	e.mu.Lock()
	if gate := e.gate; gate != nil {
		e.mu.Unlock()
		<-gate
		e.mu.Lock()
	}
	defer e.mu.Unlock()
	return e.info(), e.unseen
}

// Local implements loop.Fleet.
func (e *executor) Local(string) (fleet.Executor, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info(), e.here && !e.away
}

// commands are those that it has run so far.
func (e *executor) commands() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.ran)
}

func (e *executor) Send(_ context.Context, id string, m call.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.away || e.cut {
		return errAway
	}
	switch m := m.(type) {
	case *call.Order:
		if x, ok := m.Request.(tool.Exec); ok {
			e.ran = append(e.ran, x.Command)
		}
		e.known[m.Call.ID] = call.RunningThere
		if reply := e.on(m); reply != nil {
			e.known[m.Call.ID] = call.FinishedThere
			if e.results == nil {
				e.results = map[string]tool.Reply{}
			}
			e.results[m.Call.ID] = reply
			go e.deliver(call.Report{
				Executor: id, CallID: m.Call.ID, LaneID: m.LaneID,
				Body: call.Ended{Reply: reply},
			})
		}
	case *call.Attach:
		e.attached[m.CallID] = m.StdoutFrom
		go e.deliver(call.Report{Executor: id, CallID: m.CallID, LaneID: m.LaneID, Body: call.Found{
			State: e.known[m.CallID], Dispatch: m.Dispatch, Journal: e.journal,
		}})
		if reply := e.results[m.CallID]; reply != nil {
			go e.deliver(call.Report{Executor: id, CallID: m.CallID, LaneID: m.LaneID, Body: call.Ended{Reply: reply}})
		}
	case *call.Cancel:
		e.cancels = append(e.cancels, m.CallID)
		if e.deaf {
			return nil
		}
		go e.deliver(call.Report{Executor: id, CallID: m.CallID, LaneID: m.LaneID, Body: call.Ended{
			Reply: tool.ExecReply{ExitCode: 143, Cancelled: true, Confirmed: !e.leaves},
		}})
	case *call.ResultAck:
		e.acked[m.CallID] = true
	}
	return nil
}

// echo answers a command with itself.
func echo(o *call.Order) tool.Reply {
	return tool.ExecReply{Stdout: tool.Captured{Head: []byte(strings.TrimPrefix(o.Request.(tool.Exec).Command,
		"echo ") + "\n")}, Confirmed: true}
}

type agents struct{ def agent.Definition }

func (a agents) PinAgent(context.Context, string, string) (submission.Pin, error) {
	return submission.Pin{Digest: a.def.Digest(), Timeout: a.def.Limits.Timeout}, nil
}
func (a agents) Definition(context.Context, string) (agent.Definition, error) { return a.def, nil }

type models struct {
	m     model.Model
	byRef map[model.Ref]model.Model // comes first
}

func (m models) Model(ref model.Ref) (model.Model, error) {
	if one, ok := m.byRef[ref]; ok {
		if one == nil {
			return nil, model.ErrKeyMissing
		}
		return one, nil
	}
	return m.m, nil
}

// bench is one replica with one executor.
type bench struct {
	*testing.T
	store       *sqlite.Store
	bus         *wake.Bus
	events      *event.Service
	executor    *executor
	worker      *lane.Worker
	service     *submission.Service
	builtin     string
	slots       int
	streams     int
	sources     []loop.Source
	counted     *countingStore
	model       model.Model               // nil is offline/shell
	models      map[model.Ref]model.Model // those that are others than model
	mayReap     func() bool
	workspaces  workspace.Files
	definitions loop.Definitions // nil is the bench's own
	log         *slog.Logger     // nil is none
	host        *hosting         // what runs do; nil: there are none
	drain       chan struct{}
	id          string // of the replica
	kill        context.CancelFunc
	done        chan error
}

func newBench(t *testing.T, def agent.Definition) *bench { return newBenchOn(t, def, sqlite.Options{}) }

func newBenchOn(t *testing.T, def agent.Definition, opts sqlite.Options) *bench {
	store, err := sqlite.Open(t.Context(), sqlite.Memory, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{T: t, store: store, executor: &executor{
		epoch: 1, on: echo, known: map[string]call.FoundState{},
		attached: map[string]int64{}, acked: map[string]bool{}, journal: "j1",
	}}
	b.start(def)
	t.Cleanup(func() { b.kill(); <-b.done })
	return b
}

// start begins a replica, the first or the successor of a dead one.
func (b *bench) start(def agent.Definition) { b.startAs("h", def) }

// startAs begins it on a host, where it is the successor of those who were there.
func (b *bench) startAs(host string, def agent.Definition) {
	b.bus = wake.NewBus(nil)
	b.events = event.NewService(b.store, b.bus)
	definitions := b.definitions
	if definitions == nil {
		definitions = agents{def}
	}
	before := b.counted
	b.counted = &countingStore{Store: b.store}
	if before != nil {
		b.counted.bad = before.bad
	}
	if b.model == nil {
		b.model = offline.New()
	}
	b.worker = b.replica(b.counted, b.events, definitions)
	b.executor.deliver = b.worker.Deliver
	b.service = submission.NewService(b.store, agents{def}, b.events, b.worker, b.bus)
	id := ident.New()
	b.id = id
	dead, err := b.store.RegisterReplica(b.Context(), replica.Replica{ID: id, Host: host, Lock: "l"}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(b.Context()))
	b.kill, b.drain, b.done = kill, make(chan struct{}), make(chan error, 1)
	drain, done, worker, events := b.drain, b.done, b.worker, b.events
	tail, stop := context.WithCancel(ctx)
	// No hint reaches this replica: what another has taken from it is found by the poll alone.
	go func() { _ = events.Run(tail, func(string) bool { return false }) }()
	go func() {
		defer stop()
		done <- worker.Run(ctx, id, dead, drain)
	}()
	synctest.Wait()
}

// replica makes the worker of a replica.
func (b *bench) replica(store store, events *event.Service, definitions loop.Definitions) *lane.Worker {
	log := cmp.Or(b.log, slog.New(slog.DiscardHandler))
	runner := loop.NewRunner(loop.Deps{
		Store: store, Events: events, Models: models{b.model, b.models}, Agents: definitions, Builtin: b.builtin,
		Fleet: b.executor, Executors: b.executor, Slots: b.executor, Streams: b.streams, Sources: b.sources,
		Workspaces: b.workspaces,
		Lookup:     func(name string) (string, bool) { return "hunter2hunter2", name == "SECRET" }, Log: log,
	})
	runners := map[lane.Kind]lane.Runner{lane.KindSession: runner}
	if b.host != nil {
		runners[lane.KindRun] = hostRunner{b, runner, store}
	}
	return lane.NewWorker(lane.Deps{
		Store: store, Runners: runners, Events: events, Bus: b.bus,
		MayReap: b.mayReap, Slots: b.slots, Log: log,
	})
}

// store is what a replica needs of a database.
type store interface {
	lane.Store
	loop.Store
	ListSteps(ctx context.Context, runID string, after, limit int) ([]step.Record, error)
}

// die ends the replica without a word, as SIGKILL does.
func (b *bench) die() { b.kill(); <-b.done; b.done <- nil }

func key(name string) session.Key {
	return session.Key{Tenant: session.DefaultTenant, Agent: "shell", Instance: "i", Name: name}
}

func (b *bench) submit(name, message string) submission.Submission {
	b.Helper()
	got, err := b.service.Submit(b.Context(), submission.Input{Key: key(name), Message: message})
	if err != nil {
		b.Fatal(err)
	}
	return got.Submission
}

func (b *bench) wait(id string) submission.Submission {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	sub, err := b.service.Wait(ctx, session.DefaultTenant, id, submission.Forever)
	synctest.Wait()
	if err != nil {
		b.Fatal(err)
	}
	return sub
}

func (b *bench) expect(sub submission.Submission, outcome lane.Outcome, text string) {
	b.Helper()
	if sub.Outcome != outcome || sub.Text != text {
		b.Fatalf("the submission settled %s %q (%s: %s), want %s %q", sub.Outcome, sub.Text, sub.Reason, sub.Message,
			outcome, text)
	}
}

func TestPromptWithToolCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.expect(b.wait(b.submit("s", "echo one\necho two").ID), lane.Completed, "one\ntwo")
		if len(b.executor.ran) != 2 || len(b.executor.acked) != 2 {
			t.Errorf("ran %q, acknowledged %d results", b.executor.ran, len(b.executor.acked))
		}
		b.expect(b.wait(b.submit("s", "say: hello there").ID), lane.Completed, "hello there")
	})
}

func TestPromptsOfOneSessionRunInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var subs []submission.Submission
		for _, m := range []string{"echo 1", "echo 2", "echo 3", "echo 4"} {
			subs = append(subs, b.submit("s", m))
		}
		for _, s := range subs {
			b.wait(s.ID)
		}
		if got := strings.Join(b.executor.ran, ","); got != "echo 1,echo 2,echo 3,echo 4" {
			t.Errorf("ran in the order %s", got)
		}
	})
}

func TestFollowingSeesEveryEventOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		time.Sleep(time.Nanosecond) // a time that no store keeps in full
		f, err := b.service.Prompt(t.Context(), submission.Input{Key: key("s"), Message: "echo hi"})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var live []event.Event
		var types []string
		last := int64(0)
		for batch, err := range f.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range batch {
				if last++; e.Seq != last {
					t.Errorf("event %d came after %d", e.Seq, last-1)
				}
				types, live = append(types, string(e.Type)), append(live, e)
			}
		}
		want := "started entry tool_started tool_finished entry text entry settled"
		if got := strings.Join(types, " "); got != want {
			t.Errorf("events were %s, want %s", got, want)
		}
		if f.Submission.Text != "hi" {
			t.Errorf("the answer was %q", f.Submission.Text)
		}
		logged, err := b.events.Read(t.Context(), f.Submission.SessionID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(logged) != len(types) || logged[0].Entry == nil || logged[len(logged)-1].Settlement.Text != "hi" {
			t.Fatalf("the log has %d events: %+v", len(logged), logged)
		}
		for i, e := range live {
			if e.Entry != nil && !e.Entry.CreatedAt.Equal(logged[i].Entry.CreatedAt) {
				t.Errorf("event %d: live watchers see the time %v, later ones %v", e.Seq, e.Entry.CreatedAt,
					logged[i].Entry.CreatedAt)
			}
		}
	})
}

func TestAbortCancelsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub, queued := b.submit("s", "sleep 1000"), b.submit("s", "echo never")
		synctest.Wait()
		if got, err := b.service.Abort(t.Context(), session.DefaultTenant, queued.ID); err != nil ||
			got.Outcome != lane.Aborted {
			t.Errorf("aborting a queued submission: %+v, %v", got, err)
		}
		if _, err := b.service.Abort(t.Context(), session.DefaultTenant, sub.ID); err != nil {
			t.Fatal(err)
		}
		got := b.wait(sub.ID)
		b.expect(got, lane.Aborted, "")
		if !strings.Contains(got.Message, "; confirmed:") || len(b.executor.cancels) != 1 {
			t.Errorf("message %q, %d cancels", got.Message, len(b.executor.cancels))
		}
		b.executor.on = echo
		b.expect(b.wait(b.submit("s", "echo next").ID), lane.Completed, "next")
	})
}

func TestDeadlineExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := agent.Shell()
		def.Limits.Timeout = time.Minute
		b := newBench(t, def)
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		began := time.Now()
		b.expect(b.wait(b.submit("s", "sleep 1000").ID), lane.Expired, "")
		if took := time.Since(began); took < time.Minute || took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

func TestSuccessorAttachesToTheRunningCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo precious")
		synctest.Wait()
		b.die()
		b.start(agent.Shell())
		synctest.Wait()
		if !b.worker.Deliver(call.Report{
			Executor: "x1", CallID: running.Call.ID, LaneID: sub.SessionID,
			Body: call.Ended{Reply: echo(running)},
		}) {
			t.Fatal("the successor does not wait for the call")
		}
		got := b.wait(sub.ID)
		b.expect(got, lane.Completed, "precious")
		if len(b.executor.ran) != 1 || got.Attempts != 1 || !b.executor.acked[running.Call.ID] {
			t.Errorf("ran %q, attempts %d, acked %v", b.executor.ran, got.Attempts, b.executor.acked)
		}
	})
}

// A former owner's order comes late and is refused; whoever is connected hears of it, the present owner too.
func TestRefusalOfAFormerOwnersOrderIsNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo mine")
		synctest.Wait()
		b.die()
		b.start(agent.Shell())
		synctest.Wait()
		report := call.Report{Executor: "x1", CallID: running.Call.ID, LaneID: sub.SessionID}
		for _, reason := range []string{"STALE_EPOCH", "REVOKED", "UNSUPPORTED"} {
			report.Body = call.Rejected{Epoch: running.Epoch, Reason: reason}
			b.worker.Deliver(report)
			synctest.Wait()
		}
		report.Body = call.Ended{Reply: echo(running)}
		if !b.worker.Deliver(report) {
			t.Fatal("the owner does not wait for the call any more")
		}
		b.expect(b.wait(sub.ID), lane.Completed, "mine")
		if len(b.executor.ran) != 1 {
			t.Errorf("ran %q", b.executor.ran)
		}
	})
}

func TestCallThatNeverArrivedIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		sent := 0
		b.executor.on = func(o *call.Order) tool.Reply {
			if sent++; sent < 3 { // lost on its way, twice
				delete(b.executor.known, o.Call.ID)
				b.executor.ran = nil
				return nil
			}
			return echo(o)
		}
		sub := b.submit("s", "echo again")
		synctest.Wait()
		b.reconnect()
		b.reconnect()
		b.expect(b.wait(sub.ID), lane.Completed, "again")
		if len(b.executor.ran) != 1 {
			t.Errorf("ran %q", b.executor.ran)
		}
	})
}

func TestExecutorThatStaysAwayLeavesTheOutcomeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub := b.submit("s", "rm -rf build")
		synctest.Wait()
		b.executor.mu.Lock()
		b.executor.away = true
		b.executor.mu.Unlock()
		b.bus.Publish(wake.Executor("x1"))
		got := b.wait(sub.ID)
		if got.Outcome != lane.Completed || !strings.Contains(got.Text, "unknown") {
			t.Errorf("settled %s: %q", got.Outcome, got.Text)
		}
	})
}

func TestDrainHandsOverWithoutCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		var running *call.Order
		b.executor.on = func(o *call.Order) tool.Reply { running = o; return nil }
		sub := b.submit("s", "echo handed over")
		synctest.Wait()
		close(b.drain)
		if err := <-b.done; err != nil {
			t.Fatal(err)
		}
		b.done <- nil
		b.start(agent.Shell())
		synctest.Wait()
		b.worker.Deliver(call.Report{
			Executor: "x1", CallID: running.Call.ID, LaneID: sub.SessionID,
			Body: call.Ended{Reply: echo(running)},
		})
		got := b.wait(sub.ID)
		b.expect(got, lane.Completed, "handed over")
		if got.Attempts != 0 || len(b.executor.ran) != 1 {
			t.Errorf("attempts %d, ran %q", got.Attempts, b.executor.ran)
		}
	})
}

// A drain that comes while a head is being settled stops the next one, which the same commit has begun.
func TestDrainBetweenTwoHeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		commit := make(chan struct{})
		b.counted.before = func(lane.Commit) { <-commit }
		first := b.submit("s", "say: one")
		synctest.Wait() // its last commit is under way
		second := b.submit("s", "say: two")
		close(b.drain)
		synctest.Wait()
		close(commit)
		if err := <-b.done; err != nil {
			t.Fatal(err)
		}
		b.done <- nil
		b.expect(b.wait(first.ID), lane.Completed, "one")
		got, err := b.store.GetSubmission(t.Context(), session.DefaultTenant, second.ID)
		if err != nil || got.Status == submission.SettledStatus {
			t.Fatalf("the second is settled by who drains: %v", err)
		}
		b.start(agent.Shell())
		b.expect(b.wait(second.ID), lane.Completed, "two")
	})
}

func TestFailingModelSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		got := b.wait(b.submit("s", "fail: no such luck").ID)
		if got.Outcome != lane.Failed || !strings.Contains(got.Message, "no such luck") {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
		b.expect(b.wait(b.submit("s", "say: still usable").ID), lane.Completed, "still usable")
	})
}

func TestInputThatKillsItsOwnersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.executor.on = func(*call.Order) tool.Reply { return nil }
		sub, next := b.submit("s", "echo poison"), b.submit("s", "say: next")
		for range 3 {
			synctest.Wait()
			b.die()
			b.start(agent.Shell())
		}
		got := b.wait(sub.ID)
		if got.Outcome != lane.Interrupted || got.Reason != "STALLED" {
			t.Errorf("settled %s %s: %s", got.Outcome, got.Reason, got.Message)
		}
		if len(b.executor.cancels) != 1 || got.Cancellation == nil || !got.Cancellation.Confirmed {
			t.Errorf("%d cancels, %+v", len(b.executor.cancels), got.Cancellation)
		}
		b.expect(b.wait(next.ID), lane.Completed, "next")
	})
}

// countingStore counts claims and looks.
type countingStore struct {
	*sqlite.Store
	claims             atomic.Int32
	looks              atomic.Int32 // at the calls of turns
	releases, lookedUp atomic.Int32
	before             func(lane.Commit) // nil is nothing
	readMu             sync.Mutex
	read               []int64 // after which entries conversations were read
	// fail is what a verb fails with, by its name. Unreadable is what keeps entries from being decoded.
	failMu sync.Mutex
	fail   map[string]error
	after  func(lane.Commit) // it was written, and nobody has heard of it yet; nil is nothing
	bad    string            // the session whose entries cannot be decoded
	dying  *dying
	swap   []string // in entries, one text for another
	garble bool     // what waits to join cannot be read
}

// Steers implements loop.Store.
func (c *countingStore) Steers(ctx context.Context, headID string, after int64, limit int) ([]lane.Steer, error) {
	found, err := c.Store.Steers(ctx, headID, after, limit)
	for i := range found {
		if c.garble {
			found[i].Input = found[i].Input[1:]
		}
	}
	return found, err
}

// changes has entries say something else than was stored.
func (c *countingStore) changes(from, to string) {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	c.swap = []string{from, to}
}

func (c *countingStore) changed(e *session.Entry) {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	if c.swap != nil {
		body := bytes.ReplaceAll(e.Body, []byte(c.swap[0]), []byte(c.swap[1]))
		if err := json.Unmarshal(body, &e.Message); err == nil {
			e.Body = body
		}
	}
}

// setDying makes the replica die at a commit.
func (c *countingStore) setDying(d *dying) {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	c.dying = d
}

// unreadable makes the entries of a session undecodable, for all replicas of the bench.
func (c *countingStore) unreadable(sessionID string) {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	c.bad = sessionID
}

// fails makes a verb fail from now on, or, with nil, work again.
func (c *countingStore) fails(verb string, err error) {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	if c.fail == nil {
		c.fail = map[string]error{}
	}
	c.fail[verb] = err
}

func (c *countingStore) failure(verb string) error {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	return c.fail[verb]
}

func (c *countingStore) TurnCalls(ctx context.Context, loopID string, turn int) ([]call.Call, error) {
	c.looks.Add(1)
	if err := c.failure("TurnCalls"); err != nil {
		return nil, err
	}
	return c.Store.TurnCalls(ctx, loopID, turn)
}

func (c *countingStore) TurnApprovals(ctx context.Context, loopID string, turn int) ([]approval.Approval, error) {
	if err := c.failure("TurnApprovals"); err != nil {
		return nil, err
	}
	return c.Store.TurnApprovals(ctx, loopID, turn)
}

func (c *countingStore) ExpireApproval(ctx context.Context, id string) (approval.Approval, error) {
	if err := c.failure("ExpireApproval"); err != nil {
		return approval.Approval{}, err
	}
	return c.Store.ExpireApproval(ctx, id)
}

func (c *countingStore) GetSession(ctx context.Context, tenant, id string) (session.Session, error) {
	c.lookedUp.Add(1)
	if err := c.failure("GetSession"); err != nil {
		return session.Session{}, err
	}
	return c.Store.GetSession(ctx, tenant, id)
}

func (c *countingStore) Own(ctx context.Context, owner string) ([]lane.Held, error) {
	if err := c.failure("Own"); err != nil {
		return nil, err
	}
	return c.Store.Own(ctx, owner)
}

func (c *countingStore) Release(ctx context.Context, f lane.Fence, r lane.Release) error {
	c.releases.Add(1)
	if err := c.failure("Release"); err != nil {
		return err
	}
	return c.Store.Release(ctx, f, r)
}

func (c *countingStore) Commit(ctx context.Context, one lane.Commit) (lane.Committed, error) {
	if c.before != nil {
		c.before(one)
	}
	c.failMu.Lock()
	d, after := c.dying, c.after
	c.failMu.Unlock()
	if d != nil {
		return d.commit(ctx, func() (lane.Committed, error) { return c.Store.Commit(ctx, one) })
	}
	if err := c.failure("Commit"); err != nil {
		return lane.Committed{}, err
	}
	done, err := c.Store.Commit(ctx, one)
	if after != nil && err == nil {
		after(one)
	}
	return done, err
}

func (c *countingStore) Entries(ctx context.Context, id string, after int64, limit int) ([]session.Entry, error) {
	c.readMu.Lock()
	c.read = append(c.read, after)
	c.readMu.Unlock()
	if err := c.failure("Entries"); err != nil {
		return nil, err
	}
	page, err := c.Store.Entries(ctx, id, after, limit)
	for i := range page {
		c.changed(&page[i])
		page[i].Unreadable = c.failure("Unreadable")
		if c.isBad(id) {
			page[i].Unreadable = &session.UnreadableError{
				Seq: page[i].Seq, Err: errors.New("the entry cannot be decoded"),
			}
		}
	}
	return page, err
}

func (c *countingStore) isBad(sessionID string) bool {
	c.failMu.Lock()
	defer c.failMu.Unlock()
	return c.bad == sessionID
}

// reads takes what was read.
func (c *countingStore) reads() []int64 {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	read := c.read
	c.read = nil
	return read
}

func (c *countingStore) Claim(ctx context.Context, owner string, k lane.Kind, n int) (lane.Claimed, error) {
	c.claims.Add(1)
	return c.Store.Claim(ctx, owner, k, n)
}

// Lanes that found no slot run as soon as one is free, and looking for them costs nothing while nobody waits.
func TestFewSlotsServeAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, agent.Shell())
		b.die()
		b.slots = 2
		b.start(agent.Shell())
		before := b.counted.claims.Load()
		time.Sleep(10 * time.Second)
		if n := b.counted.claims.Load() - before; n > 12 {
			t.Errorf("%d claims in ten idle seconds", n)
		}
		var held []*call.Order
		b.executor.on = func(o *call.Order) tool.Reply {
			if len(held) == 2 {
				return echo(o)
			}
			held = append(held, o)
			return nil
		}
		var subs []submission.Submission
		for _, s := range []string{"a", "b", "c", "d", "e", "f"} {
			subs = append(subs, b.submit(s, "echo "+s))
			synctest.Wait()
		}
		if len(held) != 2 || len(b.executor.ran) != 2 {
			t.Fatalf("%d of 2 slots are taken, %q ran", len(held), b.executor.ran)
		}
		for _, o := range held {
			b.say(o.Call, "x1", call.Ended{Reply: echo(o)})
		}
		began := time.Now()
		for _, s := range subs {
			b.expect(b.wait(s.ID), lane.Completed, s.Key.Name)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %s: somebody waited for a poll", took)
		}
	})
}
