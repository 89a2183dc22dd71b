package sqlite

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
)

var (
	insertSegment = sql(`INSERT INTO segments (lane_id, first_seq, last_seq, tenant, epoch, commit_id, kind, body,
		created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	// The segment that holds the first event asked for begins at or before it.
	selectSegments = sql(`SELECT first_seq, last_seq, body FROM segments WHERE lane_id = ?1 AND last_seq > ?2
		AND first_seq >= coalesce((SELECT max(first_seq) FROM segments WHERE lane_id = ?1 AND first_seq <= ?2 + 1), 0)
		ORDER BY first_seq`)
	selectEventFloor = sql(`SELECT event_floor FROM lanes WHERE lane_id = ?`)
)

func (t tx) addSegment(l *laneRow, commitID []byte, s event.Segment) error {
	_, err := t.exec(insertSegment, l.id, s.First, s.Last, l.tenant, l.epoch, commitID, int64(s.Kind), s.Body, t.micros())
	return err
}

// Events implements event.Store.
func (s *Store) Events(ctx context.Context, laneID string, after int64, limit int) ([]event.Event, error) {
	if limit <= 0 {
		return nil, nil
	}
	p := event.Page{After: after, Limit: limit}
	err := s.read(ctx, func(c *conn) error {
		for seen := int64(-1); len(p.Events) == 0 && p.Seen != seen; {
			seen = p.Seen
			if err := s.page(c, &p, laneID, max(after, seen)); err != nil {
				return err
			}
		}
		// Looked at last: a floor that has not passed the cursor by now had not when the segments were read.
		r, err := c.row(selectEventFloor, laneID)
		switch {
		case err != nil:
			return err
		case r == nil:
			return session.ErrNotFound
		case r.int(0) > max(after, 0):
			return event.TooOld(after, r.int(0))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p.Events, nil
}

// page reads the segments after a seq, about as many as a page holds.
func (s *Store) page(c *conn, p *event.Page, laneID string, after int64) error {
	bytes := 0
	return c.rows(selectSegments, func(r row) (bool, error) {
		g := event.Segment{First: r.int(0), Last: r.int(1), Body: r.blob(2)}
		if err := p.Add(g); err != nil {
			s.Damaged(fmt.Errorf("lane %s: %w", laneID, err))
		}
		bytes += len(g.Body)
		return len(p.Events) < p.Limit && bytes < event.PageBytes, nil
	}, laneID, after)
}
