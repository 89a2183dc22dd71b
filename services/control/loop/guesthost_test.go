package loop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/loop"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/tool"
	"github.com/pawl-dev/pawl/services/control/turn"
	"github.com/pawl-dev/pawl/services/control/wake"
)

// hosting is a run whose steps are the work of guests, all at once.
type hosting struct {
	steps   []loop.Work
	limits  agent.Limits
	timeout time.Duration
	late    map[int]bool // steps that go on although the run has to end
	// lost says that no step is at work any more; odd is what making the work of those comes to that were.
	lost bool
	odd  error

	mu    sync.Mutex     // guards what follows
	ended map[int]ending // by the step's number; it is recorded then, or about to be
	now   *hostRun
	had   int // owners
}

// ending is what the call of a step came to.
type ending struct {
	state call.State
	reply tool.Reply
	usage model.Usage
	told  bool // by the guest, and not by the record
}

// hostRunner makes runs.
type hostRunner struct {
	*bench
	loops *loop.Runner
	store store
}

// Begin implements lane.Runner.
func (r hostRunner) Begin(o *lane.Owner, _ bool) lane.Run {
	l := turn.NewLane(turn.Deps{
		Store: r.store, Watchers: r.events, Fleet: r.executor, Executors: r.executor, Slots: r.executor,
		Log: slog.New(slog.DiscardHandler), DisconnectGrace: 2 * time.Minute,
	}, o)
	h := &hostRun{Lane: l, hosting: r.host, store: r.store, guests: r.loops.Guests(l, r.host.limits)}
	r.host.mu.Lock()
	defer r.host.mu.Unlock()
	r.host.now = h
	r.host.had++
	return h
}

// hostRun is a run at work.
type hostRun struct {
	*turn.Lane
	*hosting
	store  store
	guests *loop.Guests
	root   *hostStep
	all    []*hostStep
}

// hostStep is a step, or the run itself.
type hostStep struct {
	*turn.Strand
	of    *hostRun
	ord   int // 0 is the run
	above chan struct{}
	stop  loop.Stop
	kit   turn.Kit
	over  bool // guarded by the hosting's mutex
	told  int  // ends of guests
}

var prompts = func() tool.Set {
	t, err := tool.Define(tool.Spec{
		Name: "prompt", Source: "test", Safety: tool.Idempotent, Schema: json.RawMessage(`{"type":"object"}`),
		How: tool.ByLoop(func(_ struct{}, a tool.Answer) tool.Result { return tool.RenderAnswer(a, nil) }),
	})
	if err != nil {
		panic(err)
	}
	set, err := tool.NewSet(t)
	if err != nil {
		panic(err)
	}
	return set
}()

func (h *hostRun) row() *lane.Loop {
	head := h.Head()
	return head.Root()
}

func (h *hostRun) newStep(ord int) *hostStep {
	s := &hostStep{of: h, ord: ord, above: make(chan struct{}), kit: turn.Kit{Tools: prompts}}
	s.kit.Env = func(*tool.Tool) map[string]*string { return nil }
	who := turn.Who{LoopID: h.row().ID, SessionID: h.row().SessionID}
	if ord > 0 {
		who.Parent, who.Above, who.Late = h.root.Strand, s.above, h.late[ord]
	}
	s.Strand = turn.NewStrand(h.Lane, s, who, &s.kit)
	return s
}

func (s *hostStep) Turn() int                             { return s.ord }
func (s *hostStep) Wrote(lane.Step, lane.Committed) error { return nil }
func (s *hostStep) Stalled() *lane.Progress               { return nil }
func (s *hostStep) Read(context.Context) error            { return nil }
func (s *hostStep) Recall(context.Context) error          { return nil }
func (s *hostStep) Unreadable(error) bool                 { return false }
func (s *hostStep) TaskEnded()                            { s.told++ }
func (s *hostStep) host() loop.Host {
	return loop.Host{
		Strand: s.Strand, Above: s.above, Stop: func() loop.Stop { return s.stop }, Step: fmt.Sprint("step", s.ord),
		Late: s.of.late[s.ord],
	}
}

