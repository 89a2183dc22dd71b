package check

import (
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/lane"
)

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
		if s.Outcome == "completed" && s.ResultEntry == 0 && !s.Compacts {
			c.broken("I1", where, "completed without an answer")
		}
		if (s.Outcome == "failed" || s.Reason == reasonUnreadable) && !c.Spoiled[c.hostOf(s).Root] {
			c.broken("I1", where, "%s (%s), and every row of it can be read", s.Outcome, s.Reason)
		}
		if !s.IsRoot() || s.Host != "" {
			continue // see trees, and inputs
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
