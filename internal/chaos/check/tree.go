package check

import (
	"strconv"
	"strings"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
)

// trees holds I1, I3 and I7 of sub-agents: each loop ends once and with its root, its call comes to what it came to,
// its events are told as its own, and what it has cost is counted above it.
func (c *checker) trees() {
	started := map[string]int{} // loops by the call that they answer
	cost := map[string]int64{}  // of the sub-agents of a loop
	for i := range c.Submissions {
		s := &c.Submissions[i]
		c.identity(s)
		if s.IsRoot() {
			continue
		}
		started[s.ParentCall]++
		k, root := c.callByID[s.ParentCall], c.byID[s.Root]
		if k == nil || root == nil || !root.IsRoot() {
			c.broken("I1", where(s), "works for a call or a submission that is not there")
			continue
		}
		cost[k.Loop] += s.Usage
		c.child(s, k, root)
	}
	for id, n := range started {
		if n > 1 {
			c.broken("I4", c.callByID[id].tokenOrNone(), "%d sub-agents began for call %s", n, id)
		}
	}
	for i := range c.Calls {
		if k := &c.Calls[i]; c.tasks[k.Token].Tool != "" && k.State == call.Done && started[k.ID] == 0 {
			c.broken("I7", k.Token, "call %s is done, and no sub-agent has begun for it", k.ID)
		}
	}
	for i := range c.Submissions {
		s := &c.Submissions[i]
		if s.Settled && !c.leftOpen(s) && s.Usage < s.Spent+cost[s.ID] {
			c.broken("I1", where(s), "has cost %d tokens, its row says; its model calls %d, and its sub-agents %d",
				s.Usage, s.Spent, cost[s.ID])
		}
	}
}

func (k *Call) tokenOrNone() string {
	if k == nil {
		return "no call"
	}
	return k.Token
}

// child is one sub-agent's loop with the call that it answers.
func (c *checker) child(s *Submission, k *Call, root *Submission) {
	if root.Settled && !s.Settled {
		c.broken("I1", where(s), "is open, and its submission has settled")
	}
	conversation := c.Sessions[s.Session]
	if conversation == nil || conversation.ParentCall != s.ParentCall || conversation.Lane != root.Session ||
		!strings.HasPrefix(s.Session, k.Session+"/") {
		c.broken("I3", where(s), "its conversation %s is not one of call %s in lane %s", s.Session, k.ID, root.Session)
	}
	events := c.settled[s.ID]
	switch {
	case c.started[s.ID] != 1:
		c.broken("I3", where(s), "began %d times, by its events", c.started[s.ID])
	case len(events) > 1, len(events) == 0 && !c.leftOpen(s):
		c.broken("I1", where(s), "has %d events of its end", len(events))
	case len(events) == 1 && events[0].Settlement.Outcome != s.Outcome:
		c.broken("I1", where(s), "its row says %s, its event %s", s.Outcome, events[0].Settlement.Outcome)
	}
	if s.Outcome == "completed" && k.State != call.Done {
		c.broken("I7", k.Token, "its sub-agent has completed, and the call is %s", k.State)
	}
}

// leftOpen reports whether the end of a loop's calls need not be told: its submission was settled from rows, or ended
// while the loop was still open.
func (c *checker) leftOpen(s *Submission) bool {
	if c.fromRows(s) {
		return true
	}
	root := c.byID[s.Root]
	return !s.IsRoot() && root != nil && root.Outcome != "completed" && len(c.settled[s.ID]) == 0
}

