package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/store/rows"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

type approvalRow struct {
	*approval.Approval
	lane, subject string
}

var approvalTable = table[approvalRow]{
	col("lane_id", "uuid", func(r *approvalRow) string { return r.lane }),
	col("approval_id", "uuid", func(r *approvalRow) string { return r.ID }),
	col("session_id", "uuid", func(r *approvalRow) string { return r.SessionID }),
	col("loop_id", "uuid", func(r *approvalRow) string { return r.LoopID }),
	col("root_id", "uuid", func(r *approvalRow) string { return r.RootID }),
	col("turn", "int", func(r *approvalRow) int32 { return int32(r.Turn) }),
	col("call_id", "text", func(r *approvalRow) string { return r.CallID }),
	col("agent", "text", func(r *approvalRow) string { return r.Key.Agent }),
	col("instance", "text", func(r *approvalRow) string { return r.Key.Instance }),
	col("name", "text", func(r *approvalRow) string { return r.Key.Name }),
	col("digest", "bytea", func(r *approvalRow) []byte { return r.Digest }),
	col("subject", "text", func(r *approvalRow) string { return r.subject }),
	col("timeout_us", "bigint", func(r *approvalRow) int64 { return micros(r.Timeout) }),
}

type noteRow struct {
	approval.Note
	lane string
}

var noteTable = table[noteRow]{
	col("lane_id", "uuid", func(r *noteRow) string { return r.lane }),
	col("approval_id", "uuid", func(r *noteRow) string { return r.ID }),
	col("withdraw", "bool", func(r *noteRow) bool { return r.Withdraw }),
}

// approvalsSQL stores what somebody is asked.
var approvalsSQL = approvalTable.in(`
INSERT INTO approvals (approval_id, tenant, lane_id, session_id, submission_id, root_id, turn, call_id, agent, instance,
  name, digest, subject, timeout_us, asked_at, expires_at)
SELECT t.approval_id, l.tenant, t.lane_id, t.session_id, t.loop_id, t.root_id, t.turn, t.call_id, t.agent, t.instance,
  t.name, t.digest, t.subject, t.timeout_us, n.now,
  CASE WHEN t.timeout_us > 0 THEN n.now + t.timeout_us * interval '1 microsecond' END
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1 CROSS JOIN (SELECT `+nowSQL2+` AS now) n`, 2)

// notesSQL notes what the stream tells of approvals, and withdraws those that are open. It asserts that none has been
// decided which is to be withdrawn: the stream would tell something else than the row.
var notesSQL = noteTable.in(`
WITH n AS MATERIALIZED (SELECT t.*, `+nowSQL2+` AS now FROM {rows}
  JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1),
u AS (UPDATE approvals a SET told = true,
    state = CASE WHEN a.state = 0 AND n.withdraw THEN 4 ELSE a.state END,
    decided_at = CASE WHEN a.state = 0 AND n.withdraw THEN n.now ELSE a.decided_at END
  FROM n WHERE a.approval_id = n.approval_id AND a.lane_id = n.lane_id RETURNING n.withdraw AND a.state <> 4 AS decided)
SELECT 1 / (NOT EXISTS (SELECT 1 FROM u WHERE decided))::int`, 2)

// endApprovalsSQL withdraws what is open of lanes whose heads are settled from rows.
const endApprovalsSQL = `
UPDATE approvals a SET state = 4, told = true, decided_at = ` + nowSQL2 + `
FROM unnest($3::uuid[]) AS t(lane_id) JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
WHERE a.lane_id = l.lane_id AND a.state = 0`

// DecideApproval implements approval.Store. It holds no lane: what wakes one is a row of its own.
func (s *Store) DecideApproval(
	ctx context.Context, d approval.Decision,
) (a approval.Approval, decided bool, err error) {
	tenant := tenancy.Of(ctx)
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			walled := s.wall != "" && tenant != ""
			if walled {
				if _, err := tx.Exec(ctx, withinSQL, s.wall, tenant); err != nil {
					return err
				}
			}
			a, decided, err = rows.DecideApproval(ctx, plain{s: s, tx: tx}, d)
			if err == nil && decided && walled {
				_, err = tx.Exec(ctx, withinSQL, platformRole, "") // whose the wakes are
			}
			if err == nil && decided {
				_, err = tx.Exec(ctx, `INSERT INTO wakes (tenant, lane_id) VALUES ($1, $2)`, a.Tenant, a.LaneID)
			}
			return err
		})
	})
	return a, decided, wrap("decide an approval", s.foreign(ctx, tenant, err))
}
