package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
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
	c.approvals()
	c.inputs()
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
	tells    map[string]map[int64]int // by submission and entry: how many events tell of it
	loops    map[string][]event.Event // by submission: events whose identity is not the first one's
	first    map[string]event.Event   // by submission
	ofCalls  map[string][]event.Event // by submission: events of calls
	promptOf map[string]string        // by token
	inputOf  map[string]int64         // by prompt: the entry of its input
	joins    map[string][]*Submission // by submission: what has joined it
	steered  map[string]int           // by submission: how many events tell that it has joined
	// By approval: the events that tell that it is wanted, and those of what became of it.
	requested, ended map[string][]event.Event
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
		settled: map[string][]event.Event{}, started: map[string]int{}, tells: map[string]map[int64]int{},
		loops: map[string][]event.Event{}, first: map[string]event.Event{}, ofCalls: map[string][]event.Event{},
		promptOf: map[string]string{}, inputOf: map[string]int64{}, joins: map[string][]*Submission{},
		steered:   map[string]int{},
		requested: map[string][]event.Event{}, ended: map[string][]event.Event{},
	}
	for i := range e.Submissions {
		s := &e.Submissions[i]
		c.byID[s.ID] = s
		if s.IsRoot() {
			if !s.Compacts {
				c.byPrompt[s.Prompt] = append(c.byPrompt[s.Prompt], s)
			}
			if s.Host != "" {
				c.joins[s.Host] = append(c.joins[s.Host], s)
			}
		}
	}
	for _, p := range e.Prompts {
		c.asked(p.ID, p.Turns)
	}
	for i := range e.Calls {
		c.calls[e.Calls[i].Token], c.callByID[e.Calls[i].ID] = &e.Calls[i], &e.Calls[i]
	}
	for name, s := range e.Sessions {
		for _, en := range s.Entries {
			c.resultsOf(name, en)
			if of := c.byID[en.Submission]; en.Kind == string(session.Input) && of != nil && of.IsRoot() {
				c.inputOf[of.Prompt] = en.Seq
			}
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
func (c *checker) asked(prompt string, turns [][]Command) {
	for _, turn := range turns {
		for _, cmd := range turn {
			c.promptOf[cmd.Token] = prompt
			switch cmd.Tool {
			case "":
				c.commands[cmd.Token] = cmd
			case "edit":
				c.edits[cmd.Token] = true
			case "task":
				c.tasks[cmd.Token] = cmd
				c.asked(prompt, cmd.Turns)
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
		if c.tells[e.SubmissionID] == nil {
			c.tells[e.SubmissionID] = map[int64]int{}
		}
		c.tells[e.SubmissionID][e.EntrySeq]++
	}
	switch e.Type {
	case event.Started, event.TaskStarted:
		c.started[e.SubmissionID]++
	case event.Steered:
		c.steered[e.Joined]++
	case event.ApprovalRequested, event.ApprovalDecided:
		c.approvalEvent(e)
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