func (s *hostStep) Sign(st *lane.Step) {
	st.LoopID, st.SessionID = s.of.row().ID, s.of.row().SessionID
}

func (s *hostStep) Request(context.Context, *turn.Call) (tool.Asked, error) {
	asked := s.kit.Tools.Read(model.Message{Role: model.Assistant, Content: []model.Block{{
		Type: model.ToolCallBlock, CallID: fmt.Sprint(s.ord), Tool: "prompt", Args: json.RawMessage(`{}`),
	}}})
	return asked[0], asked[0].Refused
}

func (s *hostStep) Begin(ctx context.Context, c *turn.Call, _ tool.Asked) (time.Time, tool.Reply, error) {
	return s.of.guests.Begin(ctx, s.host(), c, s.of.steps[s.ord-1])
}

// Drive implements lane.Run.
func (h *hostRun) Drive(ctx context.Context) error {
	_, err := h.Run(ctx, h.begin)
	return err
}

func (h *hostRun) begin(ctx context.Context) ([]turn.Job, error) {
	h.root = h.newStep(0)
	jobs := []turn.Job{{Strand: h.root.Strand, Work: h.root.run}}
	done, err := h.store.ListSteps(ctx, h.row().LaneID, 0, 100)
	if err != nil {
		return nil, err
	}
	for i := range h.steps {
		over := func(r step.Record) bool { return r.Ord == i+1 && r.State.Ended() }
		if h.lost || slices.ContainsFunc(done, over) {
			continue
		}
		s := h.newStep(i + 1)
		if err := s.Inherit(ctx); err != nil {
			return nil, err
		}
		h.all, jobs = append(h.all, s), append(jobs, turn.Job{Strand: s.Strand, Work: s.work})
	}
	for _, j := range jobs {
		h.Add(j.Strand)
	}
	guests, err := h.guests.Recover(ctx, func(callID string) (loop.Host, loop.Work, error) {
		for _, s := range h.all {
			if s.Call(callID) != nil {
				return s.host(), h.steps[s.ord-1], h.odd
			}
		}
		return loop.Host{}, loop.Work{}, nil
	})
	return append(jobs, guests...), err
}

// step is a step at work.
func (h *hostRun) step(ord int) *hostStep {
	return h.all[slices.IndexFunc(h.all, func(s *hostStep) bool { return s.ord == ord })]
}

// work carries a step out.
func (s *hostStep) work(ctx context.Context) error {
	if len(s.Calls()) == 0 {
		asked, err := s.Request(ctx, nil)
		if err != nil {
			return err
		}
		c, err := s.Make(0, asked, 0)
		if err != nil {
			return err
		}
		err = s.Start(ctx, lane.Step{Calls: []call.Call{c}, Records: []step.Record{s.record(step.Started)}})
		if err != nil {
			return err
		}
	}
	for s.Open() > 0 {
		if err := s.Await(ctx); err != nil {
			return err
		}
		switch {
		case s.Open() == 0:
		case s.of.Leaving():
			return turn.ErrLeft
		case s.Ends():
			s.Stop()
		}
	}
	c, last := s.Calls()[0], s.Last()
	st := lane.Step{
		Records: []step.Record{s.record(step.Completed)},
		Events:  []event.Event{s.Event(event.Event{Type: event.Restarted, Reason: "step ended"})},
	}
	if last != nil {
		s.AddLast(&st, true)
	}
	s.of.mu.Lock()
	s.of.ended[s.ord] = ending{c.State, c.Result(), c.Usage(), s.told > 0}
	s.of.mu.Unlock()
	if err := s.Commit(st, lane.With{}); err != nil {
		return err
	}
	s.of.mu.Lock()
	s.over = true
	s.of.mu.Unlock()
	s.Finish(last)
	s.of.root.Nudge()
	return nil
}

func (s *hostStep) record(state step.State) step.Record {
	return step.Record{
		Ord: s.ord, Path: fmt.Sprint("step", s.ord), Kind: "prompt", State: state, Try: 1, Wait: step.Never,
	}
}

