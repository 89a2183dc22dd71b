package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/event"
)

// encodeEvents packs events to a segment's body.
func encodeEvents(events []event.Event) []byte {
	b, err := json.Marshal(events)
	if err != nil {
		// An event is plain data; only a time beyond the year 9999 could do this.
		panic(fmt.Sprintf("an event cannot be marshalled: %v", err))
	}
	return b
}

// eventsSQL starts with the segment that holds the seq after the cursor, or the next one that exists, and ends where limit or the
// size of a page is reached. The floor is of the same snapshot.
const eventsSQL = `
SELECT l.event_floor, g.first_seq, g.body FROM lanes l LEFT JOIN LATERAL (
  SELECT first_seq, body,
    sum(last_seq - greatest(first_seq - 1, $2)) OVER w - (last_seq - greatest(first_seq - 1, $2)) AS events_before,
    sum(octet_length(body)) OVER w - octet_length(body) AS bytes_before
  FROM (SELECT first_seq, last_seq, body FROM segments WHERE session_id = $1 AND last_seq > $2
    AND first_seq >= COALESCE((SELECT first_seq FROM segments WHERE session_id = $1 AND first_seq <= $2 + 1 ORDER BY first_seq DESC LIMIT 1), 0)
    ORDER BY first_seq LIMIT $3) s
  WINDOW w AS (ORDER BY first_seq ROWS UNBOUNDED PRECEDING)
) g ON g.events_before < $3 AND g.bytes_before < $4
WHERE l.session_id = $1 ORDER BY g.first_seq`

// maxPage is about how many bytes a page of events has at most: a reader that takes nothing holds one.
const maxPage = 256 << 10

// Events implements event.Store.
func (s *Store) Events(ctx context.Context, sessionID string, after int64, limit int) (events []event.Event, err error) {
	if !isID(sessionID) || limit <= 0 {
		return nil, nil
	}
	after = max(after, 0)
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		events = make([]event.Event, 0, min(limit, 256))
		rows, err := s.pool.Query(ctx, eventsSQL, sessionID, after, int64(limit), int64(maxPage))
		if err != nil {
			return err
		}
		var floor int64
		var at *int64
		var body []byte
		_, err = pgx.ForEachRow(rows, []any{&floor, &at, &body}, func() error {
			if floor > after {
				return event.TooOld(after, floor)
			}
			if at == nil {
				return nil // nothing after the cursor
			}
			first := *at
			var segment []event.Event
			if err := json.Unmarshal(body, &segment); err != nil {
				return fmt.Errorf("segment %d: %w", first, err)
			}
			for i, e := range segment {
				if e.Seq = first + int64(i); e.Seq > after && len(events) < limit {
					events = append(events, e)
				}
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, wrap("read events", err)
	}
	return events, nil
}

// expireSQL deletes the oldest segments, and what is before them in their streams. A lane that somebody else is at is left for later,
// so that it waits for nobody; while it holds one, that lane's owner waits.
const expireSQL = `
WITH old AS MATERIALIZED (SELECT session_id, last_seq FROM (VALUES (0::smallint), (1), (2), (3)) AS k(kind) CROSS JOIN LATERAL (
    SELECT session_id, last_seq, created_at FROM segments g
    WHERE g.kind = k.kind AND g.created_at < (SELECT clock_timestamp() + ($1::bigint - $2::bigint) * interval '1 microsecond') ORDER BY g.created_at LIMIT $3) g
  ORDER BY created_at LIMIT $3),
held AS MATERIALIZED (SELECT session_id FROM lanes WHERE session_id IN (SELECT session_id FROM old) FOR NO KEY UPDATE SKIP LOCKED),
cut AS MATERIALIZED (SELECT session_id, max(last_seq) AS upto FROM old JOIN held USING (session_id) GROUP BY session_id),
d AS (DELETE FROM segments g USING cut WHERE g.session_id = cut.session_id AND g.first_seq <= cut.upto RETURNING 1),
u AS (UPDATE lanes l SET event_floor = greatest(l.event_floor, cut.upto) FROM cut WHERE l.session_id = cut.session_id)
SELECT count(*) FROM d`

// compactSQL deletes segments of deltas that an entry follows in their submission.
const compactSQL = `
WITH old AS MATERIALIZED (SELECT session_id, first_seq FROM segments g
  WHERE g.kind = 1 AND g.created_at < (SELECT clock_timestamp() + ($1::bigint - $2::bigint) * interval '1 microsecond')
    AND (SELECT n.kind FROM segments n WHERE n.session_id = g.session_id AND n.first_seq > g.first_seq AND n.kind >= 2
      ORDER BY n.first_seq LIMIT 1) = 2
  ORDER BY g.created_at LIMIT $3 FOR UPDATE SKIP LOCKED),
d AS (DELETE FROM segments g USING old WHERE g.session_id = old.session_id AND g.first_seq = old.first_seq RETURNING 1)
SELECT count(*) FROM d`

// ExpireEvents implements event.Store.
func (s *Store) ExpireEvents(ctx context.Context, age time.Duration, limit int) (int, error) {
	n, err := s.thin(ctx, expireSQL, age, limit)
	return n, wrap("expire events", err)
}

// CompactEvents implements event.Store.
func (s *Store) CompactEvents(ctx context.Context, age time.Duration, limit int) (int, error) {
	n, err := s.thin(ctx, compactSQL, age, limit)
	return n, wrap("compact events", err)
}

func (s *Store) thin(ctx context.Context, sql string, age time.Duration, limit int) (n int, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		return s.pool.QueryRow(ctx, sql, s.offset(), micros(age), limit).Scan(&n)
	})
	return n, err
}

// EventHeads implements event.Store.
func (s *Store) EventHeads(ctx context.Context, sessionIDs []string) (heads map[string]int64, err error) {
	ids := validIDs(sessionIDs)
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		heads = make(map[string]int64, len(ids))
		rows, err := s.pool.Query(ctx, `SELECT session_id, event_head FROM lanes WHERE session_id = ANY($1::uuid[])`, ids)
		if err != nil {
			return err
		}
		var id string
		var head int64
		_, err = pgx.ForEachRow(rows, []any{&id, &head}, func() error {
			heads[id] = head
			return nil
		})
		return err
	})
	return heads, wrap("read event heads", err)
}
