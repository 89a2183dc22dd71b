package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/internal/errs"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/turn"
)

// loop is one agent at work. Only its own goroutine touches it, but for what the tree's mutex guards, and what does not
// change once it works. It has a field for each thing that its goroutine works with.
type loop struct {
	*turn.Strand // its calls, and its commits
	tree         *tree
	parent       *loop  // nil for the root, and for a guest
	guest        *guest // nil for all others
	depth        int
	late         bool        // it goes on although the head has to end
	origin       origin      // the task call that it answers
	task         *event.Loop // its identity in the stream, nil for the root
	as           setup
	spent        model.Usage // by it and everything below it; guarded by tree.mu

	row          lane.Loop // as it is committed
	conversation *conversation
	asking       asking
	end          end
	ending       ending
	begun        time.Time // when this process took it
	beside       beside    // the input: what the model is told of
	compaction   compaction
	settled      bool
	steered      int64 // the mail of the lane when nothing waited to join, see steers
}

// setup is what a loop runs with.
type setup struct {
	turn.Kit // its secrets are those of all agents of the tree: they work on the same files
	def      agent.Definition
	values   agent.Values
	rules    []*approval.Policy      // of the agent, and of all that it works for
	envs     map[string]agent.Values // of tools that have variables of their own, by name
	supply   supply
}

// end is why a loop is to end.
type end struct {
	stop *Stop
	said chan struct{} // closed when stop is set
}

// newLoop makes a loop of a row. What it works for is parent, or of if it is a guest.
func newLoop(t *tree, parent *loop, of *guest, row lane.Loop) *loop {
	l := &loop{
		tree: t, parent: parent, guest: of, row: row, begun: time.Now(), end: end{said: make(chan struct{})},
		beside:  beside{first: row.Phase == lane.PhaseAccepted || parent == nil && t.fresh},
		steered: unsteered(t, &row),
	}
	who := turn.Who{LoopID: row.ID, SessionID: row.SessionID}
	if !row.Root() {
		l.task = &event.Loop{Task: row.ParentCall, Session: row.SessionID, Root: row.RootID}
		who.Task = l.task
	}
	if parent != nil {
		who.Parent, who.Above, l.late = parent.Strand, parent.end.said, parent.late
		if parent.task != nil {
			l.task.Parent = parent.task.Task
		}
	}
	if of != nil {
		who.Parent, who.Above, l.late = of.Strand, of.Above, of.Late
	}
	who.Late = l.late
	l.as.Env = l.env
	l.Strand = turn.NewStrand(t.Lane, l, who, &l.as.Kit)
	switch { // secrets even of what it shows without its own definition
	case parent != nil:
		l.depth, l.conversation, l.as.Secrets = parent.depth+1, &conversation{}, parent.as.Secrets
	case !l.root():
		l.depth, l.conversation = 1, &conversation{}
		if of != nil {
			l.as.Secrets = of.work.Secrets
		}
	case t.kept != nil:
		l.conversation = t.kept
	default:
		l.conversation = t.cache.take(row.SessionID)
	}
	return l
}

func (l *loop) root() bool { return l.row.Root() }

// recover gathers what the rows tell of an open loop: its definition and the calls of a turn under way. A loop that
// is to end, or for which that has failed too often, does without.
func (l *loop) recover(ctx context.Context) error {
	var err error
	switch {
	case !l.root():
		err = l.recoverOrigin(ctx)
	case l.tree.fresh: // the first event is told before others
		if err = l.publishStart(ctx); l.Unreadable(err) {
			err = nil
		}
	}
	if err == nil {
		err = l.prepare(ctx)
	}
	if err != nil && !l.Unreadable(err) {
		l.checkStop()
		if ends := l.end.stop != nil || l.row.Exhausted(); lane.Outage(err) || !ends {
			return err
		}
	}
	if err := l.recoverEnding(ctx); err != nil && !l.Unreadable(err) {
		return err
	}
	l.tree.spend(l, l.row.Usage)
	l.tree.answered(l, l.answers())
	if l.row.Phase == lane.PhaseTools {
		if err := l.Inherit(ctx); err != nil {
			return err
		}
		for _, c := range l.Calls() {
			l.tree.spend(l, c.Usage())
		}
		return nil
	}
	if l.row.Phase == lane.PhaseModel && !l.tree.fresh && (l.tree.Head().TakenOver || l.row.Stalls > 0) {
		l.Push(l.ownerChanged())
	}
	return nil
}

// answers is how often its model has answered.
func (l *loop) answers() int {
	if l.row.Phase == lane.PhaseModel {
		return l.row.Turn - 1
	}
	return l.row.Turn
}

// prepare gathers what the loop runs with.
func (l *loop) prepare(ctx context.Context) error {
	deps := &l.tree.deps
	def, err := l.definition(ctx)
	if err == nil {
		l.as.values, err = def.Env.Expand(deps.Lookup)
	}
	switch {
	case l.guest != nil:
		l.as.Secrets = append(def.Secrets(deps.Lookup), l.guest.work.Secrets...)
	case l.parent == nil:
		l.as.Secrets = def.Secrets(deps.Lookup)
	}
	if e, answered := errs.Public(err); answered && !lane.Outage(err) {
		l.halt(Stop{lane.Failed, e.Reason(), e.Error()})
	} else if err != nil {
		return fmt.Errorf("reading the agent's definition: %w", err)
	}
	l.as.def = def
	l.as.Cwd, l.as.Sandbox, l.as.Demands, l.as.Offered = l.cwd(), def.Sandbox, named(def), def.Offered()
	if l.parent != nil {
		l.as.rules = slices.Clip(l.parent.as.rules)
	}
	if own := approval.NewPolicy(def.Name, def.Approve); own != nil {
		l.as.rules = append(l.as.rules, own)
	}
	return l.offerTools(ctx)
}

