package rows

import (
	"context"
	"time"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/tenancy"
	"github.com/pawl-dev/pawl/services/control/tool"
)

// CallColumns of tool_calls are what Call reads.
const CallColumns = `call_id, lane_id, submission_id, turn, idx, entry_seq, provider_id, tool, kind, safety, args_hash,
  executor, dispatch, journal_id, state, reply, late_reply, shown_stdout, shown_stderr, created_at, dispatched_at,
  done_at, leaves, approval_id`

// selectCalls has the time behind the columns of a call.
const selectCalls = `SELECT ` + CallColumns + `, {now} FROM tool_calls `

// One call, and those of a loop and of an executor. The executor's condition is the index's.
var (
	oneCall   = reads(selectCalls + `WHERE call_id = $1`)
	turnCalls = reads(selectCalls + `WHERE submission_id = $1 AND turn = $2 ORDER BY idx`)
	loopCalls = reads(selectCalls + `WHERE submission_id = $1 AND (turn, idx) > ($2, $3)
		ORDER BY turn, idx LIMIT $4`)
	dispatchedCalls = reads(selectCalls + `WHERE executor = $1 AND state = 1 ORDER BY dispatched_at, call_id`)
)

// Call is the call of a row of CallColumns, now being the time on the platform's clock.
func Call(r Row, now time.Time) call.Call {
	c := call.Call{
		ID: r.text(0), LaneID: r.text(1), LoopID: r.text(2), Turn: int(r.int(3)), Index: int(r.int(4)),
		EntrySeq: r.int(5), ProviderID: r.text(6), Tool: r.text(7), Kind: uint8(r.int(8)),
		Safety: tool.Safety(r.int(9)), ArgsHash: r.blob(10), Executor: r.text(11), Dispatch: int(r.int(12)),
		Journal: r.text(13), State: call.State(r.int(14)), Reply: r.blob(15), LateReply: r.blob(16),
		Shown: [2]int64{r.int(17), r.int(18)}, CreatedAt: r.time(19), DoneAt: r.time(21), Leaves: r.bool(22),
		Approval: r.text(23),
	}
	c.Age[0] = now.Sub(c.CreatedAt)
	if dispatched := r.time(20); !dispatched.IsZero() {
		c.Age[1] = now.Sub(dispatched)
	}
	return c
}

// CallNow is the call of a row of CallColumns that has the time on the platform's clock behind them.
func CallNow(r Row) (call.Call, error) { return Call(r, r.time(len(r)-1)), nil }

// GetCall implements call.Store.
func (t *Tables) GetCall(ctx context.Context, id string) (call.Call, error) {
	c, err := one(ctx, t.port, CallNow, call.ErrNotFound, oneCall, id)
	return c, wrap("get call", err)
}

// TurnCalls implements call.Store.
func (t *Tables) TurnCalls(ctx context.Context, loopID string, turn int) ([]call.Call, error) {
	if !ident.IsUUID(loopID) {
		return nil, nil
	}
	calls, err := list(ctx, t, CallNow, turnCalls, loopID, turn)
	return calls, wrap("read the turn's calls", err)
}

// LoopCalls implements call.Store.
func (t *Tables) LoopCalls(ctx context.Context, loopID string, turn, index, limit int) ([]call.Call, error) {
	if !ident.IsUUID(loopID) {
		return nil, nil
	}
	calls, err := list(tenancy.Everywhere(ctx), t, CallNow, loopCalls, loopID, turn, index, limit)
	return calls, wrap("read a loop's calls", err)
}

// DispatchedCalls implements call.Store.
func (t *Tables) DispatchedCalls(ctx context.Context, executor string) ([]call.Call, error) {
	calls, err := list(ctx, t, CallNow, dispatchedCalls, executor)
	return calls, wrap("read dispatched calls", err)
}
