package turn

import (
	"context"
	"errors"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/fleet"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// User is who asks for the calls of a strand. Its methods are called by the strand's goroutine.
type User interface {
	// Turn is the number of the present turn.
	Turn() int
	// Sign says in a step whose it is: LoopID, SessionID and EntryHead.
	Sign(s *lane.Step)
	// Wrote is told of every step of the strand that was committed, those included that only say how calls are.
	Wrote(s lane.Step, done lane.Committed) error
	// Stalled is the progress that clears the loop's stalls, without moving it; nil when it has none.
	Stalled() *lane.Progress
	// Read makes sure that what the turn asks for can be read.
	Read(ctx context.Context) error
	// Request is what a recorded call asks for.
	Request(ctx context.Context, c *Call) (tool.Asked, error)
	// Recall is called before a function of control is run again that an owner before may have begun.
	Recall(ctx context.Context) error
	// Unreadable reports whether an error says that a record cannot be decoded, for which the user ends: whoever tries
	// again finds the same.
	Unreadable(err error) bool
	// Begin begins the loop that carries out a call of kind task. Its first step dispatches the call, and its last one
	// has the call's outcome, which it tells with TaskEnded. began is zero when there is no room for it now; failed is
	// what the call comes to if the loop cannot begin.
	Begin(ctx context.Context, c *Call, asked tool.Asked) (began time.Time, failed tool.Reply, err error)
	// TaskEnded says that such a loop has ended: that is progress.
	TaskEnded()
}

// Who is whose calls a strand carries out.
type Who struct {
	LoopID    string // of which the steps are
	SessionID string
	Task      *event.Loop // a sub-agent's identity in the stream; nil for the head's
	Parent    *Strand     // that it works for; nil for the root
	// Above is closed when the strand has to end although the head goes on; nil for never.
	Above <-chan struct{}
	// Late says that the strand goes on although the head has to end: it cleans up. Only Above ends it.
	Late bool
}

// Kit is what calls are carried out with. It changes between turns only.
type Kit struct {
	Tools   tool.Set
	Secrets []string // that nobody is shown
	Cwd     string
	Env     func(*tool.Tool) map[string]*string // of calls of a tool
	Sandbox agent.Sandbox                       // what the workspace needs of an executor
	// Apart says that calls go to any executor that has what Sandbox needs: not to that of the workspace, which they do
	// not choose either.
	Apart bool
	// Demands are tools that an executor has to offer for calls of them, Offered those and all others that the executor
	// of the workspace has to offer.
	Demands, Offered []string
}

// Strand is turns in a lane, one after the other, with a field for each thing that its goroutine works with. One
// goroutine at a time uses it, but for methods that say otherwise.
type Strand struct {
	lane   *Lane
	user   User
	who    Who
	kit    *Kit
	parent *Strand
	depth  int // of sub-agents
	mail   *mailbox
	turn   turn
	out    outbox
	looked int64 // the lane's mail before the last look at what it rests on

	since    time.Time // when it was told to end, zero while it goes on
	ends     time.Time // its own deadline, zero for none
	timer    *time.Timer
	timedOut bool
}

// NewStrand makes a strand, see Lane.Add and Lane.Admit. kit is the user's.
func NewStrand(l *Lane, u User, w Who, kit *Kit) *Strand {
	t := &Strand{lane: l, user: u, who: w, kit: kit, parent: w.Parent, mail: newMailbox(), turn: newTurn()}
	if w.Parent != nil {
		t.depth = w.Parent.depth
	}
	if w.Task != nil {
		t.depth++
	}
	return t
}

func (t *Strand) root() bool { return t.parent == nil && t.who.Task == nil }

// loop reports whether it is more than calls for another strand.
func (t *Strand) loop() bool { return t.root() || t.who.Task != nil }

// Blame says whose error it is, unless it is nobody's.
func (t *Strand) Blame(err error) error {
	if errors.Is(err, lane.ErrFenced) || errors.Is(err, context.Canceled) || errors.Is(err, ErrLeft) {
		return err
	}
	return &lane.LoopError{LoopID: t.who.LoopID, Err: err}
}

// Deadline makes the strand end at a time, see TimedOut. stop must follow.
func (t *Strand) Deadline(at time.Time) (stop func() bool) {
	t.ends = at
	t.timer = time.NewTimer(time.Until(at))
	return t.timer.Stop
}

// Within has executors end the strand's calls at a time, by themselves. The strand goes on: see Deadline.
func (t *Strand) Within(at time.Time) { t.ends = at }

// Stop has the strand end: calls that have not ended are cancelled from now on, by the next Await.
func (t *Strand) Stop() {
	if !t.Stopped() {
		t.since = time.Now()
	}
}

// Stopped reports whether Stop was called.
func (t *Strand) Stopped() bool { return !t.since.IsZero() }

// Late has the strand go on although the head has to end, see Who.
func (t *Strand) Late() { t.who.Late = true }

// Ends reports whether the strand has to end, by Stop or because it should be called.
func (t *Strand) Ends() bool {
	return t.Stopped() || t.timedOut || !t.who.Late && Closed(t.lane.head.over) ||
		t.who.Above != nil && Closed(t.who.Above)
}

// TimedOut reports whether the strand's deadline was seen to pass.
func (t *Strand) TimedOut() bool { return t.timedOut }

// Over is closed when the lane's head has to end; nil of a late strand, and once the strand is to end anyway. So are
// the next two then.
func (t *Strand) Over() <-chan struct{} {
	if t.Stopped() || t.who.Late {
		return nil
	}
	return t.lane.head.over
}

// Above is closed when whoever the strand works for wants it to end.
func (t *Strand) Above() <-chan struct{} {
	if t.Stopped() {
		return nil
	}
	return t.who.Above
}

// Timeout is the passing of the strand's deadline. Who receives from it calls Stop.
func (t *Strand) Timeout() <-chan time.Time {
	if t.Stopped() || t.timer == nil {
		return nil
	}
	return t.timer.C
}

// Nudge has the strand look again at what it waits for. Any goroutine may call it.
func (t *Strand) Nudge() { t.mail.nudge() }

// TaskEnded tells that the outcome of a task call is committed. Any goroutine may call it.
func (t *Strand) TaskEnded(callID string, state call.State, reply tool.Reply, cost model.Usage) {
	t.mail.end(endedHere{callID: callID, state: state, reply: reply, committed: true, usage: cost})
}

// News holds a token when executors may have told something, while nobody waits for calls: see SkipNews.
func (t *Strand) News() <-chan struct{} { return t.mail.ready }

// SkipNews takes what was told of earlier turns, whose calls are settled.
func (t *Strand) SkipNews() {
	reports, _, _ := t.mail.take()
	for _, rep := range reports {
		t.missed(rep)
	}
}

// Needs is what the workspace needs of an executor. Any goroutine may call it.
func (t *Strand) Needs() fleet.Wanted {
	w := fleet.Wanted{Tenant: t.lane.key.Tenant, Builtin: t.lane.deps.Builtin}
	if !t.kit.Apart {
		w.Executor = t.lane.Executor()
	}
	if t.kit.Sandbox.Kind == agent.SandboxExecutor {
		w.Labels = t.kit.Sandbox.Labels
	}
	w.Tools = t.kit.Offered
	return w
}

func (t *Strand) wanted() fleet.Wanted {
	w := t.Needs()
	w.Roughly = t.turn.roughly
	return w
}
