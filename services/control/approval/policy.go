package approval

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Policy is the rules of one agent, ready to judge. Safe for concurrent use.
type Policy struct {
	agent      string
	rules      []Rule
	conditions []*Condition // nil of a rule without one
}

// NewPolicy makes a Policy of rules whose conditions were checked when they were loaded. One that cannot be read any
// more cannot be told, and asks. Without rules it is nil, which allows everything.
func NewPolicy(agent string, rules []Rule) *Policy {
	if len(rules) == 0 {
		return nil
	}
	p := &Policy{agent: agent, rules: rules, conditions: make([]*Condition, len(rules))}
	for i, r := range rules {
		if r.When != "" {
			p.conditions[i] = known(r.When)
		}
	}
	return p
}

// Tool is what a call is of.
type Tool struct {
	Name string
	// Own says that the tool is a part of the loop itself, by which it ends or activates a skill. No pattern is about
	// it, only a rule that has its name.
	Own bool
}

// Verdict is what rules say of a call.
type Verdict struct {
	Do   Do
	Asks []Ask  // of DoAsk
	Why  string // of DoDeny: the rule, for the model
}

// Judge is what the policies say of a call, the strictest of them: deny before ask before allow. Within a policy the
// first rule that holds counts. args is the JSON of the call's arguments as they were understood. The answer depends on
// nothing else, so that whoever asks again is told the same.
func Judge(policies []*Policy, t Tool, args json.RawMessage) Verdict {
	v := Verdict{Do: DoAllow}
	for _, p := range policies {
		do, ask := p.judge(t, args)
		switch {
		case do == DoDeny:
			return Verdict{Do: DoDeny, Why: ask.String()}
		case do == DoAsk && !slices.ContainsFunc(v.Asks, func(a Ask) bool { return a.Key() == ask.Key() }):
			v.Do, v.Asks = DoAsk, append(v.Asks, ask)
		}
	}
	return v
}

// judge is what the first rule that holds says. A condition that cannot be told is taken for one that asks.
func (p *Policy) judge(t Tool, args json.RawMessage) (Do, Ask) {
	if p == nil {
		return DoAllow, Ask{}
	}
	for i, r := range p.rules {
		if !r.matches(t) {
			continue
		}
		ask := Ask{Agent: p.agent, Number: i + 1, Rule: r}
		if p.conditions[i] == nil {
			return r.Do, ask
		}
		holds, err := p.conditions[i].Holds(t.Name, args)
		if err != nil {
			ask.Failed = fmt.Sprintf("its condition cannot be told: %v", err)
			return DoAsk, ask
		}
		if holds {
			return r.Do, ask
		}
	}
	return DoAllow, Ask{}
}
