// Package turn drives one submission to its end: model, tool calls, results, and again.
//
//	accepted ─T1▶ model(1) ─T2▶ tools(1) ─T3▶ model(2) ─ … ─T4▶ settled
//	   T1 input entry                 T3 result entries
//	   T2 assistant entry + calls     T4 final entry + settlement
//
// Next is the pure core: what is recorded decides what is done next, so a new owner goes on where a dead one stopped. A
// run has the effects: one goroutine per leased lane, which alone writes for its session; each arrow above is one
// fenced commit.
//
// Invariants: a call is committed before it is sent; a result is acknowledged after it is committed; events are
// published after their commit; a run that is fenced writes nothing more and tells nobody anything more.
package turn

import (
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// maxStalls is how many owners in a row may die, or give up, without progress before the input is taken for the cause.
const maxStalls = 3

// stallsToStop is how many more may do so while they stop the submission, before it is settled without being looked at.
const stallsToStop = 3

// maxStallShift bounds how much longer each owner waits, before the next one tries, than the one before it: twice as
// long.
const maxStallShift = 5

// Stop is why a submission has to end before the model is done.
type Stop struct {
	Outcome submission.Outcome
	Reason  string
	Message string
}

// State is what Next decides by.
type State struct {
	Submission submission.Submission
	Limits     agent.Limits
	Calls      []call.Call // of the turn, when the phase is PhaseTools
	Stop       *Stop       // an abort, a deadline
}

// Effect is what has to be done next: Begin, AskModel, AwaitCalls, AppendResults or Settle.
type Effect interface{ effect() }

// Begin appends the input (T1).
type Begin struct{}

// AskModel calls the model for the present turn; its answer is T2 or T4.
type AskModel struct{}

// AwaitCalls waits until every call of the turn has ended; Stop, when set, ends them.
type AwaitCalls struct{ Stop *Stop }

// AppendResults appends what the calls came to (T3). Settle, when set, ends the submission in the same commit.
type AppendResults struct{ Settle *Stop }

// Settle ends the submission without an answer.
type Settle struct{ Stop Stop }

func (Begin) effect()         {}
func (AskModel) effect()      {}
func (AwaitCalls) effect()    {}
func (AppendResults) effect() {}
func (Settle) effect()        {}

// Next is the next step of a submission.
func Next(s State) Effect {
	stop := s.Stop
	if stop == nil {
		stop = exhausted(s)
	}
	switch s.Submission.Phase {
	case submission.PhaseAccepted:
		// Even an input that is stopped at once becomes part of the conversation.
		return Begin{}
	case submission.PhaseTools:
		for _, c := range s.Calls {
			if !c.State.Terminal() {
				return AwaitCalls{Stop: stop}
			}
		}
		return AppendResults{Settle: stop}
	}
	if stop == nil {
		stop = limit(s)
	}
	if stop != nil {
		return Settle{Stop: *stop}
	}
	return AskModel{}
}

// exhausted reports that too many owners died with the submission.
func exhausted(s State) *Stop {
	switch sub := s.Submission; {
	case sub.Stalls >= maxStalls:
		return stalled(sub.Stalls)
	case s.Limits.Attempts > 0 && sub.Attempts >= s.Limits.Attempts:
		return &Stop{submission.Interrupted, "LIMIT_ATTEMPTS", fmt.Sprintf(
			"the submission was taken over %d times, which is the agent's limit", sub.Attempts)}
	}
	return nil
}

func stalled(times int) *Stop {
	return &Stop{submission.Interrupted, "STALLED", fmt.Sprintf("%d times in a row the control plane died, failed, "+
		"or was turned away, "+
		"at this point of the submission; it is given up as the likely cause", times)}
}

// limit is checked before every model call.
func limit(s State) *Stop {
	l, sub := s.Limits, s.Submission
	switch {
	case l.Turns > 0 && sub.Turn > l.Turns:
		return &Stop{submission.Failed, "LIMIT_TURNS", fmt.Sprintf("the agent's limit of %d turns is reached", l.Turns)}
	case l.Tokens > 0 && sub.Usage.Total() >= l.Tokens:
		return &Stop{submission.Failed, "LIMIT_TOKENS", fmt.Sprintf("the agent's limit of %d tokens is reached (%d "+
			"used)", l.Tokens, sub.Usage.Total())}
	case l.CostUSD > 0 && sub.Usage.Cost.Total() >= l.CostUSD:
		return &Stop{submission.Failed, "LIMIT_COST", fmt.Sprintf("the agent's limit of $%.2f is reached (about "+
			"$%.2f used)", l.CostUSD, sub.Usage.Cost.Total())}
	}
	return nil
}

func deadlineStop(timeout time.Duration) *Stop {
	return &Stop{submission.Expired, "LIMIT_TIMEOUT", fmt.Sprintf("the agent's limit of %s is reached", timeout)}
}

func abortStop() *Stop {
	return &Stop{submission.Aborted, submission.ReasonAborted, "an abort was requested"}
}
