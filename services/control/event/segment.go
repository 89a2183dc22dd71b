package event

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Segment is the events of one commit as stores keep them.
type Segment struct {
	First, Last int64
	Kind        Kind
	Body        []byte // JSON array without seqs
}

// Pack checks and encodes the events that come after a stream's head.
func Pack(head int64, events []Event) (s Segment, err error) {
	if len(events) == 0 {
		return s, errors.New("a commit needs an event")
	}
	for i, e := range events {
		if want := head + int64(i) + 1; e.Seq != want {
			return s, fmt.Errorf("event %d of the commit has seq %d, not %d", i, e.Seq, want)
		}
	}
	s = Segment{First: head + 1, Last: head + int64(len(events)), Kind: KindOf(events)}
	if s.Body, err = json.Marshal(events); err != nil {
		err = fmt.Errorf("encoding events: %w", err)
	}
	return s, err
}

// Unpack decodes the events of a segment.
func (s Segment) Unpack() (events []Event, err error) {
	if err := json.Unmarshal(s.Body, &events); err != nil {
		return nil, fmt.Errorf("decoding events from %d: %w", s.First, err)
	}
	for i := range events {
		events[i].Seq = s.First + int64(i)
	}
	return events, nil
}

// Page collects what a reader gets at once from segments in order.
type Page struct {
	After  int64 // the reader's cursor
	Limit  int
	Events []Event
	// Seen is the last seq that has been looked at. One without events is followed by another page after it: all that
	// is there so far cannot be read.
	Seen int64
}

// Add takes a segment in. One that cannot be decoded is passed over, as one that retention has deleted: whoever follows
// the stream must get to its end.
func (p *Page) Add(s Segment) error {
	p.Seen = s.Last
	events, err := s.Unpack()
	for _, e := range events {
		if e.Seq > p.After && len(p.Events) < p.Limit {
			p.Events = append(p.Events, e)
		}
	}
	return err
}
