package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/retention"
)

// expireSQL deletes the oldest segments, from the front of their streams: no stream has a hole below its floor that
// readers are not told of. A lane that somebody else is at is left for later, so that it waits for nobody; while it
// holds one, that lane's owner waits.
var expireSQL = onTime(`
WITH o AS MATERIALIZED (SELECT lane_id, last_seq FROM segments WHERE created_at <= {cut} ORDER BY created_at
	LIMIT $3),
held AS MATERIALIZED (SELECT lane_id FROM lanes WHERE lane_id IN (SELECT lane_id FROM o)
	FOR NO KEY UPDATE SKIP LOCKED),
upto AS MATERIALIZED (SELECT lane_id, max(last_seq) AS seq FROM o JOIN held USING (lane_id) GROUP BY lane_id),
f AS MATERIALIZED (SELECT g.* FROM upto CROSS JOIN LATERAL (SELECT lane_id, first_seq, last_seq FROM segments s
  WHERE s.lane_id = upto.lane_id AND s.first_seq <= upto.seq ORDER BY first_seq LIMIT $3) g LIMIT $3),
d AS (DELETE FROM segments g USING f WHERE g.lane_id = f.lane_id AND g.first_seq = f.first_seq RETURNING 1),
u AS (UPDATE lanes l SET event_floor = greatest(l.event_floor, m.floor)
  FROM (SELECT lane_id, max(last_seq) AS floor FROM f GROUP BY lane_id) m WHERE l.lane_id = m.lane_id)
SELECT (SELECT count(*) FROM d), (SELECT count(*) FROM o JOIN held USING (lane_id))`)

// cursorSQL lets one replica at a time compact; the others find nothing to do.
const cursorSQL = `SELECT at, lane_id, seq, below FROM cursors WHERE name = 'compaction' FOR UPDATE SKIP LOCKED`

const saveCursorSQL = `UPDATE cursors SET at = $1, lane_id = $2, seq = $3, below = $4 WHERE name = 'compaction'`

// sinceSQL is the segments that have not been looked at, in order of time.
var sinceSQL = onTime(`SELECT created_at, lane_id, first_seq, kind FROM segments
WHERE created_at >= $4 AND (created_at, lane_id, first_seq) > ($4, $5, $6) AND created_at <= {cut}
ORDER BY created_at, lane_id, first_seq LIMIT $3`)

// belowSQL is the segments below others in their streams, downwards, at most so many for each.
const belowSQL = `SELECT k.ord, g.first_seq, g.kind
	FROM unnest($1::int[], $2::uuid[], $3::bigint[]) AS k(ord, lane_id, below)
CROSS JOIN LATERAL (SELECT first_seq, kind FROM segments s WHERE s.lane_id = k.lane_id AND s.first_seq < k.below
  ORDER BY first_seq DESC LIMIT $4) g ORDER BY k.ord, g.first_seq DESC`

// deleteDeltasSQL leaves alone what is being deleted as too old.
const deleteDeltasSQL = `
WITH o AS MATERIALIZED (SELECT s.lane_id, s.first_seq
	FROM unnest($1::uuid[], $2::bigint[]) AS k(lane_id, first_seq)
  JOIN segments s ON s.lane_id = k.lane_id AND s.first_seq = k.first_seq FOR UPDATE OF s SKIP LOCKED)
DELETE FROM segments g USING o WHERE g.lane_id = o.lane_id AND g.first_seq = o.first_seq`

// atOnce is how many segments below an entry are read together with those below others: most answers have fewer.
const atOnce = 8

// segmentPlace is a segment that compaction looks at, and where it goes on below it, 0 for nowhere.
type segmentPlace struct {
	at     time.Time
	laneID string
	seq    int64
	below  int64
}

// compaction is one batch.
type compaction struct {
	tx     pgx.Tx
	budget retention.Budget
	lanes  []string // of what is to be deleted
	seqs   []int64
}

