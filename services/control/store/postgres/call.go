package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const callColumnsSQL = `call_id, session_id, submission_seq, turn, idx, entry_seq, provider_id, tool, safety, args_hash, executor,
  dispatch, state, reply, late_reply, created_at, dispatched_at, done_at, journal_id`

// completeSQL lets the first terminal state win. A reply that comes after lost is kept beside it, the first one.
const completeSQL = `
UPDATE tool_calls SET
  state      = CASE WHEN state < 2 THEN $2 ELSE state END,
  reply      = CASE WHEN state < 2 THEN $3 ELSE reply END,
  late_reply = CASE WHEN state = 3 THEN $3 ELSE late_reply END,
  done_at    = CASE WHEN state < 2 THEN clock_timestamp() + $4::bigint * interval '1 microsecond' ELSE done_at END
WHERE call_id = $1 AND (state < 2 OR (state = 3 AND $2 <> 3 AND late_reply IS NULL AND $3::bytea IS NOT NULL))
RETURNING ` + callColumnsSQL

// CompleteCall implements call.Store.
func (s *Store) CompleteCall(ctx context.Context, o call.Outcome) (got call.Call, err error) {
	if !isOutcome(o.State) {
		return got, wrap("complete call", errNoOutcome)
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err := s.calls(ctx, completeSQL, o.CallID, int16(o.State), o.Reply, s.offset())
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
func (s *Store) TurnCalls(
	ctx context.Context, sessionID string, submissionSeq int64, turn int,
) (calls []call.Call, err error) {
	if !isID(sessionID) {
		return nil, nil
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err = s.calls(ctx, `SELECT `+callColumnsSQL+` FROM tool_calls
			WHERE session_id = $1 AND submission_seq = $2 AND turn = $3 ORDER BY idx`, sessionID, submissionSeq, turn)
		return err
	})
	return calls, wrap("read the turn's calls", err)
}

// LostCalls implements call.Store.
func (s *Store) LostCalls(ctx context.Context, sessionID string, submissionSeq int64) (calls []call.Call, err error) {
	if !isID(sessionID) {
		return nil, nil
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err = s.calls(ctx, `SELECT `+callColumnsSQL+` FROM tool_calls
			WHERE session_id = $1 AND submission_seq = $2 AND state = 3 AND late_reply IS NULL ORDER BY turn, idx`, sessionID, submissionSeq)
		return err
	})
	return calls, wrap("read lost calls", err)
}

// DispatchedCalls implements call.Store.
func (s *Store) DispatchedCalls(ctx context.Context, executor string) (calls []call.Call, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		calls, err = s.calls(ctx, `SELECT `+callColumnsSQL+` FROM tool_calls
			WHERE executor = $1 AND state = 1 ORDER BY dispatched_at, call_id`, executor)
		return err
	})
	return calls, wrap("read dispatched calls", err)
}

func (s *Store) getCall(ctx context.Context, id string) (call.Call, error) {
	calls, err := s.calls(ctx, `SELECT `+callColumnsSQL+` FROM tool_calls WHERE call_id = $1`, id)
	if err != nil {
		return call.Call{}, err
	}
	if len(calls) == 0 {
		return call.Call{}, call.ErrNotFound
	}
	return calls[0], nil
}

// calls runs a statement that returns callColumnsSQL.
func (s *Store) calls(ctx context.Context, sql string, args ...any) ([]call.Call, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanCall)
}

func scanCall(row pgx.CollectableRow) (c call.Call, err error) {
	var safety, state int16
	var dispatched, done *time.Time
	err = row.Scan(&c.ID, &c.SessionID, &c.SubmissionSeq, &c.Turn, &c.Index, &c.EntrySeq, &c.ProviderID, &c.Tool,
		&safety, &c.ArgsHash,
		&c.Executor, &c.Dispatch, &state, &c.Reply, &c.LateReply, &c.CreatedAt, &dispatched, &done, &c.Journal)
	c.Safety, c.State, c.DispatchedAt, c.DoneAt = tool.Safety(safety), call.State(state), value(dispatched), value(done)
	return c, err
}
