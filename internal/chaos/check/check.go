package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
)

// Check finds every broken promise.
func Check(e *Evidence) []Violation {
	c := newChecker(e)
	for _, crash := range e.Crashes {
		c.broken("I0", "logs", "%s", crash)
	}
	c.settlement()
	c.admission()
	c.ownership()
	c.streams()
	c.effects()
	c.output()
	c.processes()
	c.outcomes()
	c.turns()
	c.trees()
	slices.SortStableFunc(c.found, func(a, b Violation) int { return strings.Compare(a.Invariant, b.Invariant) })
	return c.found
}

// checker holds the evidence in the order in which it is asked for.
type checker struct {
	*Evidence
	found    []Violation
	byID     map[string]*Submission
	byPrompt map[string][]*Submission
	commands map[string]Command // by token
	edits    map[string]bool    // by token
	tasks    map[string]Command // by token
	calls    map[string]*Call   // by token
	callByID map[string]*Call
	results  map[string][]result
	finished map[string][]event.Event // by call
	pieces   map[string][]event.Event // by call: output
	settled  map[string][]event.Event // by submission: of a sub-agent's loop its task_finished
	started  map[string]int           // by submission: started and task_started
	told     map[string]map[int64]int // by submission and entry: how many events tell of it
	loops    map[string][]event.Event // by submission: events whose identity is not the first one's
	first    map[string]event.Event   // by submission
	ofCalls  map[string][]event.Event // by submission: events of calls
}

// result is what the conversation says that a call came to.
type result struct {
	text    string
	isError bool
	details details
}

func newChecker(e *Evidence) *checker {
	c := &checker{
		Evidence: e, byID: map[string]*Submission{}, byPrompt: map[string][]*Submission{},
		commands: map[string]Command{}, edits: map[string]bool{}, tasks: map[string]Command{},
		calls: map[string]*Call{}, callByID: map[string]*Call{}, results: map[string][]result{},
		finished: map[string][]event.Event{}, pieces: map[string][]event.Event{},
		settled: map[string][]event.Event{}, started: map[string]int{}, told: map[string]map[int64]int{},
		loops: map[string][]event.Event{}, first: map[string]event.Event{}, ofCalls: map[string][]event.Event{},
	}
	for i := range e.Submissions {
		s := &e.Submissions[i]
		c.byID[s.ID] = s
		if s.IsRoot() {
			c.byPrompt[s.Prompt] = append(c.byPrompt[s.Prompt], s)
		}
	}
	for _, p := range e.Prompts {
		c.asked(p.Turns)
	}
	for i := range e.Calls {
		c.calls[e.Calls[i].Token], c.callByID[e.Calls[i].ID] = &e.Calls[i], &e.Calls[i]
	}
	for name, s := range e.Sessions {
		for _, en := range s.Entries {
			c.resultsOf(name, en)
		}
		for _, g := range s.Segments {
			for _, ev := range g.Events {
				c.event(ev)
			}
		}
	}
	return c
}

// asked notes commands, and those of the sub-agents that they ask.
func (c *checker) asked(turns [][]Command) {
	for _, turn := range turns {
		for _, cmd := range turn {
			switch cmd.Tool {
			case "":
				c.commands[cmd.Token] = cmd
			case "edit":
				c.edits[cmd.Token] = true
			case "task":
				c.tasks[cmd.Token] = cmd
				c.asked(cmd.Turns)
			}
		}
	}
}

func (c *checker) resultsOf(name string, e Entry) {
	if e.Kind != string(session.ToolResult) {
		return
	}
	for _, b := range e.Message.Content {
		key := name + " " + b.CallID
		c.results[key] = append(c.results[key], result{b.Text, b.IsError, decodeDetails(b.Details)})
	}
}

func (c *checker) event(e event.Event) {
	if first, known := c.first[e.SubmissionID]; !known {
		c.first[e.SubmissionID] = e
	} else if !sameLoop(first.Loop, e.Loop) {
		c.loops[e.SubmissionID] = append(c.loops[e.SubmissionID], e)
	}
	if e.Call != nil {
		c.ofCalls[e.SubmissionID] = append(c.ofCalls[e.SubmissionID], e)
	}
	if e.EntrySeq > 0 {
		if c.told[e.SubmissionID] == nil {
			c.told[e.SubmissionID] = map[int64]int{}
		}
		c.told[e.SubmissionID][e.EntrySeq]++
	}
	switch e.Type {
	case event.Started, event.TaskStarted:
		c.started[e.SubmissionID]++
	case event.ToolFinished:
		c.finished[e.Call.ID] = append(c.finished[e.Call.ID], e)
	case event.ToolOutput:
		c.pieces[e.Call.ID] = append(c.pieces[e.Call.ID], e)
	case event.Settled, event.TaskFinished:
		c.settled[e.SubmissionID] = append(c.settled[e.SubmissionID], e)
	}
}

func (c *checker) broken(invariant, where, format string, args ...any) {
	c.found = append(c.found, Violation{invariant, where, fmt.Sprintf(format, args...)})
}

