package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/submission"
)

// lockLaneSQL comes before abortSQL in the same transaction: whoever claims holds the lane first, too, and only under the lane's
// lock is a look at the submission's status good for more than a moment.
const lockLaneSQL = `SELECT 1 FROM lanes WHERE session_id = $1 FOR NO KEY UPDATE`

// abortSQL settles a queued submission and takes it out of the lane's count, or marks a running one.
const abortSQL = `
WITH q AS (UPDATE submissions SET status = 2, outcome = 'aborted', abort_requested = true,
    settled_at = clock_timestamp() + $2::bigint * interval '1 microsecond' WHERE submission_id = $1 AND status + 0 = 0 RETURNING session_id),
l AS (UPDATE lanes x SET pending = x.pending - 1, state = CASE WHEN x.state = 1 AND x.pending = 1 THEN 0 ELSE x.state END
  FROM q WHERE x.session_id = q.session_id)
UPDATE submissions SET abort_requested = true WHERE submission_id = $1 AND status + 0 = 1 AND NOT abort_requested`

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
			batch := &pgx.Batch{}
			batch.Queue(lockLaneSQL, got.SessionID)
			batch.Queue(abortSQL, id, s.offset())
			if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
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
func (s *Store) AbortRequests(ctx context.Context, owner string) (sessions []string, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, `SELECT s.session_id FROM submissions s JOIN lanes l USING (session_id)
			WHERE s.status = 1 AND s.abort_requested AND l.state + 0 = 2 AND l.owner = $1`, owner)
		if err != nil {
			return err
		}
		sessions, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return sessions, wrap("read abort requests", err)
}
