package approval

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/audit"
	"github.com/pawl-dev/pawl/services/control/model"
)

// Do is what a rule says of a call.
type Do string

// What a rule can say.
const (
	DoAllow Do = "allow"
	DoAsk   Do = "ask"
	DoDeny  Do = "deny"
)

// Level is who may decide, each more trusted than the ones before it.
type Level uint8

// Levels.
const (
	Nobody    Level = iota
	Approvers       // clients with the role approver, and all below
	Admins          // clients with the role admin, and all below
	Operators
)

// levels are the words of rules for levels.
var levels = []string{Approvers: "role:approver", Admins: "role:admin", Operators: "operator"}

// LevelNames are the words for whom a rule can name.
func LevelNames() []string { return levels[Approvers:] }

// String is the word of rules.
func (l Level) String() string { return levels[l] }

// LevelOf is the level of who does something.
func LevelOf(w audit.Who) Level {
	switch {
	case w.Kind == "operator":
		return Operators
	case w.Kind == "client" && w.Role == "admin":
		return Admins
	case w.Kind == "client" && w.Role == "approver":
		return Approvers
	}
	return Nobody
}

// Rule says what is to become of calls. Its JSON form is part of an agent's definition.
type Rule struct {
	Tools     []string      `json:"tools"`          // names, or patterns in which * is any text; at least one
	When      string        `json:"when,omitempty"` // a condition in CEL, "" always holds
	Do        Do            `json:"do"`
	To        []string      `json:"to,omitempty"`         // who may decide, LevelNames; none is role:approver
	Timeout   time.Duration `json:"timeout,omitempty"`    // 0: as long as the submission may run
	OnTimeout Do            `json:"on_timeout,omitempty"` // DoAllow or DoDeny; "" is DoDeny
	Other     bool          `json:"other,omitempty"`      // whoever has asked for it may not decide
}

// matches reports whether the rule speaks of a tool.
func (r *Rule) matches(t Tool) bool {
	if t.Own {
		return slices.Contains(r.Tools, t.Name)
	}
	return slices.ContainsFunc(r.Tools, func(pattern string) bool { return glob(pattern, t.Name) })
}

// glob matches a pattern in which * is any text.
func glob(pattern, s string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	s, ok := strings.CutPrefix(s, first)
	if !wild || !ok {
		return ok && s == ""
	}
	for {
		next, more, another := strings.Cut(rest, "*")
		if !another {
			return strings.HasSuffix(s, rest)
		}
		_, after, found := strings.Cut(s, next)
		if !found {
			return false
		}
		s, rest = after, more
	}
}

// least is who may decide at least.
func (r *Rule) least() Level {
	least := Operators
	for _, word := range r.To {
		if i := slices.Index(levels, word); i > 0 {
			least = min(least, Level(i))
		}
	}
	if len(r.To) == 0 {
		least = Approvers
	}
	return least
}

// String is the rule for people, in one line.
func (r *Rule) String() string {
	said := fmt.Sprintf("%s %s", r.Do, strings.Join(r.Tools, ", "))
	if r.When != "" {
		said += " when " + strings.Join(strings.Fields(r.When), " ")
	}
	return said
}

// Ask is one rule that wants somebody to decide.
type Ask struct {
	Agent  string `json:"agent"`  // whose rule it is
	Number int    `json:"number"` // of the rule among the agent's, from 1
	Rule   Rule   `json:"rule"`
	Failed string `json:"failed,omitempty"` // why its condition could not be told: it asks then, whatever it says
}

// Key names the rule to grants: a rule that is changed is another one.
func (a *Ask) Key() string {
	body, err := json.Marshal(a.Rule)
	if err != nil {
		panic(err) // texts and numbers only
	}
	sum := sha256.Sum256(append([]byte(a.Agent+"\n"), body...))
	return hex.EncodeToString(sum[:])
}

// String is the rule for people, with whose it is.
func (a *Ask) String() string {
	return fmt.Sprintf("rule %d of %s: %s", a.Number, a.Agent, a.Rule.String())
}

// Timeout is how long may be waited for a decision: the shortest that a rule says, 0 for none.
func Timeout(asks []Ask) (least time.Duration) {
	for _, a := range asks {
		if t := a.Rule.Timeout; t > 0 && (least == 0 || t < least) {
			least = t
		}
	}
	return least
}

// Least is who may decide at least: every rule has its say.
func Least(asks []Ask) Level {
	least := Approvers
	for _, a := range asks {
		least = max(least, a.Rule.least())
	}
	return least
}

// Other reports whether a rule wants somebody else to decide than who has asked for it.
func Other(asks []Ask) bool {
	return slices.ContainsFunc(asks, func(a Ask) bool { return a.Rule.Other })
}

// Allowed says why somebody may not decide about a subject; nil is that they may.
func (s *Subject) Allowed(w audit.Who) error {
	if least := Least(s.Asks); LevelOf(w) < least {
		return ErrLevel.With("the rule lets %s decide, and this token is of %s", least, whoText(w))
	}
	if !Other(s.Asks) {
		return nil
	}
	if len(s.Requesters) == 0 && LevelOf(w) < Operators {
		return ErrOther.With("the rule wants somebody else to decide than who has asked for it, and that is not " +
			"known: an operator may decide")
	}
	for _, by := range s.Requesters {
		if own(by, w) {
			who := "this token"
			if by.TokenID != w.TokenID {
				who = "a client of the same role, " + w.Role + ","
			}
			return ErrOther.With("the rule wants somebody else to decide: %s has asked for what the agent does; "+
				"`control token create` makes a token of another role", who)
		}
	}
	return nil
}

// own reports whether an input is of who decides, or of a client with the same role.
func own(by model.Speaker, w audit.Who) bool {
	return by.TokenID == w.TokenID || w.Kind == "client" && by.Role != "" && by.Role == w.Role
}

func whoText(w audit.Who) string {
	if w.Role != "" {
		return "the role " + w.Role
	}
	return "the kind " + w.Kind
}
