package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/lane"
)

// Post implements lane.Store.
func (s *Store) Post(ctx context.Context, laneIDs ...string) error {
	ids := validIDs(laneIDs)
	if len(ids) == 0 {
		return nil
	}
	return wrap("post mail", s.retry(ctx, func(ctx context.Context, _ bool) error {
		_, err := s.pool.Exec(ctx, `INSERT INTO wakes (lane_id) SELECT unnest($1::uuid[])`, ids)
		return err
	}))
}

// mailPage is how many wakes a statement moves.
const mailPage = 1000

// moveMailSQL moves a page of wakes, of ids after $2 and at most $3; NULL is the last one that there is. It waits for
// nobody: lanes that are locked keep theirs, and pages by id get past them. Wakes of lanes that are gone are dropped. A
// run that waits for its concurrency key is woken by that alone: the wake is of the transaction that lets it pass.
const moveMailSQL = `
WITH m AS MATERIALIZED (SELECT COALESCE($3::bigint, (SELECT id FROM wakes ORDER BY id DESC LIMIT 1), 0) AS upto),
w AS MATERIALIZED (SELECT id, lane_id FROM wakes WHERE id > $2 AND id <= (SELECT upto FROM m)
  ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED),
k AS MATERIALIZED (SELECT x.lane_id, w.n
  FROM (SELECT lane_id, count(*) AS n FROM w GROUP BY lane_id ORDER BY lane_id) w JOIN lanes x ON x.lane_id = w.lane_id
  ORDER BY x.lane_id FOR NO KEY UPDATE OF x SKIP LOCKED),
d AS (DELETE FROM wakes g USING w WHERE g.id = w.id AND (w.lane_id IN (SELECT lane_id FROM k)
  OR NOT EXISTS (SELECT 1 FROM lanes l WHERE l.lane_id = w.lane_id))),
u AS (UPDATE lanes x SET mail = x.mail + k.n,
    due_at = CASE WHEN x.state <> 1 OR x.kind = 2
      AND EXISTS (SELECT 1 FROM runs r WHERE r.run_id = x.lane_id AND r.blocked)
      THEN x.due_at ELSE least(x.due_at, $4::timestamptz) END
  FROM k WHERE x.lane_id = k.lane_id RETURNING x.lane_id, x.owner)
SELECT m.upto, (SELECT count(*) FROM w), COALESCE((SELECT max(id) FROM w), 0), u.lane_id, COALESCE(u.owner::text, '')
FROM m LEFT JOIN u ON true`

// mailPlace is how far a mover has got.
type mailPlace struct {
	after int64
	upto  *int64 // the last wake that it moves
	moved int    // by the last page
}

// MoveMail implements lane.Store. What is posted meanwhile is for the next call.
func (s *Store) MoveMail(ctx context.Context) (all []lane.Mailed, err error) {
	cancelled := wrap("cancel runs", s.carryOut(ctx))
	for at := (mailPlace{moved: mailPage}); at.moved == mailPage; {
		var page []lane.Mailed
		err := s.retry(ctx, func(ctx context.Context, _ bool) error {
			page = nil
			return s.moveMail(ctx, &at, &page)
		})
		if err != nil {
			return all, errors.Join(cancelled, wrap("move mail", err))
		}
		all = append(all, page...)
	}
	return all, cancelled
}

func (s *Store) moveMail(ctx context.Context, at *mailPlace, page *[]lane.Mailed) error {
	rows, err := s.pool.Query(ctx, moveMailSQL, mailPage, at.after, at.upto, s.now())
	if err != nil {
		return err
	}
	var next mailPlace
	var laneID *string
	var m lane.Mailed
	_, err = pgx.ForEachRow(rows, []any{&next.upto, &next.moved, &next.after, &laneID, &m.Owner}, func() error {
		if laneID != nil {
			m.LaneID = *laneID
			*page = append(*page, m)
		}
		return nil
	})
	if err == nil {
		*at = next
	}
	return err
}
