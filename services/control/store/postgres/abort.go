package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/submission"
)

// lockLaneSQL comes before abortSQL in the same transaction: whoever claims holds the lane first, too, and only under
// the lane's lock is a look at the submission's status good for more than a moment.
const lockLaneSQL = `SELECT 1 FROM lanes WHERE session_id = $1 FOR NO KEY UPDATE`

// abortSQL settles queued submissions and takes them out of the lane's count, and marks a running one; which of them it
// is about is filled in. It answers with how many were settled and the id of the running one.
const abortSQL = `
WITH n AS (SELECT clock_timestamp() + $2::bigint * interval '1 microsecond' AS now),
q AS (UPDATE submissions s SET status = 2, abort_requested_at = n.now, settled_at = n.now,
    outcome = $3, reason = $4, message = $5, cancellation = $6
  FROM n WHERE {which} = 0 RETURNING s.session_id),
c AS (SELECT session_id, count(*)::int AS n FROM q GROUP BY session_id),
l AS (UPDATE lanes x SET pending = x.pending - c.n, state = CASE WHEN x.state = 1 AND x.pending = c.n THEN 0 ELSE x.state END
  FROM c WHERE x.session_id = c.session_id),
r AS (UPDATE submissions s SET abort_requested_at = COALESCE(s.abort_requested_at, n.now)
  FROM n WHERE {which} = 1 RETURNING s.submission_id)
SELECT COALESCE((SELECT n FROM c), 0), COALESCE((SELECT submission_id::text FROM r), '')`

var (
	abortOneSQL     = strings.ReplaceAll(abortSQL, "{which}", "s.submission_id = $1 AND s.status + 0")
	abortSessionSQL = strings.ReplaceAll(abortSQL, "{which}",
		"s.session_id = $1 AND s.seq >= (SELECT first_open FROM lanes WHERE session_id = $1) AND s.status + 0")
)

// abort runs abortOneSQL or abortSessionSQL for id under the lane's lock.
func (s *Store) abort(ctx context.Context, sql, sessionID, id string) (settled int, running string, err error) {
	z := submission.NeverBegan()
	cancellation, err := encodeCancellation(z.Cancellation)
	if err != nil {
		return 0, "", err
	}
	batch := &pgx.Batch{}
	batch.Queue(lockLaneSQL, sessionID)
	batch.Queue(sql, id, s.offset(), string(z.Outcome), z.Reason, z.Message,
		cancellation).QueryRow(func(row pgx.Row) error {
		return row.Scan(&settled, &running)
	})
	err = s.send(ctx, batch)
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
			if _, _, err := s.abort(ctx, abortOneSQL, got.SessionID, id); err != nil {
				return err
			}
			got, _, err = s.submission(ctx, `s.submission_id = $1`, id)
		}
		sub = got.Submission
		return err
	})
	return sub, wrap("request abort", err)
}

// AbortRequests implements submission.Store.
func (s *Store) AbortRequests(ctx context.Context, owner string) (requests []submission.AbortRequest, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, `SELECT s.session_id, s.submission_id FROM submissions s JOIN lanes l USING (session_id)
			WHERE s.status = 1 AND s.abort_requested_at IS NOT NULL AND l.state + 0 = 2 AND l.owner = $1`, owner)
		if err != nil {
			return err
		}
		requests, err = pgx.CollectRows(rows, pgx.RowToStructByPos[submission.AbortRequest])
		return err
	})
	return requests, wrap("read abort requests", err)
}
