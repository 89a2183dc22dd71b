package loop

import (
	"time"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
)

// entry adds the next entry to a step, and its event.
func (l *loop) entry(s *lane.Step, kind session.Kind, m model.Message) session.Entry {
	m, images := session.Detach(m)
	e := session.Entry{
		Seq: l.row.EntryHead + int64(len(s.Entries)) + 1, SubmissionID: l.row.ID, Kind: kind, Message: m,
		// as the stores keep it: live watchers see what later ones read
		CreatedAt: time.Now().Truncate(time.Microsecond),
	}
	e.Message.Keep = kind == session.Workspace || len(activations(e)) > 0
	stored := e
	stored.Images = images // watchers hold the entry for as long as they like
	s.Entries = append(s.Entries, stored)
	t := event.EntryAdded
	if kind == session.Input {
		t = event.Started
	}
	s.Events = append(s.Events, l.Event(event.Event{Type: t, EntrySeq: e.Seq, Entry: &e}))
	l.announce(s, e)
	return e
}

// Turn implements turn.User.
func (l *loop) Turn() int { return l.row.Turn }

// Sign implements turn.User.
func (l *loop) Sign(s *lane.Step) {
	s.LoopID, s.SessionID, s.EntryHead = l.row.ID, l.row.SessionID, l.row.EntryHead
}

// Stalled implements turn.User.
func (l *loop) Stalled() *lane.Progress {
	if l.row.Stalls == 0 {
		return nil
	}
	return &lane.Progress{Phase: l.row.Phase, Turn: l.row.Turn, Usage: l.row.Usage}
}

// Wrote implements turn.User.
func (l *loop) Wrote(s lane.Step, done lane.Committed) error {
	for _, e := range s.Entries {
		if l.conversation.head != e.Seq-1 {
			break // it is read when it is needed
		}
		if err := l.conversation.add(e); err != nil {
			return err
		}
	}
	l.row.EntryHead += int64(len(s.Entries))
	if l.structured() {
		l.ending.count(s.Entries)
	}
	if s.Progresses() {
		l.row.Stalls, l.row.StallCause = 0, ""
	}
	if p := s.Progress; p != nil {
		l.row.Phase, l.row.Turn, l.row.Usage = p.Phase, p.Turn, p.Usage
		if p.InputEntry > 0 {
			l.row.InputEntry, l.row.Input = p.InputEntry, nil
		}
	}
	if s.Spent != nil {
		l.row.Usage = *s.Spent
	}
	if s.Model != "" {
		l.row.Model = s.Model
	}
	if s.End != nil {
		l.settled = true
		if l.root() {
			l.tree.rest(l, done.Next != nil)
		}
	}
	l.tree.prefixes.keep(s.Turn)
	l.log(s)
	return nil
}
