package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	insertSegment = sql(`INSERT INTO segments (session_id, first_seq, last_seq, tenant, epoch, kind, body, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	selectSegment = sql(`SELECT last_seq, body FROM segments WHERE session_id = ? AND first_seq = ?`)
	// The segment that holds the first event asked for begins at or before it.
	selectSegments = sql(`SELECT first_seq, body FROM segments WHERE session_id = ?1 AND last_seq > ?2
		AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE session_id = ?1 AND first_seq <= ?2 + 1), 0) ORDER BY first_seq`)
	selectEventHead  = sql(`SELECT event_head FROM lanes WHERE session_id = ?`)
	selectEventFloor = sql(`SELECT event_floor FROM lanes WHERE session_id = ?`)
)

// maxPage is about how many bytes a page of events has at most: a reader that takes nothing holds one.
const maxPage = 256 << 10

// segment is the events of one commit as they are stored.
type segment struct {
	first, last int64
	kind        event.Kind
	body        []byte // JSON array without seqs
}

func (t tx) addSegment(f submission.Fence, tenant string, s segment) error {
	_, err := t.exec(insertSegment, f.SessionID, s.first, s.last, tenant, f.Epoch, int64(s.kind), s.body, t.micros())
	return err
}

// Events implements event.Store.
func (s *Store) Events(
	ctx context.Context, sessionID string, after int64, limit int,
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
		}, sessionID, after)
		if err != nil {
			return err
		}
		// Looked at last: a floor that has not passed the cursor by now had not when the segments were read.
		r, err := c.row(selectEventFloor, sessionID)
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
func (s *Store) EventHeads(ctx context.Context, sessionIDs []string) (map[string]int64, error) {
	heads := make(map[string]int64, len(sessionIDs))
	err := s.read(ctx, func(c *conn) error {
		for _, id := range sessionIDs {
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
