package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
)

// grantSQL dispatches calls while it holds the executor's row, so that no newer connection begins before it ends. Calls
// are locked in order of their ids, as commits do.
const grantSQL = `
WITH e AS MATERIALIZED (SELECT executor_id FROM executors WHERE executor_id = $1 AND connection_epoch = $2 FOR SHARE),
k AS MATERIALIZED (SELECT c.call_id FROM e
  JOIN tool_calls c ON c.call_id = ANY($3::text[]) AND c.executor = e.executor_id
  WHERE c.state + 0 = 0 ORDER BY c.call_id FOR NO KEY UPDATE OF c)
UPDATE tool_calls c SET state = 1, dispatch = c.dispatch + 1, journal_id = $4,
  dispatched_at = $5::timestamptz
FROM k WHERE c.call_id = k.call_id RETURNING c.call_id, c.lane_id, c.dispatch`

// grantedSQL is what a grant whose answer was lost has dispatched.
const grantedSQL = `
SELECT c.call_id, c.lane_id, c.dispatch FROM executors e JOIN tool_calls c ON c.call_id = ANY($3::text[])
  AND c.executor = e.executor_id AND c.state + 0 = 1 AND c.journal_id = $4
WHERE e.executor_id = $1 AND e.connection_epoch = $2`

// Grant implements call.Store.
func (s *Store) Grant(ctx context.Context, g call.Grant) (granted []call.Granted, err error) {
	err = s.retry(ctx, func(ctx context.Context, again bool) error {
		granted = nil
		collect := func(rows pgx.Rows) error {
			some, err := pgx.CollectRows(rows, pgx.RowToStructByPos[call.Granted])
			granted = append(granted, some...)
			return err
		}
		batch := &pgx.Batch{}
		if again {
			batch.Queue(grantedSQL, g.Executor, g.ConnectionEpoch, g.CallIDs, g.Journal).Query(collect)
		}
		batch.Queue(grantSQL, g.Executor, g.ConnectionEpoch, g.CallIDs, g.Journal, s.now()).Query(collect)
		return s.send(ctx, batch)
	})
	return granted, wrap("grant calls", err)
}
