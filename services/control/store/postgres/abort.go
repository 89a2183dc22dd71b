package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// lockLaneSQL comes before abortSQL in the same transaction: whoever claims holds the lane first, too, and only under
// the lane's lock is a look at the submission's status good for more than a moment.
const lockLaneSQL = `SELECT 1 FROM lanes WHERE lane_id = $1 FOR NO KEY UPDATE`

// abortSQL settles queued submissions and takes them out of the lane's count, and makes a running one end now; which of
// them it is about is filled in. The lane's row says so from then on, and counts it as mail: its transaction holds no
// other lane, so that it may move this one itself. It answers with how many were settled and the id of the running one.
const abortSQL = `
WITH n AS (SELECT $2::timestamptz AS now),
q AS (UPDATE submissions s SET status = 2, abort_requested_at = n.now, settled_at = n.now,
    outcome = $3, reason = $4, message = $5, cancellation = $6
  FROM n WHERE {which} = 0 AND s.parent_call IS NULL RETURNING s.lane_id),
r AS (UPDATE submissions s SET abort_requested_at = COALESCE(s.abort_requested_at, n.now)
  FROM n WHERE {which} = 1 AND s.parent_call IS NULL
  RETURNING s.lane_id, s.submission_id, s.abort_requested_at = n.now AS first),
c AS (SELECT lane_id, sum(settled)::int AS settled, sum(runs) > 0 AS runs
  FROM (SELECT lane_id, 1 AS settled, 0 AS runs FROM q UNION ALL SELECT lane_id, 0, 1 FROM r WHERE first) f
  GROUP BY lane_id),
l AS (UPDATE lanes x SET
    pending     = x.pending - c.settled,
    state       = CASE WHEN x.state = 1 AND x.pending = c.settled THEN 0 ELSE x.state END,
    mail        = x.mail + c.runs::int,
    ends_why    = CASE WHEN NOT c.runs OR x.ends_at <= n.now THEN x.ends_why ELSE 2 END,
    ends_at     = CASE WHEN c.runs THEN least(x.ends_at, n.now) ELSE x.ends_at END,
    force_after = CASE WHEN c.runs THEN least(x.force_after, n.now + ($7::bigint[])[x.kind] * interval '1 microsecond')
                  ELSE x.force_after END,
    due_at      = CASE WHEN c.runs AND x.state = 1 THEN least(x.due_at, n.now) ELSE x.due_at END
  FROM c, n WHERE x.lane_id = c.lane_id)
SELECT (SELECT count(*) FROM q), COALESCE((SELECT submission_id::text FROM r), '')`

var (
	abortOneSQL     = strings.ReplaceAll(abortSQL, "{which}", "s.submission_id = $1 AND s.status + 0")
	abortSessionSQL = strings.ReplaceAll(abortSQL, "{which}",
		"s.session_id = $1 AND s.seq >= (SELECT first_open FROM lanes WHERE lane_id = $1) AND s.status + 0")
)

// withdrawnSQL wakes the lanes that rest on what was settled at a time without having begun.
const withdrawnSQL = `
INSERT INTO wakes (tenant, lane_id) SELECT s.tenant, s.wakes FROM submissions s WHERE s.session_id = $1
  AND s.seq >= (SELECT first_open FROM lanes WHERE lane_id = $1) AND s.status + 0 = 2
  AND s.settled_at = $2::timestamptz AND s.wakes IS NOT NULL`

// abort runs abortOneSQL or abortSessionSQL for id under the lane's lock.
func (s *Store) abort(ctx context.Context, sql, laneID, id string) (settled int, running string, err error) {
	z := submission.NeverBegan()
	cancellation, err := encodeText(z.Cancellation)
	if err != nil {
		return 0, "", err
	}
	batch, tenant, now := &pgx.Batch{}, tenancy.Of(ctx), s.now()
	if s.wall == "" || tenant == "" {
		batch.Queue(lockLaneSQL, laneID)
	} else {
		s.within(batch, tenant)
		batch.Queue(asTenants+lockLaneSQL, laneID)
		sql = asTenants + sql
	}
	batch.Queue(sql, id, now, string(z.Outcome), z.Reason, z.Message, cancellation,
		graces).QueryRow(func(row pgx.Row) error {
		return row.Scan(&settled, &running)
	})
	if tenant != "" {
		s.within(batch, "") // whose mail and keys are
	}
	batch.Queue(withdrawnSQL, laneID, now)
	endRuns(batch, []string{laneID}, now)
	err = s.foreign(ctx, tenant, s.send(ctx, batch))
	return settled, running, err
}

// RequestAbortSession implements submission.Store.
func (s *Store) RequestAbortSession(
	ctx context.Context, tenant, sessionID string,
) (settled int, running string, err error) {
	if _, err := s.GetSession(ctx, tenant, sessionID); err != nil {
		return 0, "", err
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		settled, running, err = s.abort(ctx, abortSessionSQL, sessionID, sessionID)
		return err
	})
	return settled, running, wrap("request abort of a session", err)
}

// RequestAbort implements submission.Store.
func (s *Store) RequestAbort(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	if !isID(id) {
		return sub, submission.ErrNotFound
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		got, _, err := s.submission(ctx, `s.submission_id = $1 AND s.tenant = $2`, id, tenant)
		if err != nil {
			return err
		}
		if got.Status != submission.SettledStatus {
			if _, _, err := s.abort(ctx, abortOneSQL, got.LaneID, id); err != nil {
				return err
			}
			got, _, err = s.submission(ctx, `s.submission_id = $1`, id)
		}
		sub = got.Submission
		return err
	})
	return sub, wrap("request abort", err)
}
