package event

import "time"

// Approval is what events tell of a call that somebody has to decide about. State, By, Comment and Scope are of what
// became of it, the rest is of what is asked.
type Approval struct {
	ID     string `json:"id"`
	Digest []byte `json:"d,omitempty"` // that a decision has to name
	// Arguments is JSON, without secrets. Cut says that they, or Diff, are longer: the approval itself has more.
	Arguments string    `json:"a,omitempty"`
	Diff      string    `json:"f,omitempty"`
	Cut       bool      `json:"cut,omitempty"`
	Rules     []string  `json:"r,omitempty"`  // that ask, for people
	Path      []string  `json:"p,omitempty"`  // the agents from the submission's own to the one that asks
	Least     string    `json:"l,omitempty"`  // who may decide at least, as rules say it
	Other     bool      `json:"o,omitempty"`  // somebody else than who has asked for it
	Until     time.Time `json:"u,omitzero"`   // when it expires, zero for never
	State     string    `json:"st,omitempty"` // approved, denied, expired or withdrawn
	By        string    `json:"by,omitempty"` // the name of who has decided
	Comment   string    `json:"m,omitempty"`
	Session   bool      `json:"s,omitempty"` // the approval is for the rest of the session
}

// weight is about how many bytes it takes.
func (a *Approval) weight() int {
	n := len(a.Arguments) + len(a.Diff) + len(a.Comment)
	for _, r := range a.Rules {
		n += len(r)
	}
	return n
}
