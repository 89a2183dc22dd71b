package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// callColumns are those of a call and the time, which is $1.
const callColumns = rows.CallColumns + `, $1::timestamptz`

// completeSQL lets the first terminal state win. A reply that comes after lost is kept beside it, the first one.
const completeSQL = `
UPDATE tool_calls SET
  state      = CASE WHEN state < 2 THEN $3 ELSE state END,
  reply      = CASE WHEN state < 2 THEN $4 ELSE reply END,
  late_reply = CASE WHEN state = 3 THEN $4 ELSE late_reply END,
  leaves     = $5,
  done_at    = CASE WHEN state < 2 THEN $1::timestamptz ELSE done_at END
WHERE call_id = $2 AND (state < 2 OR (state = 3 AND $3 <> 3 AND late_reply IS NULL AND $4::bytea IS NOT NULL))
RETURNING ` + callColumns

// CompleteCall implements call.Store.
func (s *Store) CompleteCall(ctx context.Context, o call.Outcome) (got call.Call, err error) {
	if !isOutcome(o.State) {
		return got, wrap("complete call", errNoOutcome)
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		found, err := s.pool.Query(ctx, completeSQL, s.now(), o.CallID, int16(o.State), o.Reply, o.Leaves)
		if err != nil {
			return err
		}
		calls, err := pgx.CollectRows(found, neutral)
		if err == nil && len(calls) > 0 {
			got, err = rows.CallNow(calls[0])
		}
		return err
	})
	if err == nil && got.ID == "" {
		return s.GetCall(ctx, o.CallID)
	}
	return got, wrap("complete call", err)
}

// unendedSQL goes over the tree of loops, whose calls are found by loop.
const unendedSQL = `
WITH c AS MATERIALIZED (SELECT * FROM tool_calls WHERE submission_id IN (SELECT $1::uuid UNION ALL
    SELECT l.submission_id FROM submissions l WHERE l.root_id = $1::uuid AND l.parent_call IS NOT NULL)
  AND (leaves OR state = 3 AND late_reply IS NULL))
SELECT call_id, tool, kind, executor, state, submission_id, leaves, (SELECT count(*) FROM c)
FROM c ORDER BY created_at, call_id LIMIT $2`

// Unended implements call.Store.
func (s *Store) Unended(ctx context.Context, loopID string) (found call.Unended, err error) {
	if !isID(loopID) {
		return found, nil
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		found = call.Unended{}
		result, err := s.pool.Query(ctx, unendedSQL, loopID, call.MaxNamed)
		if err != nil {
			return err
		}
		var c call.Call
		var kind, state int16
		_, err = pgx.ForEachRow(result, []any{
			&c.ID, &c.Tool, &kind, &c.Executor, &state, &c.LoopID, &c.Leaves, &found.Total,
		}, func() error {
			c.Kind, c.State = uint8(kind), call.State(state)
			found.Calls = append(found.Calls, c)
			return nil
		})
		return err
	})
	return found, wrap("read calls of which something may run", err)
}