// work runs the loop to its end.
func (l *loop) work(ctx context.Context) error {
	if t := l.as.def.Limits.Timeout; !l.root() && t > 0 {
		defer l.Deadline(l.origin.began.Add(t))() // the root's is the lane's
	}
	for !l.settled {
		if l.tree.Leaving() && l.Last() == nil {
			return l.goodbye()
		}
		l.checkStop()
		l.checkLimit()
		if err := l.step(ctx); err != nil && !l.Unreadable(err) {
			return err
		}
	}
	return nil
}

// Unreadable implements turn.User: it makes the loop end if an error says that an entry cannot be decoded. It reports
// false for other errors, and when the loop is to end already.
func (l *loop) Unreadable(err error) bool {
	var bad *session.UnreadableError
	if l.end.stop != nil || !errors.As(err, &bad) {
		return false
	}
	l.halt(Stop{lane.Interrupted, lane.ReasonUnreadable, "the conversation cannot be read, so that it cannot go on: " +
		bad.Error()})
	return true
}

func (l *loop) step(ctx context.Context) error {
	l.compaction.why = ""
	next := Next(l.state())
	switch next.(type) {
	case AskModel, EndCompaction:
		if err := l.planCut(ctx); err != nil {
			return err
		}
		next = Next(l.state())
	}
	switch e := next.(type) {
	case Begin:
		return l.begin()
	case AskModel:
		return l.ask(ctx)
	case RunShell:
		return l.runShell(ctx)
	case Compact:
		return l.compact(ctx)
	case EndCompaction:
		return l.endCompaction()
	case AwaitCalls:
		if e.Stop != nil {
			l.halt(*e.Stop)
		}
		return l.Await(ctx)
	case AppendResults:
		return l.appendResults(ctx, e.Stop)
	case Settle:
		return l.settle(ctx, e.Stop)
	}
	return nil
}

func (l *loop) state() State {
	l.tree.mu.Lock()
	defer l.tree.mu.Unlock()
	return State{
		Loop: l.row, Limits: l.limits(), Spent: l.spent, Open: l.Open() > 0, Below: l.Below(), Stop: l.end.stop,
		Cut: l.compaction.why != "",
	}
}

// limits are the loop's own, as far as those that it works for have so much left. The tree's mutex is held.
func (l *loop) limits() agent.Limits {
	if l.parent == nil {
		return l.as.def.Limits
	}
	return within(l.as.def.Limits, l.parent.limits(), l.parent.spent, l.spent)
}

// goodbye stops at a safe point.
func (l *loop) goodbye() error {
	if err := l.Flush(); err != nil {
		return err
	}
	return turn.ErrLeft
}

// begin is T1: the input becomes part of the conversation.
func (l *loop) begin() error {
	switch {
	case !l.root():
		return l.beginTask()
	case l.row.Options.Compact:
		return l.Commit(lane.Step{
			Events:   []event.Event{l.Event(event.Event{Type: event.Started, Turn: 1})},
			Progress: &lane.Progress{Phase: lane.PhaseModel, Turn: 1, Usage: l.row.Usage},
		}, lane.With{})
	}
	var input model.Message
	if err := json.Unmarshal(l.row.Input, &input); err != nil {
		return l.finish(lane.Step{}, Stop{
			lane.Failed, "INPUT_UNREADABLE",
			"the input that was stored cannot be read: " +
				err.Error(),
		}, nil)
	}
	s := lane.Step{}
	e := l.entry(&s, session.Input, input)
	s.Events[0].Turn = 1
	s.Progress = &lane.Progress{Phase: lane.PhaseModel, Turn: 1, InputEntry: e.Seq, Usage: l.row.Usage}
	return l.Commit(s, lane.With{})
}

// publishStart publishes the events of a start that admission committed.
func (l *loop) publishStart(ctx context.Context) error {
	if err := l.takeInput(); err != nil {
		return err
	}
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	input := l.conversation.last
	e := l.Event(event.Event{Type: event.Started, EntrySeq: input.Seq, Entry: &input})
	head := l.tree.Head()
	e.Seq, e.Time = head.EventHead, l.row.StartedAt
	l.tree.deps.Events.Publish(head.Fence.LaneID, l.tree.Key(), []event.Event{e})
	return nil
}

// takeInput adds the input that admission committed, if all that comes before it is known.
func (l *loop) takeInput() error {
	input := l.row.Input
	l.row.Input = nil
	if input == nil || l.conversation.head != l.row.InputEntry-1 {
		return nil
	}
	e := session.Entry{
		Seq: l.row.InputEntry, SubmissionID: l.row.ID, Kind: session.Input, CreatedAt: l.row.StartedAt,
		Body: input,
	}
	if err := json.Unmarshal(input, &e.Message); err != nil {
		return &session.UnreadableError{Seq: e.Seq, Err: err}
	}
	return l.conversation.add(e)
}

// catchUp reads what is missing of the conversation.
func (l *loop) catchUp(ctx context.Context) error {
	return l.conversation.catchUp(ctx, l.tree.deps.Store, l.row.SessionID, l.row.EntryHead)
}

// Recall implements turn.User: what the conversation says of skills has to be known to a function that is run again.
func (l *loop) Recall(ctx context.Context) error { return l.catchUp(ctx) }

// ownerChanged says that what was streamed of an answer is void, because its owner did not live, or stay, to end it.
func (l *loop) ownerChanged() event.Event {
	return l.Event(event.Event{
		Type: event.Restarted, Reason: "owner_changed", Text: "another replica goes on with the submission",
	})
}
