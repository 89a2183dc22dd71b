package check

import (
	"slices"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/event"
)

// What a rule says of a command, by the word that the command begins with.
const (
	GateNever  = "never"  // it denies the command
	GateAsk    = "ask"    // somebody has to decide, for as long as it takes
	GateSoon   = "soon"   // somebody has to decide soon, or it is denied
	GateAnyway = "anyway" // somebody has to decide soon, or it is allowed
)

// asked reports whether a command waits for a decision.
func (cmd Command) asked() bool { return cmd.Gate != "" && cmd.Gate != GateNever }

// Reasons of results of calls that were not made because of a rule or a decision.
const (
	reasonDenied    = "DENIED"
	reasonExpired   = "APPROVAL_EXPIRED"
	reasonWithdrawn = "APPROVAL_WITHDRAWN"
)

// approvals is I9: a command about which a rule asks begins after it was approved, and not at all otherwise; one
// decision counts, and is the one that everybody is told; nothing waits for ever.
func (c *checker) approvals() {
	byCall := map[string][]*Approval{}
	said := map[string][]Decision{}
	for i := range c.Approvals {
		byCall[c.Approvals[i].Call] = append(byCall[c.Approvals[i].Call], &c.Approvals[i])
	}
	for _, d := range c.Decisions {
		said[d.Approval] = append(said[d.Approval], d)
	}
	for i := range c.Calls {
		k := &c.Calls[i]
		if n := len(byCall[k.ID]); c.commands[k.Token].asked() && n != 1 {
			c.broken("I9", k.Token, "a rule asks about call %s, and it has %d approvals", k.ID, n)
		} else if !c.commands[k.Token].asked() && n != 0 {
			c.broken("I9", k.Token, "no rule asks about call %s, and it has %d approvals", k.ID, n)
		}
	}
	for token := range c.Began {
		if k := c.calls[token]; k == nil || len(byCall[k.ID]) == 0 {
			c.broken("I9", token, "began, and nobody was asked")
		}
	}
	for i := range c.Approvals {
		a := &c.Approvals[i]
		k := c.callByID[a.Call]
		if k == nil || c.byID[k.Loop] == nil {
			c.broken("I9", a.ID, "is about call %s, which is not there", a.Call)
			continue
		}
		c.decided(a, k, said[a.ID])
		c.told(a, k)
		c.let(a, k)
		delete(said, a.ID)
	}
	for id := range said {
		c.broken("I9", id, "was there to be decided, and is not there")
	}
}

// decided is one approval as a row, and as those know it who have decided.
func (c *checker) decided(a *Approval, k *Call, said []Decision) {
	if a.State == approval.Open.String() {
		c.broken("I9", k.Token, "approval %s is open, and everything has settled", a.ID)
		return
	}
	if len(a.Writes) != 1 || a.Writes[0] != a.State {
		c.broken("I9", k.Token, "approval %s is %s, and was made %v", a.ID, a.State, a.Writes)
	}
	fresh := 0
	for _, d := range said {
		if d.Told != "" && d.Told != a.State {
			c.broken("I9", k.Token, "approval %s is %s, and who decided it was told %s", a.ID, a.State, d.Told)
		}
		if d.First {
			fresh++
		}
	}
	if fresh > 1 {
		c.broken("I9", k.Token, "approval %s was decided %d times", a.ID, fresh)
	}
	somebody := a.State == approval.Approved.String() || a.State == approval.Denied.String()
	if somebody && !slices.ContainsFunc(said, func(d Decision) bool { return d.Verdict == a.State }) {
		c.broken("I9", k.Token, "approval %s is %s, and nobody has decided so", a.ID, a.State)
	}
	if a.State == approval.Expired.String() && c.commands[k.Token].Gate == GateAsk {
		c.broken("I9", k.Token, "approval %s has expired, and may wait for ever", a.ID)
	}
}

// told is what the stream tells of an approval.
func (c *checker) told(a *Approval, k *Call) {
	of := c.byID[k.Loop]
	if n := len(c.requested[a.ID]); n != 1 {
		c.broken("I9", k.Token, "%d events tell that approval %s is wanted", n, a.ID)
	}
	all := c.ended[a.ID]
	if len(all) > 1 || len(all) == 0 && !c.leftOpen(of) {
		c.broken("I9", k.Token, "%d events tell what became of approval %s, which is %s", len(all), a.ID, a.State)
	}
	for _, e := range all {
		if e.Approval.State != a.State {
			c.broken("I9", k.Token, "approval %s is %s, and event %d tells that it is %s", a.ID, a.State, e.Seq,
				e.Approval.State)
		}
	}
}

// let is whether what was decided was done.
func (c *checker) let(a *Approval, k *Call) {
	cmd, of := c.commands[k.Token], c.byID[k.Loop]
	allowed := a.State == approval.Approved.String() ||
		a.State == approval.Expired.String() && cmd.Gate == GateAnyway
	for _, at := range c.Began[k.Token] {
		if !allowed {
			c.broken("I9", k.Token, "began, and approval %s is %s", a.ID, a.State)
		} else if at < a.Decided {
			c.broken("I9", k.Token, "began at %.2f, and approval %s was %s at %.2f", at, a.ID, a.State, a.Decided)
		}
	}
	r, ok := c.result(k)
	if !ok {
		return
	}
	want := map[string]string{
		approval.Denied.String(): reasonDenied, approval.Expired.String(): reasonExpired,
	}[a.State]
	if allowed {
		want = ""
	}
	switch refused := slices.Contains([]string{reasonDenied, reasonExpired, reasonWithdrawn}, r.details.Reason); {
	case refused && r.details.Reason != want:
		c.broken("I9", k.Token, "approval %s is %s, and the model is told %s", a.ID, a.State, quote(r.text))
	case !refused && want != "" && of.Outcome == "completed":
		c.broken("I9", k.Token, "approval %s is %s, and the model is told %s", a.ID, a.State, quote(r.text))
	case a.State == approval.Withdrawn.String() && of.Outcome == "completed":
		c.broken("I9", k.Token, "approval %s is withdrawn, and its loop has completed", a.ID)
	}
}

// approvalEvent notes what the stream tells of approvals.
func (c *checker) approvalEvent(e event.Event) {
	switch e.Type {
	case event.ApprovalRequested:
		c.requested[e.Approval.ID] = append(c.requested[e.Approval.ID], e)
	case event.ApprovalDecided:
		c.ended[e.Approval.ID] = append(c.ended[e.Approval.ID], e)
	}
}
