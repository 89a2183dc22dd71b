// Package loop is one agent at work on one input in one conversation: model, calls, results, and again, until it
// answers.
//
//	accepted ─T1▶ model(1) ─T2▶ tools(1) ─T3▶ model(2) ─ … ─T4▶ settled
//	   T1 input entry    │            T3 result entries
//	                     └ a summary, when the conversation is too long: the same phase, a shorter context
//	   T2 assistant entry + calls     T4 final entry + settlement
//
// Next is the pure core: what is recorded decides what is done next, so a new owner goes on where a dead one stopped.
// It knows nothing of other loops. What is done with one call is decided by call.Next. A loop has the effects: one
// goroutine, its own conversation, calls and mailbox; each arrow above is one step, which the lane's owner merges with
// those of other loops.
//
// A tree is the loops of one lane: the root, which is a submission, and the sub-agents that work for it. A call of kind
// task is carried out by a child loop; it begins in the commit that dispatches the call and ends in the commit that has
// the call's outcome. The Runner makes a tree of each lane that a lane.Worker owns.
//
//	task call pending ─▶ dispatched + child accepted ─ … ─▶ done + child settled
//
// Guests are loops in the lane of a run, which is no loop: they carry out calls of its steps in the same way.
//
// Invariants: a call is committed before it is sent; a result is acknowledged after it is committed; events are
// published after their commit; a tree that is fenced writes nothing more and tells nobody anything more; a root ends
// after everything below it.
package loop

import (
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/internal/plural"
	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Stop is why a loop has to end before the model is done.
type Stop struct {
	Outcome lane.Outcome
	Reason  string
	Message string
}

// State is what Next decides by.
type State struct {
	Loop   lane.Loop
	Limits agent.Limits // its own, as far as whoever it works for has so much left
	Spent  model.Usage  // by it and everything below it
	Open   bool         // a call of the turn has not ended
	Below  bool         // what is open is the work of sub-agents: what its owners died of is theirs
	Stop   *Stop        // an abort, a deadline
	// Cut says that a summary is due, or was asked for, and that there is something for it to stand for.
	Cut bool
}

// Effect is what has to be done next: Begin, AskModel, RunShell, Compact, EndCompaction, AwaitCalls, AppendResults or
// Settle.
type Effect interface{ effect() }

// Begin appends the input (T1).
type Begin struct{}

// AskModel calls the model for the present turn; its answer is T2 or T4.
type AskModel struct{}

// RunShell has the command run that a loop was begun for.
type RunShell struct{}

// Compact has a summary written, which is an entry then, or notes that there is none.
type Compact struct{}

// EndCompaction ends a loop that was begun for a summary.
type EndCompaction struct{}

// AwaitCalls waits until every call of the turn has ended; Stop, when set, ends them.
type AwaitCalls struct{ Stop *Stop }

// AppendResults appends what the calls came to (T3). Stop, when set, ends the loop in the same commit.
type AppendResults struct{ Stop *Stop }

// Settle ends the loop without an answer.
type Settle struct{ Stop Stop }

func (Begin) effect()         {}
func (AskModel) effect()      {}
func (RunShell) effect()      {}
func (Compact) effect()       {}
func (EndCompaction) effect() {}
func (AwaitCalls) effect()    {}
func (AppendResults) effect() {}
func (Settle) effect()        {}

// Next is the next step of a loop.
func Next(s State) Effect {
	stop := s.Stop
	if stop == nil && !s.Below {
		stop = exhausted(s)
	}
	switch {
	case s.Loop.Phase == lane.PhaseAccepted:
		// Even an input that is stopped at once becomes part of the conversation.
		return Begin{}
	case s.Loop.Phase == lane.PhaseTools && s.Open:
		return AwaitCalls{Stop: stop}
	case s.Loop.Phase == lane.PhaseTools:
		return AppendResults{Stop: stop}
	}
	if stop == nil {
		stop = limit(s)
	}
	switch {
	case stop != nil:
		return Settle{Stop: *stop}
	case s.Loop.Options.Shell != nil:
		return RunShell{}
	case s.Cut:
		return Compact{}
	case s.Loop.Options.Compact:
		return EndCompaction{}
	}
	return AskModel{}
}

// exhausted reports that too many owners died, or failed, with the loop.
func exhausted(s State) *Stop {
	switch l := &s.Loop; {
	case l.Exhausted():
		return &Stop{lane.Interrupted, lane.ReasonStalled, l.Stalled()}
	case s.Limits.Attempts > 0 && l.Attempts >= s.Limits.Attempts:
		return &Stop{lane.Interrupted, "LIMIT_ATTEMPTS", fmt.Sprintf(
			"the submission was taken over %s, which is the agent's limit", plural.Of(l.Attempts, "time"))}
	}
	return nil
}

// Whose a limit is.
const (
	ofAgent = "the agent's"
	ofRun   = "the run's"
)

// limit is checked before every model call.
func limit(s State) *Stop { return beyond(ofAgent, s.Limits, s.Loop.Turn, s.Spent) }

// beyond is why a turn is beyond limits, nil if it is not.
func beyond(whose string, l agent.Limits, turn int, used model.Usage) *Stop {
	switch {
	case l.Turns > 0 && turn > l.Turns:
		return &Stop{lane.Failed, "LIMIT_TURNS", fmt.Sprintf("%s limit of %s is reached", whose,
			plural.Of(l.Turns, "turn"))}
	case l.Tokens > 0 && used.Total() >= l.Tokens:
		return &Stop{lane.Failed, "LIMIT_TOKENS", fmt.Sprintf("%s limit of %s is reached (%d used)", whose,
			plural.Of(l.Tokens, "token"), used.Total())}
	case l.CostUSD > 0 && used.Cost.Total() >= l.CostUSD:
		return &Stop{lane.Failed, "LIMIT_COST", fmt.Sprintf("%s limit of $%.2f is reached (about $%.2f used)", whose,
			l.CostUSD, used.Cost.Total())}
	}
	return nil
}

// within is a sub-agent's limits where whoever it works for has limits and has spent so much; own is what it has itself
// spent of that.
func within(child, parent agent.Limits, spent, own model.Usage) agent.Limits {
	if parent.Tokens > 0 {
		left := max(parent.Tokens-spent.Total()+own.Total(), 1)
		if child.Tokens == 0 || left < child.Tokens {
			child.Tokens = left
		}
	}
	if parent.CostUSD > 0 {
		left := max(parent.CostUSD-spent.Cost.Total()+own.Cost.Total(), 1e-9)
		if child.CostUSD == 0 || left < child.CostUSD {
			child.CostUSD = left
		}
	}
	return child
}

func deadlineStop(whose string, timeout time.Duration) *Stop {
	return &Stop{lane.Expired, "LIMIT_TIMEOUT", fmt.Sprintf("%s limit of %s is reached", whose, timeout)}
}

func abortStop() *Stop { return &Stop{lane.Aborted, lane.ReasonAborted, "an abort was requested"} }

// unansweredBecause is how a conversation says of an input that it got no answer.
var unansweredBecause = map[lane.Outcome]string{
	lane.Failed: "it failed", lane.Aborted: "it was aborted", lane.Interrupted: "it was interrupted",
	lane.Expired: "its time ran out",
}