// compact looks at each segment once, in order of time. Before one with an entry it deletes the deltas that the entry
// covers: downwards in the stream, to the next entry, start or end of a submission.
func (s *Store) compact(ctx context.Context, age time.Duration, limit int) (b retention.Batch, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var last segmentPlace
		err := tx.QueryRow(ctx, cursorSQL).Scan(&last.at, &last.laneID, &last.seq, &last.below)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // another replica is at it
		}
		if err != nil {
			return err
		}
		next, err := since(ctx, tx, last, s.offset(), micros(age), limit)
		if err != nil || len(next) == 0 {
			return err
		}
		c := compaction{tx: tx, budget: retention.NewBudget(limit)}
		got, err := c.cut(ctx, next)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, deleteDeltasSQL, c.lanes, c.seqs)
		if err != nil {
			return err
		}
		b = retention.Batch{Deleted: int(tag.RowsAffected()), More: len(next) >= limit || c.budget.Spent()}
		_, err = tx.Exec(ctx, saveCursorSQL, got.at, got.laneID, got.seq, got.below)
		return err
	})
	return b, err
}

// since is the segments to look at, with the last one before them if that is not done with.
func since(
	ctx context.Context, tx pgx.Tx, last segmentPlace, offset, age int64, limit int,
) (next []segmentPlace, err error) {
	if last.below > 0 {
		next = append(next, last)
	}
	rows, err := tx.Query(ctx, sinceSQL, offset, age, limit, last.at, last.laneID, last.seq)
	if err != nil {
		return nil, err
	}
	var p segmentPlace
	var kind int16
	_, err = pgx.ForEachRow(rows, []any{&p.at, &p.laneID, &p.seq, &kind}, func() error {
		if p.below = 0; event.Kind(kind) == event.Covers {
			p.below = p.seq
		}
		next = append(next, p)
		return nil
	})
	return next, err
}

// cut collects the deltas below the segments, as many as the budget allows. It returns how far it got.
func (c *compaction) cut(ctx context.Context, next []segmentPlace) (got segmentPlace, err error) {
	below, err := c.below(ctx, next, atOnce)
	if err != nil {
		return got, err
	}
	for i := range next {
		got = next[i]
		for found, asked := below[i], atOnce; got.below > 0; {
			if c.take(&got, found, asked); got.below == 0 || c.budget.Spent() {
				break
			}
			asked = c.budget.Rows
			again, err := c.below(ctx, []segmentPlace{got}, asked)
			if err != nil {
				return got, err
			}
			found = again[0]
		}
		if c.budget.Spent() {
			break
		}
	}
	return got, nil
}

// neighbour is a segment below another one.
type neighbour struct {
	seq  int64
	kind event.Kind
}

// take collects the deltas of what was found below p, of which so many were asked for, and moves p down.
func (c *compaction) take(p *segmentPlace, found []neighbour, asked int) {
	for _, n := range found {
		if n.kind >= event.Covers {
			p.below = 0
			return
		}
		if n.kind == event.Deltas {
			c.lanes, c.seqs = append(c.lanes, p.laneID), append(c.seqs, n.seq)
		}
		p.below = n.seq
		if c.budget.Spend(0); c.budget.Spent() {
			return
		}
	}
	if len(found) < asked {
		p.below = 0
	}
}

// below reads what is below the segments that cover something, by their index, at most limit for each.
func (c *compaction) below(ctx context.Context, of []segmentPlace, limit int) (map[int][]neighbour, error) {
	var ords []int32
	var lanes []string
	var seqs []int64
	for i, p := range of {
		if p.below > 0 {
			ords, lanes, seqs = append(ords, int32(i)), append(lanes, p.laneID), append(seqs, p.below)
		}
	}
	found := make(map[int][]neighbour, len(ords))
	if len(ords) == 0 {
		return found, nil
	}
	rows, err := c.tx.Query(ctx, belowSQL, ords, lanes, seqs, limit)
	if err != nil {
		return nil, err
	}
	var ord int
	var seq int64
	var kind int16
	_, err = pgx.ForEachRow(rows, []any{&ord, &seq, &kind}, func() error {
		found[ord] = append(found[ord], neighbour{seq, event.Kind(kind)})
		return nil
	})
	return found, err
}
