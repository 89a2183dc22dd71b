package turn

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/submission"
)

func running(phase submission.Phase, turn int) submission.Submission {
	return submission.Submission{Status: submission.Running, Phase: phase, Turn: turn}
}

func calls(states ...call.State) []call.Call {
	var out []call.Call
	for i, s := range states {
		out = append(out, call.Call{Index: i, State: s})
	}
	return out
}

func TestNext(t *testing.T) {
	limits := agent.Limits{Turns: 3, Tokens: 100, CostUSD: 1, Timeout: time.Hour, Attempts: 10}
	abort := abortStop()
	with := func(s submission.Submission, f func(*submission.Submission)) submission.Submission { f(&s); return s }
	for name, c := range map[string]struct {
		state State
		want  Effect
	}{
		"a new input is appended first": {State{Submission: running(submission.PhaseAccepted, 0)}, Begin{}},
		"even when it is to be stopped": {
			State{Submission: running(submission.PhaseAccepted, 0), Stop: abort},
			Begin{},
		},
		"then the model is asked": {State{Submission: running(submission.PhaseModel, 1)}, AskModel{}},
		"not when stopped": {
			State{Submission: running(submission.PhaseModel, 1), Stop: abort},
			Settle{*abort},
		},
		"open calls are awaited": {State{
			Submission: running(submission.PhaseTools, 1),
			Calls:      calls(call.Done, call.Dispatched),
		}, AwaitCalls{}},
		"pending calls too": {State{
			Submission: running(submission.PhaseTools, 1),
			Calls:      calls(call.Pending),
		}, AwaitCalls{}},
		"a stop cancels them": {State{
			Submission: running(submission.PhaseTools, 1),
			Calls:      calls(call.Dispatched), Stop: abort,
		}, AwaitCalls{Stop: abort}},
		"ended calls are appended": {State{
			Submission: running(submission.PhaseTools, 1),
			Calls:      calls(call.Done, call.Lost, call.Cancelled),
		}, AppendResults{}},
		"a turn whose calls were all refused": {State{Submission: running(submission.PhaseTools, 1)}, AppendResults{}},
		"a stop settles with the results": {State{
			Submission: running(submission.PhaseTools, 1),
			Calls:      calls(call.Cancelled), Stop: abort,
		}, AppendResults{Settle: abort}},
		"the last turn of the limit is run": {State{Submission: running(submission.PhaseModel, 3)}, AskModel{}},
		"one more is not": {
			State{Submission: running(submission.PhaseModel, 4)},
			Settle{Stop{submission.Failed, "LIMIT_TURNS", "the agent's limit of 3 turns is reached"}},
		},
		"tokens": {State{Submission: with(running(submission.PhaseModel, 2),
			func(s *submission.Submission) {
				s.Usage = model.Usage{
					Input:  60,
					Output: 40,
				}
			})}, Settle{Stop{submission.Failed, "LIMIT_TOKENS", "the agent's limit of 100 tokens is " +
			"reached (100 used)"}}},
		"cost": {State{Submission: with(running(submission.PhaseModel, 2),
			func(s *submission.Submission) { s.Usage.Cost.Output = 1 })}, Settle{Stop{submission.Failed, "LIMIT_COST", "the agent's limit of $1.00 is reached (about $1.00 used)"}}},
		"an input that kills its owners": {State{Submission: with(running(submission.PhaseModel, 1),
			func(s *submission.Submission) { s.Stalls = 3 })}, Settle{Stop{submission.Interrupted, "STALLED", "3 times in a row the control plane died, failed, or was turned away, at this point of the submission; it is given up as the likely cause"}}},
		"too many owners": {State{Submission: with(running(submission.PhaseModel, 1),
			func(s *submission.Submission) { s.Attempts = 10 })}, Settle{Stop{submission.Interrupted, "LIMIT_ATTEMPTS", "the submission was taken over 10 times, which is the agent's limit"}}},
		"limits do not cut a turn's tools off": {State{Submission: with(running(submission.PhaseTools, 4),
			func(s *submission.Submission) { s.Usage.Input = 1000 }), Calls: calls(call.Dispatched)}, AwaitCalls{}},
	} {
		c.state.Limits = limits
		if diff := cmp.Diff(c.want, Next(c.state)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Whatever is recorded, doing what Next says leads to a settlement, never runs past a limit and never asks while calls
// are open.
func TestNextAlwaysEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := State{Submission: running(submission.PhaseAccepted, 0), Limits: agent.Limits{Turns: rapid.IntRange(1,
			6).Draw(t, "turns"), Attempts: 5}}
		asked := 0
		for step := 0; ; step++ {
			if step > 200 {
				t.Fatal("the submission does not end")
			}
			if s.Stop == nil && rapid.IntRange(0, 30).Draw(t, "stop") == 0 {
				s.Stop = abortStop()
			}
			if rapid.IntRange(0, 10).Draw(t, "death") == 0 {
				s.Submission.Attempts++
				s.Submission.Stalls++
			}
			switch e := Next(s).(type) {
			case Begin:
				s.Submission.Phase, s.Submission.Turn, s.Submission.Stalls = submission.PhaseModel, 1, 0
			case AskModel:
				if asked++; asked > s.Limits.Turns {
					t.Fatalf("the model was asked %d times, the limit is %d", asked, s.Limits.Turns)
				}
				s.Submission.Stalls = 0
				if rapid.Bool().Draw(t, "done") {
					return
				}
				s.Submission.Phase = submission.PhaseTools
				s.Calls = calls(make([]call.State, rapid.IntRange(0, 3).Draw(t, "calls"))...)
			case AwaitCalls:
				open := false
				for i := range s.Calls {
					if !s.Calls[i].State.Terminal() {
						open = true
						s.Calls[i].State = rapid.SampledFrom([]call.State{
							call.Dispatched, call.Done, call.Lost,
							call.Cancelled,
						}).Draw(t, "state")
						break
					}
				}
				if !open {
					t.Fatal("nothing is open, and still it waits")
				}
			case AppendResults:
				for _, c := range s.Calls {
					if !c.State.Terminal() {
						t.Fatal("results are appended while a call is open")
					}
				}
				if e.Settle != nil {
					return
				}
				s.Submission.Phase, s.Submission.Turn, s.Submission.Stalls = submission.PhaseModel, s.Submission.Turn+1, 0
			case Settle:
				return
			}
		}
	})
}

// Within a day an executor has forgotten nothing that was not acknowledged; after that its silence proves nothing.
func TestNeverRan(t *testing.T) {
	at := func(age time.Duration, journal string) call.Call {
		return call.Call{DispatchedAt: time.Now().Add(-age), Journal: journal}
	}
	for name, c := range map[string]struct {
		call  call.Call
		found string
		want  bool
	}{
		"the journal of the dispatch": {at(time.Hour, "j1"), "j1", true},
		"another journal":             {at(time.Hour, "j1"), "j2", false},
		"no journal is no proof":      {at(time.Hour, ""), "", false},
		"forgotten perhaps":           {at(25*time.Hour, "j1"), "j1", false},
	} {
		if got := neverRan(c.call, call.Found{State: call.Unknown, Journal: c.found}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
