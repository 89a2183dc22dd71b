package check

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// details are what a tool result tells to programs.
type details struct {
	ExitCode  *int   `json:"exitCode"`
	Reason    string `json:"reason"`
	Cancelled bool   `json:"cancelled"`
	TimedOut  bool   `json:"timedOut"`
	Confirmed bool   `json:"confirmed"`
}

func decodeDetails(raw json.RawMessage) (d details) {
	if len(raw) > 0 && json.Unmarshal(raw, &d) != nil {
		d.Reason = "UNREADABLE"
	}
	return d
}

// ended reports whether a command ran to its own end.
func (d details) ended() bool { return d.ExitCode != nil && !d.Cancelled && !d.TimedOut }

// trailer is what a keeper adds to the standard error of a command that it ends because its time is up.
var trailer = regexp.MustCompile(`\[timed out after [0-9.e-]+ s\]\n$`)

// output is I5.
func (c *checker) output() {
	for i := range c.Calls {
		k := &c.Calls[i]
		cmd, known := c.commands[k.Token]
		if !known {
			continue
		}
		r, _ := c.result(k)
		for stream, name := range []string{"stdout", "stderr"} {
			want, got := cmd.Output[stream], int64(0)
			// What a sub-agent's commands print is in the stream from when somebody watches it.
			kept := c.depth(k) == 0
			whole := kept
			for _, e := range c.pieces[k.ID] {
				if e.Output.Stderr != (stream == 1) {
					continue
				}
				data := string(e.Output.Data)
				if stream == 1 && r.details.TimedOut {
					data = trailer.ReplaceAllString(data, "")
				}
				from, to := e.Output.Offset, e.Output.Offset+int64(len(data))
				if to > int64(len(want)) || from < 0 || want[from:to] != data {
					c.broken("I5", k.Token, "%s at %d is %s (event %d of %s)", name, from,
						quote(string(e.Output.Data)), e.Seq, k.Session)
					whole = false
					break
				}
				if kept && from-e.Output.Skipped != got || from < got {
					c.broken("I5", k.Token, "%s goes on at %d, watchers have %d bytes (event %d of %s)", name, from,
						got, e.Seq, k.Session)
					whole = false
					break
				}
				got = to
			}
			if whole && r.details.ended() && got != int64(len(want)) {
				c.broken("I5", k.Token, "watchers saw %d of %d bytes of %s", got, len(want), name)
			}
		}
	}
}

// processes is I6.
func (c *checker) processes() {
	for _, s := range c.Survivors {
		k := c.callByID[s.Call]
		if k == nil {
			continue
		}
		of := c.rootOf(k)
		r, _ := c.result(k)
		silent := k.State == call.Lost || !r.details.Confirmed && (r.details.Cancelled || r.details.TimedOut)
		if !silent || of != nil && of.Confirmed {
			c.broken("I6", k.Token, "is %s, and a process of it lives: %s", k.State, s.What)
		}
	}
	for i := range c.Calls {
		k := &c.Calls[i]
		of := c.rootOf(k)
		if of == nil || !of.Confirmed || c.tasks[k.Token].Tool != "" {
			continue
		}
		if r, _ := c.result(k); k.State == call.Lost && !k.LateReply || r.details.Cancelled && !r.details.Confirmed &&
			r.details.Reason == "" {
			c.broken("I6", where(of), "is confirmed to be over, and %s (%s) is not", k.Token, k.State)
		}
	}
}

// rootOf is the submission that a call is for, whichever loop of it has made it.
func (c *checker) rootOf(k *Call) *Submission {
	if of := c.byID[k.Loop]; of != nil {
		return c.byID[of.Root]
	}
	return nil
}

