package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tool"
)

const callColumns = `SELECT call_id, session_id, submission_seq, turn, idx, entry_seq, provider_id, tool, safety, args_hash, executor, dispatch,
	state, reply, late_reply, created_at, dispatched_at, done_at, journal_id FROM tool_calls `

var (
	insertCall = sql(`INSERT INTO tool_calls (call_id, tenant, session_id, submission_seq, turn, idx, entry_seq, provider_id, tool, safety, args_hash,
		executor, dispatch, state, reply, created_at, dispatched_at, done_at, journal_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	markCalls    = sql(`UPDATE submissions SET has_calls = 1 WHERE session_id = ? AND seq = ? AND has_calls = 0`)
	dispatchCall = sql(`UPDATE tool_calls SET executor = ?1, dispatch = ?2, state = 1, dispatched_at = ?3, journal_id = ?6
		WHERE call_id = ?4 AND session_id = ?5 AND state <= 1 AND dispatch < ?2`)
	completeCall = sql(`UPDATE tool_calls SET state = ?, reply = ?, done_at = ? WHERE call_id = ? AND state <= 1`)
	keepLate     = sql(`UPDATE tool_calls SET late_reply = ? WHERE call_id = ? AND state = 3 AND late_reply IS NULL`)
	// The turn whose replies the entries hold is the one before the commit moves the submission on.
	forgetReplies = sql(`UPDATE tool_calls SET reply = NULL WHERE session_id = ?1 AND submission_seq = ?2
		AND turn = (SELECT turn FROM submissions WHERE session_id = ?1 AND seq = ?2)`)
	selectCall       = sql(callColumns + `WHERE call_id = ?`)
	selectTurn       = sql(callColumns + `WHERE session_id = ? AND submission_seq = ? AND turn = ? ORDER BY idx`)
	selectLost       = sql(callColumns + `WHERE session_id = ? AND submission_seq = ? AND state = 3 AND late_reply IS NULL ORDER BY turn, idx`)
	selectDispatched = sql(callColumns + `WHERE executor = ? AND state = 1 ORDER BY dispatched_at, call_id`)
)

func (r row) call() call.Call {
	return call.Call{
		ID: r.text(0), SessionID: r.text(1), SubmissionSeq: r.int(2), Turn: int(r.int(3)), Index: int(r.int(4)), EntrySeq: r.int(5),
		ProviderID: r.text(6), Tool: r.text(7), Safety: tool.Safety(r.int(8)), ArgsHash: r.blob(9), Executor: r.text(10),
		Dispatch: int(r.int(11)), State: call.State(r.int(12)), Reply: r.blob(13), LateReply: r.blob(14), CreatedAt: r.time(15),
		DispatchedAt: r.time(16), DoneAt: r.time(17), Journal: r.text(18),
	}
}

// commitCalls writes what a commit says of calls, new ones first: the rest may speak of them.
func (t tx) commitCalls(st step) error {
	for _, c := range st.Calls {
		if err := t.addCall(st, c); err != nil {
			return err
		}
	}
	if len(st.Calls) > 0 {
		if _, err := t.exec(markCalls, st.Fence.SessionID, st.SubmissionSeq); err != nil {
			return err
		}
	}
	for _, d := range st.Dispatches {
		if err := t.dispatch(st.Fence.SessionID, d); err != nil {
			return fmt.Errorf("dispatching call %s: %w", d.CallID, err)
		}
	}
	for _, o := range st.Outcomes {
		got, err := t.complete(o)
		if err == nil && o.State == call.Lost && got.State != call.Lost {
			err = call.ErrEnded
		}
		if err != nil {
			return fmt.Errorf("completing call %s: %w", o.CallID, err)
		}
	}
	if st.ForgetReplies {
		_, err := t.exec(forgetReplies, st.Fence.SessionID, st.SubmissionSeq)
		return err
	}
	return nil
}

func (t tx) addCall(st step, c call.Call) error {
	dispatched, done := c.DispatchedAt, c.DoneAt
	if c.State == call.Dispatched {
		dispatched = cmp.Or(dispatched, t.now)
	}
	if c.State.Terminal() {
		done = cmp.Or(done, t.now)
	}
	_, err := t.exec(insertCall, c.ID, st.tenant, st.Fence.SessionID, st.SubmissionSeq, c.Turn, c.Index, c.EntrySeq,
		c.ProviderID, c.Tool,
		int64(c.Safety), c.ArgsHash, c.Executor, c.Dispatch, int64(c.State), c.Reply, micros(cmp.Or(c.CreatedAt,
			t.now)), micros(dispatched), micros(done), c.Journal)
	return err
}

// dispatch is ignored where the call has ended meanwhile, as anybody may end it.
func (t tx) dispatch(sessionID string, d call.Dispatch) error {
	n, err := t.exec(dispatchCall, d.Executor, d.Dispatch, t.micros(), d.CallID, sessionID, d.Journal)
	if err != nil || n == 1 {
		return err
	}
	r, err := t.row(selectCall, d.CallID)
	if err != nil {
		return err
	}
	if r == nil || r.text(1) != sessionID {
		return call.ErrNotFound
	}
	if c := r.call(); !c.State.Terminal() {
		return fmt.Errorf("dispatch %d does not follow dispatch %d", d.Dispatch, c.Dispatch)
	}
	return nil
}

// complete records the outcome of a call that has none. Of what comes after lost, the first reply is kept beside it.
func (t tx) complete(o call.Outcome) (call.Call, error) {
	if !o.State.Terminal() || o.State > call.Cancelled {
		return call.Call{}, errors.New("an outcome is done, lost or cancelled")
	}
	n, err := t.exec(completeCall, int64(o.State), o.Reply, t.micros(), o.CallID)
	if err == nil && n == 0 && o.State != call.Lost && o.Reply != nil {
		_, err = t.exec(keepLate, o.Reply, o.CallID)
	}
	if err != nil {
		return call.Call{}, err
	}
	r, err := t.row(selectCall, o.CallID)
	if err != nil {
		return call.Call{}, err
	}
	if r == nil {
		return call.Call{}, call.ErrNotFound
	}
	return r.call(), nil
}

// CompleteCall implements call.Store.
func (s *Store) CompleteCall(ctx context.Context, o call.Outcome) (c call.Call, err error) {
	err = s.write(ctx, func(t tx) (err error) {
		c, err = t.complete(o)
		return err
	})
	return c, err
}

// GetCall implements call.Store.
func (s *Store) GetCall(ctx context.Context, id string) (call.Call, error) {
	calls, err := s.calls(ctx, selectCall, id)
	if err != nil {
		return call.Call{}, err
	}
	if len(calls) == 0 {
		return call.Call{}, call.ErrNotFound
	}
	return calls[0], nil
}

// TurnCalls implements call.Store.
func (s *Store) TurnCalls(ctx context.Context, sessionID string, submissionSeq int64, turn int) ([]call.Call, error) {
	return s.calls(ctx, selectTurn, sessionID, submissionSeq, turn)
}

// LostCalls implements call.Store.
func (s *Store) LostCalls(ctx context.Context, sessionID string, submissionSeq int64) ([]call.Call, error) {
	return s.calls(ctx, selectLost, sessionID, submissionSeq)
}

// DispatchedCalls implements call.Store.
func (s *Store) DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error) {
	return s.calls(ctx, selectDispatched, executor)
}

func (s *Store) calls(ctx context.Context, q statement, args ...any) (calls []call.Call, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(q, func(r row) (bool, error) {
			calls = append(calls, r.call())
			return true, nil
		}, args...)
	})
	return calls, err
}
