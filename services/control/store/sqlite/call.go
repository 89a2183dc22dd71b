package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

const callColumns = `SELECT ` + rows.CallColumns + ` FROM tool_calls `

// ofTree is the calls of a tree of loops.
const ofTree = `WHERE submission_id IN (SELECT ?1 UNION ALL
	SELECT submission_id FROM submissions WHERE root_id = ?1 AND parent_call IS NOT NULL) `

var (
	insertCall = sql(`INSERT INTO tool_calls (call_id, tenant, lane_id, submission_id, turn, idx, entry_seq,
		provider_id, tool, kind, safety, args_hash, executor, dispatch, journal_id, state, reply, created_at,
		dispatched_at, done_at, approval_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	markCalls    = sql(`UPDATE submissions SET has_calls = 1 WHERE rowid = ? AND has_calls = 0`)
	dispatchCall = sql(`UPDATE tool_calls SET executor = ?1, dispatch = ?2, state = 1, dispatched_at = ?3,
		journal_id = ?4 WHERE call_id = ?5 AND lane_id = ?6 AND state <= 1 AND dispatch < ?2`)
	holdCall     = sql(`UPDATE tool_calls SET executor = ?, state = 0 WHERE call_id = ? AND lane_id = ? AND state <= 1`)
	completeCall = sql(`UPDATE tool_calls SET state = ?, reply = ?, done_at = ?, leaves = ?
		WHERE call_id = ? AND state <= 1`)
	keepLate = sql(`UPDATE tool_calls SET late_reply = ?, leaves = ?
		WHERE call_id = ? AND state = 3 AND late_reply IS NULL`)
	showCall = sql(`UPDATE tool_calls SET shown_stdout = ?, shown_stderr = ?
		WHERE call_id = ? AND lane_id = ?`)
	forgetReplies = sql(`UPDATE tool_calls SET reply = NULL WHERE submission_id = ? AND turn = ?`)
	isConnected   = sql(`SELECT 1 FROM executors WHERE executor_id = ? AND connection_epoch = ?`)
	grantCall     = sql(`UPDATE tool_calls SET state = 1, dispatch = dispatch + 1, journal_id = ?, dispatched_at = ?
		WHERE call_id = ? AND executor = ? AND state = 0 RETURNING call_id, lane_id, dispatch`)

	selectState   = sql(`SELECT state FROM tool_calls WHERE call_id = ?`)
	selectCall    = sql(callColumns + `WHERE call_id = ?`)
	selectUnended = sql(callColumns + ofTree + `AND (leaves OR state = 3 AND late_reply IS NULL)`)
)

func (r row) call(now time.Time) call.Call { return rows.Call(r.plain(), now) }

// commitCalls writes what a step says of calls, new ones first: the rest may speak of them.
func (t tx) commitCalls(l *laneRow, s step, loop loopRef) error {
	for _, c := range s.Calls {
		if err := t.addCall(l, s.LoopID, c); err != nil {
			return err
		}
	}
	if len(s.Calls) > 0 {
		if _, err := t.exec(markCalls, loop.rowid); err != nil {
			return err
		}
	}
	for _, d := range s.Dispatches {
		if err := t.dispatch(l, d); err != nil {
			return fmt.Errorf("dispatching call %s: %w", d.CallID, err)
		}
	}
	for _, o := range s.Outcomes {
		got, err := t.complete(o)
		if err == nil && got.LaneID != l.id {
			err = call.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("completing call %s: %w", o.CallID, err)
		}
	}
	for _, v := range s.Shown {
		if _, err := t.exec(showCall, v.Stdout, v.Stderr, v.CallID, l.id); err != nil {
			return err
		}
	}
	if s.ForgetReplies {
		_, err := t.exec(forgetReplies, s.LoopID, loop.turn)
		return err
	}
	return nil
}

func (t tx) addCall(l *laneRow, loopID string, c call.Call) error {
	var dispatched, done int64
	if c.State == call.Dispatched {
		dispatched = t.micros()
	}
	if c.State.Terminal() {
		done = t.micros()
	}
	_, err := t.exec(insertCall, c.ID, l.tenant, l.id, loopID, c.Turn, c.Index, c.EntrySeq, c.ProviderID, c.Tool,
		int64(c.Kind), int64(c.Safety), c.ArgsHash, c.Executor, c.Dispatch, c.Journal, int64(c.State), c.Reply,
		t.micros(), dispatched, done, optional(c.Approval))
	return err
}

// dispatch is ignored where the call has ended meanwhile, as anybody may end it.
func (t tx) dispatch(l *laneRow, d call.Dispatch) (err error) {
	var n int64
	if d.Dispatch == 0 {
		n, err = t.exec(holdCall, d.Executor, d.CallID, l.id)
	} else {
		n, err = t.exec(dispatchCall, d.Executor, d.Dispatch, t.micros(), d.Journal, d.CallID, l.id)
	}
	if err != nil || n == 1 {
		return err
	}
	r, err := t.row(selectCall, d.CallID)
	if err != nil {
		return err
	}
	if r == nil || r.text(1) != l.id {
		return call.ErrNotFound
	}
	if c := r.call(t.now); !c.State.Terminal() {
		return fmt.Errorf("dispatch %d does not follow dispatch %d", d.Dispatch, c.Dispatch)
	}
	return nil
}

// complete records the outcome of a call that has none. Of what comes after lost, the first reply is kept beside it.
func (t tx) complete(o call.Outcome) (call.Call, error) {
	if !o.State.Terminal() || o.State > call.Cancelled {
		return call.Call{}, errors.New("an outcome is done, lost or cancelled")
	}
	n, err := t.exec(completeCall, int64(o.State), o.Reply, t.micros(), o.Leaves, o.CallID)
	if err == nil && n == 0 && o.State != call.Lost && o.Reply != nil {
		_, err = t.exec(keepLate, o.Reply, o.Leaves, o.CallID)
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
	return r.call(t.now), nil
}

// CompleteCall implements call.Store.
func (s *Store) CompleteCall(ctx context.Context, o call.Outcome) (c call.Call, err error) {
	err = s.write(ctx, func(t tx) (err error) {
		c, err = t.complete(o)
		return err
	})
	return c, err
}

// Grant implements call.Store.
func (s *Store) Grant(ctx context.Context, g call.Grant) (granted []call.Granted, err error) {
	err = s.write(ctx, func(t tx) error {
		granted = nil
		connected, err := t.row(isConnected, g.Executor, g.ConnectionEpoch)
		if err != nil || connected == nil {
			return err
		}
		for _, id := range g.CallIDs {
			r, err := t.returning(grantCall, g.Journal, t.micros(), id, g.Executor)
			if err != nil {
				return err
			}
			if r != nil {
				granted = append(granted, call.Granted{CallID: r.text(0), LaneID: r.text(1), Dispatch: int(r.int(2))})
			}
		}
		return nil
	})
	return granted, err
}

// Unended implements call.Store.
func (s *Store) Unended(ctx context.Context, loopID string) (found call.Unended, err error) {
	err = s.read(ctx, func(c *conn) (err error) {
		found, err = c.unended(s.now(), loopID)
		return err
	})
	return found, err
}

// unended puts in order what is found loop by loop.
func (c *conn) unended(now time.Time, loopID string) (call.Unended, error) {
	calls, err := c.calls(now, selectUnended, loopID)
	slices.SortStableFunc(calls, func(a, b call.Call) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Turn, b.Turn), cmp.Compare(a.Index, b.Index))
	})
	return call.Unended{Calls: calls[:min(call.MaxNamed, len(calls))], Total: len(calls)}, err
}

func (c *conn) calls(now time.Time, q statement, args ...any) (calls []call.Call, err error) {
	err = c.rows(q, func(r row) (bool, error) {
		calls = append(calls, r.call(now))
		return true, nil
	}, args...)
	return calls, err
}