// settlement is I1: once, in the row, in the stream and to those who waited.
func (c *checker) settlement() {
	times, again := map[string]int{}, map[string]int{}
	for _, s := range c.Settlings {
		if s.Again {
			again[s.Submission]++
		} else {
			times[s.Submission]++
		}
	}
	for i := range c.Submissions {
		s := &c.Submissions[i]
		where := where(s)
		if !s.Settled {
			c.broken("I1", where, "has not settled: %s", s.Where)
			continue
		}
		if times[s.ID] != 1 || again[s.ID] > 0 {
			c.broken("I1", where, "settled %d times, and its outcome was written again %d times", times[s.ID],
				again[s.ID])
		}
		if s.Outcome == "completed" && s.ResultEntry == 0 {
			c.broken("I1", where, "completed without an answer")
		}
		if (s.Outcome == "failed" || s.Reason == reasonUnreadable) && !c.Spoiled[s.Root] {
			c.broken("I1", where, "%s (%s), and every row of it can be read", s.Outcome, s.Reason)
		}
		if !s.IsRoot() {
			continue // see trees
		}
		events := c.settled[s.ID]
		switch {
		case s.Started && len(events) != 1, !s.Started && len(events) != 0:
			c.broken("I1", where, "has %d settled events (started %v)", len(events), s.Started)
		case s.Started && events[0].Settlement.Outcome != s.Outcome:
			c.broken("I1", where, "its row says %s, its event %s", s.Outcome, events[0].Settlement.Outcome)
		}
	}
}

func where(s *Submission) string {
	if s.IsRoot() {
		return fmt.Sprintf("%s (submission %s)", s.Prompt, s.ID)
	}
	return fmt.Sprintf("%s (loop %s of call %s)", s.Prompt, s.ID, s.ParentCall)
}

// Reasons of settlements from rows, by which no owner has told the end of the calls.
const (
	reasonUnreadable = lane.ReasonUnreadable
	reasonNotEnded   = lane.ReasonNotEnded
	reasonStalled    = lane.ReasonStalled
)

// fromRows reports whether the tree of a submission may have been settled from rows alone.
func (c *checker) fromRows(s *Submission) bool {
	root := c.byID[s.Root]
	return root != nil && (root.Reason == reasonUnreadable || root.Reason == reasonNotEnded ||
		root.Reason == reasonStalled)
}

// admission is I1, too: what was acknowledged is there, once, and stays the same.
func (c *checker) admission() {
	for id := range c.byPrompt {
		if _, known := c.Prompts[id]; !known {
			c.broken("I1", id, "was admitted, and nobody asked for it")
			continue
		}
		if n := len(c.byPrompt[id]); n > 1 {
			c.broken("I1", id, "was admitted %d times under the key %q", n, c.Prompts[id].Key)
		}
	}
	for _, a := range c.Acks {
		of := c.byPrompt[a.Prompt]
		i := slices.IndexFunc(of, func(s *Submission) bool { return a.Submission == "" || s.ID == a.Submission })
		if i < 0 {
			c.broken("I1", a.Prompt, "was acknowledged as %q and is not there", a.Submission)
			continue
		}
		if s := of[i]; s.Settled && a.Outcome != "" && a.Outcome != s.Outcome {
			c.broken("I1", where(s), "a client was told %s, its row says %s", a.Outcome, s.Outcome)
		} else if a.Outcome == "completed" {
			c.answer(s, a.Text)
		}
	}
	for _, id := range c.Unheard {
		c.broken("I1", id, "its client asked until the end and got no answer")
	}
	for _, id := range c.Conflicts {
		c.broken("I1", id, "its key was accepted again with another message")
	}
}

// answer compares what a client was told with the conversation.
func (c *checker) answer(s *Submission, told string) {
	for _, e := range c.Sessions[s.Session].Entries {
		if e.Seq == s.ResultEntry && e.Message.Text() != told {
			c.broken("I1", where(s), "a client was told %s, its entry says %s", quote(told), quote(e.Message.Text()))
		}
	}
}