// outcomes is I7: what is told of a call is what happened, and what nobody can know is told as that.
func (c *checker) outcomes() {
	lines := map[string]int{}
	for _, tokens := range c.Effects {
		for _, t := range tokens {
			lines[t]++
		}
	}
	unacknowledged := map[string]string{}
	for _, j := range c.Journals {
		for _, k := range j.Calls {
			if k.Finished {
				unacknowledged[k.ID] = j.Executor
			}
		}
	}
	for i := range c.Calls {
		k := &c.Calls[i]
		if !k.State.Terminal() {
			c.broken("I7", k.Token, "call %s is still %s", k.ID, k.State)
			continue
		}
		of := c.byID[k.Loop]
		if of == nil {
			c.broken("I7", k.Token, "call %s is of loop %s, which is not there", k.ID, k.Loop)
			continue
		}
		all := c.results[k.Session+" "+k.Provider]
		if len(all) != 1 {
			if len(all) > 1 || !c.leftOpen(of) {
				c.broken("I7", k.Token, "call %s has %d results in the conversation", k.ID, len(all))
			}
			continue
		}
		if task, isTask := c.tasks[k.Token]; isTask {
			c.task(k, task, all[0])
		}
		if cmd, isCommand := c.commands[k.Token]; isCommand {
			c.outcome(k, cmd, all[0], lines[k.Token])
		}
		if c.edits[k.Token] {
			c.edit(k, all[0], strings.Count(c.Files[k.Token], Mark))
		}
		if f := c.finished[k.ID]; (len(f) != 1 || f[0].Call.State != k.State.String()) &&
			(len(f) > 0 || !c.leftOpen(of)) {
			c.broken("I7", k.Token, "call %s is %s, its finishing events say %v", k.ID, k.State, statesOf(f))
		}
		if x, kept := unacknowledged[k.ID]; kept && (k.State != call.Lost || !k.LateReply) {
			c.broken("I7", k.Token, "executor %s still keeps the result of call %s, which is %s", x, k.ID, k.State)
		}
	}
}

func statesOf(events []event.Event) (states []string) {
	for _, e := range events {
		states = append(states, fmt.Sprintf("%s at %d", e.Call.State, e.Seq))
	}
	return states
}

// outcome compares what is told of a command with what it left.
func (c *checker) outcome(k *Call, cmd Command, r result, lines int) {
	d := r.details
	switch {
	case k.State == call.Lost:
		if d.Reason != tool.ReasonInterrupted || !r.isError || !saysUnknown(r.text) {
			c.broken("I7", k.Token, "its outcome is unknown and is told as %s", quote(r.text))
		}
		if !c.explained(k) {
			c.broken("I7", k.Token, "its outcome (call %s, executor %s, done %s) counts as unknown, although nothing "+
				"hid it", k.ID, k.Executor, k.Done.Format("15:04:05.000"))
		}
	case d.Reason != "":
		if d.Reason == tool.ReasonInterrupted {
			c.broken("I7", k.Token, "is %s with an unknown outcome", k.State)
		}
		if lines > 0 {
			c.broken("I7", k.Token, "did not run, it is said (%s: %s), and left its line", d.Reason, quote(r.text))
		}
	case !d.ended():
		// It was ended from outside: it may have done everything or nothing.
	case *d.ExitCode != cmd.Exit:
		c.broken("I7", k.Token, "exited with %d, it is said, and it exits with %d", *d.ExitCode, cmd.Exit)
	case lines == 0:
		c.broken("I7", k.Token, "ran, it is said, and left no line")
	default:
		want, ok := shown(cmd, false)
		ended, _ := shown(cmd, cmd.Stays) // if the keeper has lived to see it
		if ok && r.text != want && r.text != ended {
			c.broken("I7", k.Token, "its result is told as %s, not %s", quote(r.text), quote(ended))
		}
	}
}

