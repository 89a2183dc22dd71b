package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
)

// eventsSQL starts with the segment that holds the seq after the cursor, or the next one that exists, and ends where
// limit or the size of a page is reached. The floor is of the same snapshot. Where it starts is a sub-select as a
// whole: under row-level security an index is searched for values only.
const eventsSQL = `
SELECT l.event_floor, g.first_seq, g.last_seq, g.body FROM lanes l LEFT JOIN LATERAL (
  SELECT first_seq, last_seq, body,
    sum(last_seq - greatest(first_seq - 1, $2)) OVER w - (last_seq - greatest(first_seq - 1, $2)) AS events_before,
    sum(octet_length(body)) OVER w - octet_length(body) AS bytes_before
  FROM (SELECT first_seq, last_seq, body FROM segments WHERE lane_id = $1 AND last_seq > $2
    AND first_seq >= (SELECT COALESCE((SELECT first_seq FROM segments WHERE lane_id = $1 AND first_seq <= $2 + 1
      ORDER BY first_seq DESC LIMIT 1), 0))
    ORDER BY first_seq LIMIT $3) s
  WINDOW w AS (ORDER BY first_seq ROWS UNBOUNDED PRECEDING)
) g ON g.events_before < $3 AND g.bytes_before < $4
WHERE l.lane_id = $1 ORDER BY g.first_seq`

// Events implements event.Store.
func (s *Store) Events(ctx context.Context, laneID string, after int64, limit int) ([]event.Event, error) {
	if !isID(laneID) || limit <= 0 {
		return nil, nil
	}
	var p event.Page
	after = max(after, 0)
	err := s.retry(ctx, func(ctx context.Context, _ bool) error {
		p = event.Page{After: after, Limit: limit}
		for seen := int64(-1); len(p.Events) == 0 && p.Seen != seen; {
			seen = p.Seen
			if err := s.page(ctx, &p, laneID, max(after, seen)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, wrap("read events", err)
	}
	return p.Events, nil
}

// page reads the segments after a seq, about as many as a page holds.
func (s *Store) page(ctx context.Context, p *event.Page, laneID string, after int64) error {
	var floor int64
	var first, last *int64
	var body []byte
	there := false
	add := func() error {
		there = true
		switch {
		case floor > after:
			return event.TooOld(p.After, floor)
		case first == nil: // nothing after the cursor
			return nil
		}
		if err := p.Add(event.Segment{First: *first, Last: *last, Body: body}); err != nil {
			s.Damaged(fmt.Errorf("lane %s: %w", laneID, err))
		}
		return nil
	}
	err := s.ask(ctx, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&floor, &first, &last, &body}, add)
		return err
	}, eventsSQL, laneID, after, int64(p.Limit), int64(event.PageBytes))
	if err == nil && !there {
		return session.ErrNotFound
	}
	return err
}
