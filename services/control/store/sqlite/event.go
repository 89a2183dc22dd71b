package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/event"
)

var (
	insertSegment = sql(`INSERT INTO segments (lane_id, first_seq, last_seq, tenant, epoch, commit_id, kind, body,
		created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	// The segment that holds the first event asked for begins at or before it.
	selectSegments = sql(`SELECT first_seq, body FROM segments WHERE lane_id = ?1 AND last_seq > ?2
		AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE lane_id = ?1 AND first_seq <= ?2 + 1), 0)
		ORDER BY first_seq`)
	selectEventHead  = sql(`SELECT event_head FROM lanes WHERE lane_id = ?`)
	selectEventFloor = sql(`SELECT event_floor FROM lanes WHERE lane_id = ?`)
)

// maxPage is about how many bytes a page of events has at most: a reader that takes nothing holds one.
const maxPage = 256 << 10

// segment is the events of one commit as they are stored.
type segment struct {
	first, last int64
	commitID    []byte
	kind        event.Kind
	body        []byte // JSON array without seqs
}

// encodeSegment checks and encodes the events that come after a stream's head.
func encodeSegment(head int64, commitID []byte, events []event.Event) (seg segment, err error) {
	if len(events) == 0 {
		return seg, errors.New("a commit needs an event")
	}
	for i, e := range events {
		if want := head + int64(i) + 1; e.Seq != want {
			return seg, fmt.Errorf("event %d of the commit has seq %d, not %d", i, e.Seq, want)
		}
	}
	seg = segment{first: head + 1, last: head + int64(len(events)), commitID: commitID, kind: event.KindOf(events)}
	if seg.body, err = json.Marshal(events); err != nil {
		err = fmt.Errorf("encoding events: %w", err)
	}
	return seg, err
}

func (t tx) addSegment(l *laneRow, s segment) error {
	_, err := t.exec(insertSegment, l.id, s.first, s.last, l.tenant, l.epoch, s.commitID, int64(s.kind), s.body,
		t.micros())
	return err
}

// Events implements event.Store.
func (s *Store) Events(
	ctx context.Context, laneID string, after int64, limit int,
) (events []event.Event, err error) {
	if limit <= 0 {
		return nil, nil
	}
	err = s.read(ctx, func(c *conn) error {
		bytes := 0
		err := c.rows(selectSegments, func(r row) (bool, error) {
			var packed []event.Event
			if err := json.Unmarshal(r.blob(1), &packed); err != nil {
				return false, fmt.Errorf("decoding events from %d: %w", r.int(0), err)
			}
			for i, e := range packed {
				e.Seq = r.int(0) + int64(i)
				if e.Seq > after && len(events) < limit {
					events = append(events, e)
				}
			}
			bytes += len(r.blob(1))
			return len(events) < limit && bytes < maxPage, nil
		}, laneID, after)
		if err != nil {
			return err
		}
		// Looked at last: a floor that has not passed the cursor by now had not when the segments were read.
		r, err := c.row(selectEventFloor, laneID)
		if err == nil && r != nil && r.int(0) > max(after, 0) {
			return event.TooOld(after, r.int(0))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return events, nil
}

// EventHeads implements event.Store.
func (s *Store) EventHeads(ctx context.Context, laneIDs []string) (map[string]int64, error) {
	heads := make(map[string]int64, len(laneIDs))
	err := s.read(ctx, func(c *conn) error {
		for _, id := range laneIDs {
			r, err := c.row(selectEventHead, id)
			if err != nil {
				return err
			}
			if r != nil {
				heads[id] = r.int(0)
			}
		}
		return nil
	})
	return heads, err
}