// edit compares what is told of an edit with the file.
func (c *checker) edit(k *Call, r result, marks int) {
	switch {
	case k.State == call.Lost:
		if r.details.Reason != tool.ReasonInterrupted || !r.isError || !saysUnknown(r.text) {
			c.broken("I7", k.Token, "the outcome of the edit is unknown and is told as %s", quote(r.text))
		}
		if !c.explained(k) {
			c.broken("I7", k.Token, "the outcome of the edit (call %s, executor %s) counts as unknown, although "+
				"nothing hid it", k.ID, k.Executor)
		}
	case r.isError && marks > 0:
		c.broken("I7", k.Token, "the edit failed, it is said (%s), and it was made", quote(r.text))
	case !r.isError && marks == 0:
		c.broken("I7", k.Token, "the edit was made, it is said (%s), and it was not", quote(r.text))
	}
}

// endedWithIt is what a result says of a process that its command left in the background.
const endedWithIt = "A background process of the command was ended with it: what needs it has to run in the same " +
	"command."

// shown is how the result of a command with little output is told, and of a process that was ended with it.
func shown(cmd Command, ended bool) (string, bool) {
	if len(cmd.Output[0])+len(cmd.Output[1]) > 8<<10 {
		return "", false
	}
	text := strings.TrimRight(cmd.Output[0]+cmd.Output[1], "\n")
	if text == "" {
		text = "(no output)"
	}
	var notes []string
	if ended {
		notes = append(notes, endedWithIt)
	}
	if cmd.Exit != 0 {
		notes = append(notes, fmt.Sprintf("Command exited with code %d", cmd.Exit))
	}
	if len(notes) > 0 {
		text += "\n\n" + strings.Join(notes, "\n")
	}
	return text, true
}

// explained reports whether something happened that may have hidden the outcome of a lost call.
func (c *checker) explained(k *Call) bool {
	if of := c.rootOf(k); of != nil && (of.Outcome == "aborted" || of.Outcome == "expired" || c.fromRows(of)) {
		return true
	}
	return slices.ContainsFunc(c.Absences, func(a Absence) bool {
		return a.Executor == k.Executor && (c.edits[k.Token] || !a.EditsOnly) && a.From.Before(k.Done) &&
			a.To.After(k.Created)
	})
}

// turns is I8: no turn is taken twice, and none that was not asked for; every call that the model asks for is recorded.
func (c *checker) turns() {
	answers, calls := map[string]int{}, map[string]int{}
	for i := range c.Calls {
		calls[c.Calls[i].Loop]++
	}
	for _, s := range c.Sessions {
		for _, e := range s.Entries {
			if e.Kind == string(session.Assistant) {
				answers[e.Submission]++
			}
		}
	}
	for i := range c.Submissions {
		s := &c.Submissions[i]
		turns, known := c.turnsOf(s)
		if !known {
			continue
		}
		if s.Host != "" {
			continue // what it asks for is the host's work
		}
		// An input that joins is what the model works on from then on: what it was asked before is left as it is.
		most, whole := len(turns)+1, len(c.joins[s.ID]) == 0 && s.Outcome == "completed"
		for _, j := range c.joins[s.ID] {
			more, _ := c.turnsOf(j)
			most, turns = most+len(more)+1, append(turns[:len(turns):len(turns)], more...)
		}
		if n := answers[s.ID]; n > most || whole && n != most {
			c.broken("I8", where(s), "%d answers of the model for %d turns", n, most)
		}
		asked := 0
		for _, turn := range turns {
			for _, cmd := range turn {
				if cmd.Gate != GateNever { // which has no record
					asked++
				}
			}
		}
		if n := calls[s.ID]; n > asked || whole && n != asked {
			c.broken("I8", where(s), "%d calls were recorded of %d that were asked for", n, asked)
		}
	}
}

// quote shortens a text for a report.
func quote(s string) string {
	if len(s) > 160 {
		s = s[:80] + " … " + s[len(s)-80:]
	}
	return fmt.Sprintf("%q", s)
}

// saysUnknown reports whether a result says so itself, and not only in the reason that it quotes.
func saysUnknown(text string) bool {
	says, _, _ := strings.Cut(text, "\nWhy: ")
	return strings.Contains(says, "unknown")
}