// task compares what is told of a task call with what its sub-agent came to.
func (c *checker) task(k *Call, cmd Command, r result) {
	for i := range c.Submissions {
		s := &c.Submissions[i]
		if s.ParentCall != k.ID {
			continue
		}
		if s.Outcome != "completed" {
			if !r.isError {
				c.broken("I7", k.Token, "its sub-agent is %s, and its result no error: %s", s.Outcome, quote(r.text))
			}
			return
		}
		answer := ""
		for _, e := range c.Sessions[s.Session].Entries {
			if e.Seq == s.ResultEntry {
				answer = e.Message.Text()
			}
		}
		short := len(answer) < 8<<10
		switch {
		case r.isError:
			c.broken("I7", k.Token, "its sub-agent has completed, and it is told as %s", quote(r.text))
		case short && strings.TrimSpace(r.text) != strings.TrimSpace(answer):
			c.broken("I7", k.Token, "is told as %s, its sub-agent answered %s", quote(r.text), quote(answer))
		case cmd.Output[0] != "" && answer != cmd.Output[0]:
			c.broken("I7", k.Token, "its sub-agent answered %s, not %s", quote(answer), quote(cmd.Output[0]))
		}
		return
	}
	if !r.isError {
		c.broken("I7", k.Token, "no sub-agent worked on it, and its result is no error: %s", quote(r.text))
	}
}

// identity is I3 of the loop that events say they are of.
func (c *checker) identity(s *Submission) {
	for _, e := range c.loops[s.ID] {
		c.broken("I3", where(s), "event %d (%s) is told as of another loop", e.Seq, e.Type)
	}
	for _, e := range c.ofCalls[s.ID] {
		if k := c.callByID[e.Call.ID]; k != nil && k.Loop != s.ID {
			c.broken("I3", where(s), "event %d (%s) of call %s is told as of another loop than that which made it",
				e.Seq, e.Type, k.ID)
		}
	}
	first, any := c.first[s.ID]
	switch {
	case !any:
	case s.IsRoot():
		if first.Loop != nil {
			c.broken("I3", where(s), "event %d (%s) is told as of task %s", first.Seq, first.Type, first.Loop.Task)
		}
	case first.Loop == nil:
		c.broken("I3", where(s), "event %d (%s) is told as of the submission", first.Seq, first.Type)
	default:
		l, conversation := first.Loop, c.Sessions[s.Session]
		if l.Task != s.ParentCall || l.Root != s.Root || conversation == nil || l.Session != conversation.ID {
			c.broken("I3", where(s), "event %d (%s) is told as of task %s in session %s", first.Seq, first.Type, l.Task,
				l.Session)
		}
	}
}

func sameLoop(a, b *event.Loop) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// turnsOf is what a loop is asked for.
func (c *checker) turnsOf(s *Submission) ([][]Command, bool) {
	if s.IsRoot() {
		p, known := c.Prompts[s.Prompt]
		if !known {
			return nil, false
		}
		return p.Turns, true
	}
	task, known := c.tasks[c.callByID[s.ParentCall].tokenOrNone()]
	return task.Turns, known
}

// depth is how many tasks a call is below its submission.
func (c *checker) depth(k *Call) int { return strings.Count(k.Session, "/") }

// precedes reports whether the effect of one call has to come before that of another one of the same lane. Calls of
// one turn, and all that sub-agents do for them, are in no order.
func (c *checker) precedes(a, b *Call) bool {
	if p, q := c.promptOf[a.Token], c.promptOf[b.Token]; p != q { // inputs are in the order in which they are worked on
		x, y := c.inputOf[p], c.inputOf[q]
		return x != 0 && y != 0 && x < y
	}
	p, q := steps(a.Token), steps(b.Token)
	for i := range min(len(p), len(q)) {
		if p[i] != q[i] {
			return p[i][0] < q[i][0]
		}
	}
	return false
}

// steps are the turns and calls that a token names: p.t0.c1.t2.c0 is call 0 of turn 2 of what call 1 of turn 0 asked.
func steps(token string) (all [][2]int) {
	turn := 0
	for _, part := range strings.Split(token, ".") {
		n, err := strconv.Atoi(part[min(1, len(part)):])
		switch {
		case err != nil:
		case part[0] == 't':
			turn = n
		case part[0] == 'c':
			all = append(all, [2]int{turn, n})
		}
	}
	return all
}
