package check

// inputs is I10: each input that was accepted is in the conversation once, in order, whatever it did to what ran, and
// what has joined another submission settles with it, as it does.
func (c *checker) inputs() {
	entries := map[string]int{}
	for _, s := range c.Sessions {
		for _, e := range s.Entries {
			if e.Kind == "input" {
				entries[e.Submission]++
			}
		}
	}
	for i := range c.Submissions {
		s := &c.Submissions[i]
		if !s.IsRoot() || s.Compacts {
			continue
		}
		n := entries[s.ID]
		if n > 1 || n == 0 && (s.Outcome == "completed" || s.Host != "") {
			c.broken("I10", where(s), "its input is %d times in the conversation", n)
		}
		if s.Host != "" {
			c.joined(s)
		} else if n := c.steered[s.ID]; n > 0 {
			c.broken("I10", where(s), "%d events tell that it has joined another one, and it has not", n)
		}
	}
	for _, id := range c.Compactions {
		if s := c.byID[id]; s == nil || !s.Compacts {
			c.broken("I10", id, "a summary was promised, and nobody works on it")
		}
	}
}

// joined is a submission that has joined another one.
func (c *checker) joined(s *Submission) {
	host := c.byID[s.Host]
	switch {
	case host == nil || !host.IsRoot() || host.Session != s.Session:
		c.broken("I10", where(s), "has joined %s, which is not there", s.Host)
	case s.Settled != host.Settled || s.Outcome != host.Outcome || s.ResultEntry != host.ResultEntry:
		c.broken("I10", where(s), "is %s with entry %d, and what it has joined %s with entry %d", s.Outcome,
			s.ResultEntry, host.Outcome, host.ResultEntry)
	case c.steered[s.ID] != 1:
		c.broken("I10", where(s), "%d events tell that it has joined", c.steered[s.ID])
	}
}

// hostOf is the submission that works on an input: what it has joined, or itself.
func (c *checker) hostOf(s *Submission) *Submission {
	if s != nil && s.Host != "" && c.byID[s.Host] != nil {
		return c.byID[s.Host]
	}
	return s
}
