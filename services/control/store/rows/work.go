package rows

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// What is asked of many lanes, submissions and calls at once.
var (
	statuses = reads(`SELECT s.submission_id, s.status FROM {ids $1} p CROSS JOIN submissions s
		WHERE s.submission_id = p.id`)
	eventHeads = reads(`SELECT l.lane_id, l.event_head FROM {ids $1} p CROSS JOIN lanes l WHERE l.lane_id = p.id`)
	// The executor's condition is the index's.
	waitingCalls = reads(`SELECT call_id, lane_id, created_at, tenant FROM tool_calls
		WHERE executor = $1 AND executor > '' AND state = 0 ORDER BY created_at, call_id`)
)

// ids is those of the texts that can be ids.
func ids(all []string) string {
	valid := texts{}
	for _, id := range all {
		if ident.IsUUID(id) {
			valid = append(valid, id)
		}
	}
	return valid.json()
}

// Settled implements submission.Store.
func (t *Tables) Settled(ctx context.Context, submissions []string) (settled []string, err error) {
	rows, err := t.port.Query(ctx, statuses, ids(submissions))
	for _, r := range rows {
		if submission.Status(r.int(1)) == submission.SettledStatus {
			settled = append(settled, r.text(0))
		}
	}
	return settled, wrap("look for settled submissions", err)
}

// EventHeads implements event.Store.
func (t *Tables) EventHeads(ctx context.Context, laneIDs []string) (map[string]int64, error) {
	rows, err := t.port.Query(ctx, eventHeads, ids(laneIDs))
	heads := make(map[string]int64, len(rows))
	for _, r := range rows {
		heads[r.text(0)] = r.int(1)
	}
	return heads, wrap("read event heads", err)
}

// WaitingCalls implements call.Store.
func (t *Tables) WaitingCalls(ctx context.Context, executor string) ([]call.Waiting, error) {
	waiting, err := list(ctx, t, func(r Row) (call.Waiting, error) {
		return call.Waiting{CallID: r.text(0), LaneID: r.text(1), CreatedAt: r.time(2), Tenant: r.text(3)}, nil
	}, waitingCalls, executor)
	return waiting, wrap("read waiting calls", err)
}
