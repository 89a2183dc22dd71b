package loop

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pawl-dev/pawl/services/control/agent"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
)

func at(phase lane.Phase, turn int) lane.Loop { return lane.Loop{Phase: phase, Turn: turn} }

func tokens(n int64) model.Usage { return model.Usage{Input: n} }

func TestNext(t *testing.T) {
	limits := agent.Limits{Turns: 3, Tokens: 100, CostUSD: 1, Timeout: time.Hour, Attempts: 10}
	abort := abortStop()
	with := func(l lane.Loop, f func(*lane.Loop)) lane.Loop { f(&l); return l }
	stalled := with(at(lane.PhaseModel, 1), func(l *lane.Loop) { l.Stalls, l.StallCause = 3, "no such file" })
	for name, c := range map[string]struct {
		state State
		want  Effect
	}{
		"a new input is appended first": {State{Loop: at(lane.PhaseAccepted, 0)}, Begin{}},
		"even when it is to be stopped": {State{Loop: at(lane.PhaseAccepted, 0), Stop: abort}, Begin{}},
		"then the model is asked":       {State{Loop: at(lane.PhaseModel, 1)}, AskModel{}},
		"not when stopped":              {State{Loop: at(lane.PhaseModel, 1), Stop: abort}, Settle{*abort}},
		"open calls are awaited":        {State{Loop: at(lane.PhaseTools, 1), Open: true}, AwaitCalls{}},
		"a stop cancels them": {
			State{Loop: at(lane.PhaseTools, 1), Open: true, Stop: abort}, AwaitCalls{abort},
		},
		"ended calls are appended":         {State{Loop: at(lane.PhaseTools, 1)}, AppendResults{}},
		"a stop settles with the results":  {State{Loop: at(lane.PhaseTools, 1), Stop: abort}, AppendResults{abort}},
		"the last turn of the limit's run": {State{Loop: at(lane.PhaseModel, 3)}, AskModel{}},
		"one more is not": {
			State{Loop: at(lane.PhaseModel, 4)},
			Settle{Stop{lane.Failed, "LIMIT_TURNS", "the agent's limit of 3 turns is reached"}},
		},
		"tokens": {
			State{Loop: at(lane.PhaseModel, 2), Spent: model.Usage{Input: 60, Output: 40}},
			Settle{Stop{lane.Failed, "LIMIT_TOKENS", "the agent's limit of 100 tokens is reached (100 used)"}},
		},
		"cost": {
			State{Loop: at(lane.PhaseModel, 2), Spent: model.Usage{Cost: model.Cost{Output: 1}}},
			Settle{Stop{lane.Failed, "LIMIT_COST", "the agent's limit of $1.00 is reached (about $1.00 used)"}},
		},
		"an input that kills its owners": {
			State{Loop: stalled}, Settle{Stop{lane.Interrupted, "STALLED", stalled.Stalled()}},
		},
		"not one that waits for sub-agents, who are to blame": {
			State{Loop: with(stalled, func(l *lane.Loop) { l.Phase = lane.PhaseTools }), Open: true, Below: true},
			AwaitCalls{},
		},
		"too many owners": {
			State{Loop: with(at(lane.PhaseModel, 1), func(l *lane.Loop) { l.Attempts = 10 })},
			Settle{Stop{
				lane.Interrupted, "LIMIT_ATTEMPTS",
				"the submission was taken over 10 times, which is the agent's limit",
			}},
		},
		"limits do not cut a turn's tools off": {
			State{Loop: at(lane.PhaseTools, 4), Spent: tokens(1000), Open: true}, AwaitCalls{},
		},
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
		s := State{Loop: at(lane.PhaseAccepted, 0), Limits: agent.Limits{
			Turns:    rapid.IntRange(1, 6).Draw(t, "turns"),
			Attempts: 5,
		}}
		asked := 0
		for step := 0; ; step++ {
			if step > 200 {
				t.Fatal("the loop does not end")
			}
			if s.Stop == nil && rapid.IntRange(0, 30).Draw(t, "stop") == 0 {
				s.Stop = abortStop()
			}
			if rapid.IntRange(0, 10).Draw(t, "death") == 0 {
				s.Loop.Attempts++
				s.Loop.Stalls++
			}
			switch e := Next(s).(type) {
			case Begin:
				s.Loop.Phase, s.Loop.Turn, s.Loop.Stalls = lane.PhaseModel, 1, 0
			case AskModel:
				if asked++; asked > s.Limits.Turns {
					t.Fatalf("the model was asked %d times, the limit is %d", asked, s.Limits.Turns)
				}
				s.Loop.Stalls = 0
				if rapid.Bool().Draw(t, "done") {
					return
				}
				s.Loop.Phase, s.Open = lane.PhaseTools, rapid.Bool().Draw(t, "calls")
			case AwaitCalls:
				if !s.Open {
					t.Fatal("nothing is open, and still it waits")
				}
				s.Open = rapid.Bool().Draw(t, "open")
			case AppendResults:
				if s.Open {
					t.Fatal("results are appended while a call is open")
				}
				if e.Stop != nil {
					return
				}
				s.Loop.Phase, s.Loop.Turn, s.Loop.Stalls = lane.PhaseModel, s.Loop.Turn+1, 0
			case Settle:
				return
			}
		}
	})
}

// A sub-agent may spend what is left to whoever it works for, and no more than its own limit.
func TestLimitsOfASubAgent(t *testing.T) {
	dollars := func(d float64) model.Usage { return model.Usage{Cost: model.Cost{Output: d}} }
	for name, c := range map[string]struct {
		child, parent agent.Limits
		spent, own    model.Usage
		want          agent.Limits
	}{
		"none":     {},
		"its own":  {child: agent.Limits{Tokens: 5}, want: agent.Limits{Tokens: 5}},
		"the rest": {parent: agent.Limits{Tokens: 100}, spent: tokens(30), want: agent.Limits{Tokens: 70}},
		"the smaller": {
			child: agent.Limits{Tokens: 50}, parent: agent.Limits{Tokens: 100}, want: agent.Limits{Tokens: 50},
		},
		"what it has spent itself is not taken away twice": {
			parent: agent.Limits{Tokens: 100}, spent: tokens(30), own: tokens(20), want: agent.Limits{Tokens: 90},
		},
		"nothing is left": {parent: agent.Limits{Tokens: 100}, spent: tokens(300), want: agent.Limits{Tokens: 1}},
		"money": {
			child: agent.Limits{CostUSD: 3}, parent: agent.Limits{CostUSD: 4}, spent: dollars(2),
			want: agent.Limits{CostUSD: 2},
		},
	} {
		if got := within(c.child, c.parent, c.spent, c.own); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
