package check

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
		next, seq, last, over := int64(1), int64(0), "", map[string]bool{}
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
			of = c.hostOf(of)
			if of.ID != last && over[of.ID] || of.Seq < seq && !of.Urgent {
				c.broken("I2", name, "entry %d is of submission %d, after one of %d", en.Seq, of.Seq, seq)
			}
			if last = of.ID; !of.Urgent {
				seq = max(seq, of.Seq)
			}
			over[of.ID] = true
			if n := c.tells[of.ID][en.Seq]; n == 0 {
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