// ownership is I2: one owner per epoch, the dead only are succeeded, and whoever was succeeded writes no more.
func (c *checker) ownership() {
	type lane struct {
		epoch int64
		owner map[int64]string
		since []Owner
	}
	lanes := map[string]*lane{}
	for _, o := range c.Owners {
		l := lanes[o.Session]
		if l == nil {
			l = &lane{owner: map[int64]string{}}
			lanes[o.Session] = l
		}
		if o.Epoch < l.epoch {
			c.broken("I2", o.Session, "epoch %d came after %d", o.Epoch, l.epoch)
		}
		l.epoch = max(l.epoch, o.Epoch)
		if o.To == "" {
			continue
		}
		if before := l.owner[o.Epoch]; before != "" && before != o.To {
			c.broken("I2", o.Session, "epoch %d was owned by %s and by %s", o.Epoch, before, o.To)
		}
		l.owner[o.Epoch] = o.To
		if o.From != "" && o.From != o.To && o.FromLives {
			c.broken("I2", o.Session, "at epoch %d %s took the lane of %s, whose lease held", o.Epoch, o.To, o.From)
		}
		l.since = append(l.since, o)
	}
	for name, s := range c.Sessions {
		last := int64(0)
		for _, g := range s.Segments {
			if g.Epoch < last {
				c.broken("I2", name, "events %d to %d were written at epoch %d, after some of epoch %d", g.First,
					g.Last, g.Epoch, last)
			}
			last = max(last, g.Epoch)
			if l := lanes[name]; l != nil {
				c.stale(name, g, l.since)
			}
		}
		if last > s.Epoch {
			c.broken("I2", name, "events of epoch %d, the lane is at %d", last, s.Epoch)
		}
	}
	for _, j := range c.Journals {
		for name, s := range c.Sessions {
			if s.Lane != name {
				continue // executors know lanes only
			}
			if j.Epochs[s.ID] > s.Epoch {
				c.broken("I2", name, "executor %s knows epoch %d, the lane is at %d", j.Executor, j.Epochs[s.ID],
					s.Epoch)
			}
		}
	}
}

// stale finds events that an owner wrote after its successor had taken the lane: the lane's head then was lower.
func (c *checker) stale(name string, g Segment, since []Owner) {
	for _, o := range since {
		if g.First > o.EventHead && g.Epoch < o.Epoch {
			c.broken("I2", name, "events %d to %d were written at epoch %d after epoch %d began (at %d)", g.First,
				g.Last, g.Epoch, o.Epoch, o.EventHead)
			return
		}
	}
}

// streams is I3, and of I2 that submissions do not interleave.
func (c *checker) streams() {
	for name, s := range c.Sessions {
		if s.Lane == name {
			c.stream(name, s)
		}
		next, seq := int64(1), int64(0)
		for _, en := range s.Entries {
			if en.Seq != next {
				c.broken("I3", name, "entry %d comes where %d should", en.Seq, next)
			}
			next = en.Seq + 1
			of := c.byID[en.Submission]
			if of == nil || of.Session != name {
				c.broken("I3", name, "entry %d is of submission %q, which is not there", en.Seq, en.Submission)
				continue
			}
			if of.Seq < seq {
				c.broken("I2", name, "entry %d is of submission %d, after one of %d", en.Seq, of.Seq, seq)
			}
			seq = max(seq, of.Seq)
			if n := c.told[en.Submission][en.Seq]; n == 0 {
				c.broken("I3", name, "no event tells of entry %d", en.Seq)
			}
		}
		if next-1 != s.EntryHead {
			c.broken("I3", name, "the last entry is %d, its row says %d", next-1, s.EntryHead)
		}
	}
	for _, r := range c.Readers {
		c.broken("I3", "readers", "%s", r)
	}
}

// stream is of a lane.
func (c *checker) stream(name string, s *Session) {
	next := int64(1)
	for _, g := range s.Segments {
		if g.First != next || g.Last != g.First+int64(len(g.Events))-1 {
			c.broken("I3", name, "events %d to %d (%d of them) come where %d should", g.First, g.Last,
				len(g.Events), next)
		}
		next = g.Last + 1
	}
	if next-1 != s.EventHead {
		c.broken("I3", name, "the last event is %d, the lane says %d", next-1, s.EventHead)
	}
}

// effects is I4, and of I2 that effects are in order of admission.
func (c *checker) effects() {
	for name, tokens := range c.Effects {
		seen := map[string]int{}
		var before []*Call
		for _, t := range tokens {
			seen[t]++
			k := c.calls[t]
			if k == nil {
				c.broken("I4", name, "the line %q is of no recorded call", t)
				continue
			}
			if c.mayBeLate(k) {
				continue
			}
			for _, b := range before {
				if c.precedes(k, b) {
					c.broken("I2", name, "the effect of %s comes after that of %s", t, b.Token)
					break
				}
			}
			before = append(before, k)
		}
		for t, n := range seen {
			if n > 1 {
				c.broken("I4", name, "the command of %s ran %d times (call %s)", t, n, c.calls[t].idOrNone())
			}
		}
	}
	for token, text := range c.Files {
		if n := strings.Count(text, Mark); n > 1 {
			c.broken("I4", token, "the edit was made %d times (call %s)", n, c.calls[token].idOrNone())
		}
	}
	for _, r := range c.Rewrites {
		c.broken("I4", "tool_calls", "%s", r)
	}
}

func (k *Call) idOrNone() string {
	if k == nil {
		return "none"
	}
	return k.ID
}

// mayBeLate: nobody knows whether it still ran when the session went on.
func (c *checker) mayBeLate(k *Call) bool {
	if k.State == call.Lost {
		return true
	}
	r, ok := c.result(k)
	return !ok || r.details.Cancelled && !r.details.Confirmed
}

// result is what the conversation says of a call; ok is false when it says nothing.
func (c *checker) result(k *Call) (result, bool) {
	all := c.results[k.Session+" "+k.Provider]
	if len(all) == 0 {
		return result{}, false
	}
	return all[0], true
}
