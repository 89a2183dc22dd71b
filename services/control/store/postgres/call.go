package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// callColumnsSQL of tool_calls, as scanned by scanCall. $1 is the time.
const callColumnsSQL = `call_id, lane_id, submission_id, turn, idx, kind, entry_seq, provider_id, tool, safety,
  args_hash, executor, dispatch, journal_id, state, reply, late_reply, leaves, shown_stdout, shown_stderr, created_at,
  done_at,
  (extract(epoch FROM $1::timestamptz - created_at) * 1e6)::bigint,
  (extract(epoch FROM $1::timestamptz - dispatched_at) * 1e6)::bigint`

// completeSQL lets the first terminal state win. A reply that comes after lost is kept beside it, the first one.
const completeSQL = `
UPDATE tool_calls SET
  state      = CASE WHEN state < 2 THEN $3 ELSE state END,
  reply      = CASE WHEN state < 2 THEN $4 ELSE reply END,
  late_reply = CASE WHEN state = 3 THEN $4 ELSE late_reply END,
  leaves     = $5,
  done_at    = CASE WHEN state < 2 THEN $1::timestamptz ELSE done_at END
WHERE call_id = $2 AND (state < 2 OR (state = 3 AND $3 <> 3 AND late_reply IS NULL AND $4::bytea IS NOT NULL))
RETURNING ` + callColumnsSQL

// CompleteCall implements call.Store.
func (s *Store) CompleteCall(ctx context.Context, o call.Outcome) (got call.Call, err error) {
	if !isOutcome(o.State) {
		return got, wrap("complete call", errNoOutcome)
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err := s.calls(ctx, completeSQL, o.CallID, int16(o.State), o.Reply, o.Leaves)
		if err == nil && len(calls) == 0 {
			got, err = s.getCall(ctx, o.CallID)
			return err
		}
		if err == nil {
			got = calls[0]
		}
		return err
	})
	return got, wrap("complete call", err)
}

// GetCall implements call.Store.
func (s *Store) GetCall(ctx context.Context, id string) (got call.Call, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		got, err = s.getCall(ctx, id)
		return err
	})
	return got, wrap("get call", err)
}

// TurnCalls implements call.Store.
func (s *Store) TurnCalls(ctx context.Context, loopID string, turn int) (calls []call.Call, err error) {
	if !isID(loopID) {
		return nil, nil
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err = s.calls(ctx, selectCalls+`WHERE submission_id = $2 AND turn = $3 ORDER BY idx`, loopID, turn)
		return err
	})
	return calls, wrap("read the turn's calls", err)
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
		rows, err := s.pool.Query(ctx, unendedSQL, loopID, call.MaxNamed)
		if err != nil {
			return err
		}
		var c call.Call
		var kind, state int16
		_, err = pgx.ForEachRow(rows, []any{
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

// DispatchedCalls implements call.Store.
func (s *Store) DispatchedCalls(ctx context.Context, executor string) (calls []call.Call, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err = s.calls(ctx, selectCalls+`WHERE executor = $2 AND state = 1
			ORDER BY dispatched_at, call_id`, executor)
		return err
	})
	return calls, wrap("read dispatched calls", err)
}

func (s *Store) getCall(ctx context.Context, id string) (call.Call, error) {
	calls, err := s.calls(ctx, selectCalls+`WHERE call_id = $2`, id)
	if err != nil {
		return call.Call{}, err
	}
	if len(calls) == 0 {
		return call.Call{}, call.ErrNotFound
	}
	return calls[0], nil
}

const selectCalls = `SELECT ` + callColumnsSQL + ` FROM tool_calls `

// calls runs a statement that returns callColumnsSQL, whose other parameters start at $2.
func (s *Store) calls(ctx context.Context, sql string, args ...any) ([]call.Call, error) {
	rows, err := s.pool.Query(ctx, sql, append([]any{s.now()}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanCall)
}

func scanCall(row pgx.CollectableRow) (c call.Call, err error) {
	var kind, safety, state int16
	var done *time.Time
	var age, since *int64
	err = row.Scan(&c.ID, &c.LaneID, &c.LoopID, &c.Turn, &c.Index, &kind, &c.EntrySeq, &c.ProviderID, &c.Tool, &safety,
		&c.ArgsHash, &c.Executor, &c.Dispatch, &c.Journal, &state, &c.Reply, &c.LateReply, &c.Leaves, &c.Shown[0], &c.Shown[1],
		&c.CreatedAt, &done, &age, &since)
	c.Kind, c.Safety, c.State, c.DoneAt = uint8(kind), tool.Safety(safety), call.State(state), value(done)
	c.Age[0], c.Age[1] = time.Duration(value(age))*time.Microsecond, time.Duration(value(since))*time.Microsecond
	return c, err
}
