package event

import (
	"context"
	"fmt"
	"slices"

	"github.com/pawl-dev/pawl/services/control/session"
)

const (
	pageSize = 256
	// PageBytes is how much content a page has at most, unless one event has more: a reader that takes nothing holds
	// one. Stores read about as much at a time.
	PageBytes = 64 << 10
	// entryPage is how many of the entries that events refer to are read at a time: they may be large.
	entryPage = 16
)

// Read returns one page of events with seq > after, entries and texts filled in; empty at the head.
func (s *Service) Read(ctx context.Context, sessionID string, after int64) ([]Event, error) {
	events, err := s.log.Events(ctx, sessionID, after, pageSize)
	if err != nil {
		return nil, fmt.Errorf("reading events after %d: %w", after, err)
	}
	return s.fill(ctx, sessionID, events)
}

// fill puts the entries that events refer to into them. It returns the first of the events, as many as a page may
// weigh.
func (s *Service) fill(ctx context.Context, sessionID string, events []Event) ([]Event, error) {
	r := entryReader{log: s.log, last: map[string]int64{}, needed: map[ref]*session.Entry{}, read: map[ref]bool{}}
	for i := range events {
		if at := refOf(&events[i], sessionID); at.seq > 0 {
			r.needed[at] = nil
			r.last[at.conversation] = max(r.last[at.conversation], at.seq)
		}
	}
	weight := 0
	for i := range events {
		e := &events[i]
		if at := refOf(e, sessionID); at.seq > 0 {
			if i > 0 && r.bytes >= PageBytes && !r.read[at] {
				return slices.Clone(events[:i]), nil // what is left out is not held either
			}
			entry, err := r.entry(ctx, at)
			if err != nil {
				return nil, fmt.Errorf("reading the entries of events: %w", err)
			}
			e.put(entry)
		}
		weight += e.Weight()
		if i > 0 && weight > PageBytes {
			return slices.Clone(events[:i]), nil
		}
	}
	return events, nil
}

// ref is an entry that an event refers to.
type ref struct {
	conversation string
	seq          int64 // 0 is none
}

func refOf(e *Event, sessionID string) ref {
	at := ref{sessionID, e.EntrySeq}
	if e.Loop != nil {
		at.conversation = e.Loop.Session
	}
	if e.Settlement != nil {
		at.seq = e.Settlement.EntrySeq
	}
	return at
}

// put fills in the entry that the event refers to; nil for one that is gone.
func (e *Event) put(entry *session.Entry) {
	switch {
	case entry == nil:
	case e.Settlement != nil:
		e.Settlement.Text = entry.Text()
	default:
		e.Entry = entry
	}
}

// entryReader reads the entries that a page of events refers to, some of a conversation at a time.
type entryReader struct {
	log    Log
	last   map[string]int64 // seq of the last entry that is needed, by conversation
	needed map[ref]*session.Entry
	read   map[ref]bool
	bytes  int // of what was read and is needed
}

// entry is one that is needed, nil when it is gone.
func (r *entryReader) entry(ctx context.Context, at ref) (*session.Entry, error) {
	if r.read[at] {
		return r.needed[at], nil
	}
	limit := min(r.last[at.conversation]-at.seq+1, entryPage)
	page, err := r.log.Entries(ctx, at.conversation, at.seq-1, int(limit))
	if err != nil {
		return nil, err
	}
	r.read[at] = true
	for i := range page {
		one := ref{at.conversation, page[i].Seq}
		r.read[one] = true
		if _, ok := r.needed[one]; ok {
			r.needed[one] = &page[i]
			r.bytes += page[i].Message.Weight()
		}
	}
	return r.needed[at], nil
}