// run ends the run when all of its steps are over.
func (s *hostStep) run(ctx context.Context) error {
	h := s.of
	for !h.Leaving() {
		s.Look()
		h.mu.Lock()
		open := slices.ContainsFunc(h.all, func(s *hostStep) bool { return !s.over })
		h.mu.Unlock()
		if !open {
			return s.settle()
		}
		if !s.Ends() {
			rests := s.Event(event.Event{Type: event.Restarted, Reason: "rests"})
			if err := s.Idle(ctx, time.Time{}, rests); err != nil {
				return err
			}
			continue
		}
		select {
		case <-s.News():
			s.SkipNews()
		case <-h.Leave():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return turn.ErrLeft
}

func (s *hostStep) settle() error {
	outcome, spent := lane.Completed, model.Usage{}
	if s.Ends() {
		outcome = lane.Aborted
	}
	s.of.mu.Lock()
	for _, e := range s.of.ended {
		spent = spent.Add(e.usage)
	}
	s.of.mu.Unlock()
	return s.Commit(lane.Step{
		End: &lane.Settlement{Outcome: outcome, Usage: spent},
		Events: []event.Event{s.Event(event.Event{
			Type: event.Settled, Settlement: &event.Settlement{Outcome: string(outcome), Usage: spent},
		})},
	}, lane.With{})
}

// newHost is a bench whose runs have this work.
func newHost(b *bench, def agent.Definition, steps ...loop.Work) *bench {
	b.die()
	b.host = &hosting{steps: steps, ended: map[int]ending{}}
	b.start(def)
	return b
}

// says is work for the agent of the bench.
func says(text string, change ...func(*loop.Work)) loop.Work {
	w := loop.Work{Agent: "pinned", Message: model.Message{Role: model.User, Content: []model.Block{{
		Type: model.TextBlock, Text: text,
	}}}}
	for _, f := range change {
		f(&w)
	}
	return w
}

// begins starts a run.
func (b *bench) begins() run.Run {
	b.Helper()
	out, err := b.store.StartRun(b.Context(), run.Start{
		ID: ident.New(), SubmissionID: ident.New(), Tenant: session.DefaultTenant, Workflow: "w", Digest: "digest",
		Input: json.RawMessage(`{}`), InputHash: []byte("hash"), Timeout: b.host.timeout,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.bus.Publish(wake.Ready)
	synctest.Wait()
	return out.Run
}

// finished waits until a run has ended.
func (b *bench) finished(id string) run.Run {
	b.Helper()
	for range 3600 {
		synctest.Wait()
		got, err := b.store.GetRun(b.Context(), session.DefaultTenant, id)
		if err != nil {
			b.Fatal(err)
		}
		if got.Status.Ended() {
			return got
		}
		time.Sleep(time.Second)
	}
	b.Fatal("the run does not end")
	return run.Run{}
}

// came is what the call of a step came to.
func (b *bench) came(ord int) ending {
	b.Helper()
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	e, ok := b.host.ended[ord]
	if !ok {
		b.Fatalf("step %d has not ended", ord)
	}
	return e
}

// answers fails unless the guest of a step has said this.
func (b *bench) answers(ord int, text string) tool.Answer {
	b.Helper()
	e := b.came(ord)
	a, ok := e.reply.(tool.Answer)
	if !ok || a.Text != text || e.state != call.Done {
		b.Fatalf("step %d came to %s %+v, want %q", ord, e.state, e.reply, text)
	}
	return a
}

// fails fails unless the guest of a step has failed so.
func (b *bench) fails(ord int, state call.State, reason string) tool.Failure {
	b.Helper()
	e := b.came(ord)
	f, ok := e.reply.(tool.Failure)
	if !ok || f.Reason != reason || e.state != state {
		b.Fatalf("step %d came to %s %+v, want %s %s", ord, e.state, e.reply, state, reason)
	}
	return f
}

// errOdd is why work cannot be made.
var errOdd = errors.New("its input cannot be evaluated")
