package sqlite

import (
	"context"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/approval"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

var (
	insertApproval = sql(`INSERT INTO approvals (approval_id, tenant, lane_id, session_id, submission_id, root_id, turn,
		call_id, agent, instance, name, digest, subject, timeout_us, asked_at, expires_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, iif(?14 > 0, ?15 + ?14, NULL))`)
	noteApproval = sql(`UPDATE approvals SET told = 1, state = iif(state = 0 AND ?1, 4, state),
		decided_at = iif(state = 0 AND ?1, ?2, decided_at) WHERE approval_id = ?3 AND lane_id = ?4`)
	openOrWithdrawn = sql(`SELECT state IN (0, 4) FROM approvals WHERE approval_id = ? AND lane_id = ?`)
	endApprovals    = sql(`UPDATE approvals SET state = 4, told = 1, decided_at = ? WHERE lane_id = ? AND state = 0`)
)

// mayWithdraw refuses a step that withdraws an approval which has been decided, or has expired: the stream would tell
// something else than the row.
func (t tx) mayWithdraw(l *laneRow, s step) error {
	for _, n := range s.Noted {
		if !n.Withdraw {
			continue
		}
		r, err := t.row(openOrWithdrawn, n.ID, l.id)
		if err != nil {
			return err
		}
		if r != nil && r.int(0) == 0 {
			return &lane.Refused{LoopID: s.LoopID, Err: approval.ErrDecided}
		}
	}
	return nil
}

// commitApprovals writes what a step says of approvals.
func (t tx) commitApprovals(l *laneRow, s step) error {
	for i := range s.Approvals {
		a := &s.Approvals[i]
		if _, err := t.exec(insertApproval, a.ID, l.tenant, l.id, a.SessionID, a.LoopID, a.RootID, a.Turn, a.CallID,
			a.Key.Agent, a.Key.Instance, a.Key.Name, a.Digest, s.asked[i], a.Timeout.Microseconds(),
			t.micros()); err != nil {
			return fmt.Errorf("storing approval %s: %w", a.ID, err)
		}
	}
	for _, n := range s.Noted {
		if _, err := t.exec(noteApproval, n.Withdraw, t.micros(), n.ID, l.id); err != nil {
			return fmt.Errorf("noting approval %s: %w", n.ID, err)
		}
	}
	return nil
}

// DecideApproval implements approval.Store. There is one writer: the lane is woken in the same transaction.
func (s *Store) DecideApproval(
	ctx context.Context, d approval.Decision,
) (a approval.Approval, decided bool, err error) {
	err = s.post(ctx, func(t tx) (laneIDs []string, err error) {
		a, decided, err = rows.DecideApproval(ctx, plain{s: s, t: &t}, d)
		if decided {
			laneIDs = []string{a.LaneID}
		}
		return laneIDs, err
	})
	if err != nil {
		return a, false, fmt.Errorf("deciding an approval: %w", err)
	}
	return a, decided, nil
}
