package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/submission"
)

// Claiming is two statements in one pipelined transaction, never one: the first re-checks a lane on its newest version
// when it had to follow it there, while a sub-select in the same statement would still look at submissions as they were
// before. The second statement has a snapshot of its own, taken when the lanes are already locked.

const claimLanesSQL = `
WITH c AS (SELECT session_id FROM lanes WHERE state = 1 AND ready_at <= (SELECT clock_timestamp() + $4::bigint * interval '1 microsecond')
  ORDER BY ready_at LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch + 1, claim_id = $2 FROM c WHERE x.session_id = c.session_id`

// takeLanesSQL finds the dead by their expired rows, which stay until they own nothing: no scan of all running lanes.
const takeLanesSQL = `
WITH d AS (SELECT replica_id FROM replicas WHERE cardinality($4::uuid[]) = 0
      AND expires <= clock_timestamp() + $5::bigint * interval '1 microsecond'
    UNION SELECT unnest($4::uuid[])),
c AS (SELECT l.session_id FROM d CROSS JOIN LATERAL (SELECT session_id FROM lanes
    WHERE state = 2 AND owner = d.replica_id AND owner <> $1::uuid LIMIT $3 FOR UPDATE SKIP LOCKED) l LIMIT $3)
UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch + 1, claim_id = $2 FROM c WHERE x.session_id = c.session_id`

// overdueLanesSQL finds running submissions that should have ended. A lane that has moved on since they were read is
// left alone, which its epoch and its stream's head tell: whatever settles a submission moves both or one of them.
const overdueLanesSQL = `
WITH t AS (SELECT clock_timestamp() + $4::bigint * interval '1 microsecond' AS now),
c AS (SELECT now - $5::bigint * interval '1 microsecond' AS cut FROM t),
s AS (SELECT session_id, submission_id FROM submissions WHERE status = 1 AND abort_requested_at <= (SELECT cut FROM c)
    AND (forced_at IS NULL OR forced_at <= (SELECT cut FROM c))
  UNION SELECT session_id, submission_id FROM submissions WHERE status = 1 AND deadline <= (SELECT cut FROM c)
    AND (forced_at IS NULL OR forced_at <= (SELECT cut FROM c))),
d AS MATERIALIZED (SELECT s.*, x.epoch, x.event_head FROM s JOIN lanes x ON x.session_id = s.session_id AND x.state + 0 = 2 LIMIT $3),
k AS (SELECT l.session_id, d.submission_id FROM d JOIN lanes l ON l.session_id = d.session_id AND l.epoch = d.epoch AND l.event_head = d.event_head
  WHERE l.state + 0 = 2 FOR UPDATE OF l SKIP LOCKED),
f AS (UPDATE submissions x SET forced_at = t.now FROM k, t WHERE x.submission_id = k.submission_id)
UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch + 1, claim_id = $2 FROM k WHERE x.session_id = k.session_id`

// headsSQL starts, or goes on with, the submission at the head of lanes l: the oldest that has not settled. It is
// looked up where the lane says that these begin, whatever the length of the history.
const headsSQL = `
UPDATE submissions s SET status = 1, attempts = s.attempts + $1::int, stalls = s.stalls + $1::int,
  started_at = COALESCE(s.started_at, c.now),
  deadline = CASE WHEN s.started_at IS NULL AND s.timeout_us > 0 THEN c.now + s.timeout_us * interval '1 microsecond' ELSE s.deadline END
FROM (SELECT clock_timestamp() + $2::bigint * interval '1 microsecond' AS now) c,
  lanes l JOIN sessions k ON k.session_id = l.session_id {join} CROSS JOIN LATERAL (SELECT q.submission_id FROM submissions q
    WHERE q.session_id = l.session_id AND q.seq >= l.first_open AND q.status + 0 < 2 ORDER BY q.seq LIMIT 1) h
WHERE s.submission_id = h.submission_id AND s.status + 0 < 2 AND {lanes}
RETURNING ` + submissionColumns + `, l.ready_at, l.epoch, l.entry_head, l.event_head, k.executor`

// headsOf is headsSQL for the lanes of a condition, whose parameters start at $3.
func headsOf(lanes, join string) string {
	return strings.NewReplacer("{lanes}", lanes, "{join}", join).Replace(headsSQL)
}

// Claim implements submission.Store.
func (s *Store) Claim(ctx context.Context, owner string, limit int) ([]submission.Lease, error) {
	claimID := uuid.NewString()
	leases, err := s.take(ctx, 0, owner, claimID, claimLanesSQL, owner, claimID, limit, s.offset())
	return leases, wrap("claim", err)
}

// TakeOver implements submission.Store.
func (s *Store) TakeOver(ctx context.Context, owner string, dead []string, limit int) ([]submission.Lease, error) {
	claimID := uuid.NewString()
	dead = validIDs(dead)
	leases, err := s.take(ctx, 1, owner, claimID, takeLanesSQL, owner, claimID, limit, dead, s.offset())
	return leases, wrap("take over", err)
}

// TakeOverdue implements submission.Store.
func (s *Store) TakeOverdue(
	ctx context.Context, owner string, grace time.Duration, limit int,
) ([]submission.Lease, error) {
	claimID := uuid.NewString()
	leases, err := s.take(ctx, 0, owner, claimID, overdueLanesSQL, owner, claimID, limit, s.offset(), micros(grace))
	for i := range leases {
		leases[i].Forced = true
	}
	return leases, wrap("take overdue lanes", err)
}

var claimHeadsSQL = headsOf("l.state = 2 AND l.owner = $3::uuid AND l.claim_id = $4::uuid", "")

// take runs the statement that takes lanes under claimID and reads what it got; charge is what that costs each
// submission.
func (s *Store) take(
	ctx context.Context, charge int, owner, claimID, lanes string, args ...any,
) (leases []submission.Lease, err error) {
	err = s.retry(ctx, func(ctx context.Context, again bool) error {
		charge := charge
		batch := &pgx.Batch{}
		if again {
			// If the lanes were taken although the answer was lost, that was with their submissions charged.
			var done bool
			if err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM lanes WHERE state = 2 AND owner = $1 AND claim_id = $2)`,
				owner, claimID).Scan(&done); err != nil {
				return err
			}
			if done {
				charge = 0
			} else {
				batch.Queue(lanes, args...)
			}
		} else {
			batch.Queue(lanes, args...)
		}
		leases = nil
		batch.Queue(claimHeadsSQL, charge, s.offset(), owner, claimID).Query(collectLeases(&leases))
		return s.send(ctx, batch)
	})
	return leases, err
}

// collectLeases scans what headsSQL returns, lanes that waited longest first.
func collectLeases(leases *[]submission.Lease) func(pgx.Rows) error {
	type waiting struct {
		submission.Lease
		since time.Time
	}
	return func(rows pgx.Rows) error {
		var all []waiting
		for rows.Next() {
			var row submissionRow
			var w waiting
			err := rows.Scan(row.targets(&w.since, &w.Fence.Epoch, &w.EntryHead, &w.EventHead, &w.Executor)...)
			if err != nil {
				return err
			}
			w.Submission = row.submission()
			w.Fence.SessionID = w.Submission.SessionID
			all = append(all, w)
		}
		slices.SortFunc(all, func(a, b waiting) int { return a.since.Compare(b.since) })
		for _, w := range all {
			*leases = append(*leases, w.Lease)
		}
		return rows.Err()
	}
}

// unknownSQL puts owners of lanes on record that are not: replicas whose row was deleted when they owned nothing, and
// that went on after a long sleep. They are entered as dead, which they are as soon as they look.
const unknownSQL = `
INSERT INTO replicas (replica_id, expires) SELECT DISTINCT l.owner, '-infinity'::timestamptz FROM lanes l
WHERE l.state = 2 AND NOT EXISTS (SELECT 1 FROM replicas r WHERE r.replica_id = l.owner) ON CONFLICT DO NOTHING`

// OwnedLanes implements submission.Store.
func (s *Store) OwnedLanes(ctx context.Context, owner string) (lanes []submission.Fence, err error) {
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		batch := &pgx.Batch{}
		batch.Queue(unknownSQL)
		batch.Queue(`SELECT session_id, epoch FROM lanes WHERE state = 2 AND owner = $1`,
			owner).Query(func(rows pgx.Rows) (err error) {
			lanes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[submission.Fence])
			return err
		})
		return s.send(ctx, batch)
	})
	return lanes, wrap("read owned lanes", err)
}

// Release implements submission.Store. The lane keeps its ready_at, so that work which had begun is the first to be
// claimed.
func (s *Store) Release(ctx context.Context, f submission.Fence) error {
	return wrap("release", s.release(ctx, f, releaseSQL))
}

// ReleaseStalled implements submission.Store.
func (s *Store) ReleaseStalled(ctx context.Context, f submission.Fence) error {
	return wrap("release a stalled lane", s.release(ctx, f, stallSQL))
}

const (
	releaseSQL = `UPDATE lanes SET state = 1, owner = NULL, claim_id = NULL WHERE session_id = $1 AND epoch = $2 AND state + 0 = 2`
	stallSQL   = `WITH l AS (` + releaseSQL + ` RETURNING session_id)
		UPDATE submissions s SET stalls = s.stalls + 1 FROM l WHERE s.session_id = l.session_id AND s.status + 0 = 1`
)

func (s *Store) release(ctx context.Context, f submission.Fence, statement string) error {
	if !isID(f.SessionID) {
		return submission.ErrFenced
	}
	return s.retry(ctx, func(ctx context.Context, again bool) error {
		tag, err := s.pool.Exec(ctx, statement, f.SessionID, f.Epoch)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		if again {
			// Nobody but the owner of this epoch can have handed the lane back.
			var done bool
			err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM lanes WHERE session_id = $1 AND epoch = $2 AND state + 0 = 1)`,
				f.SessionID, f.Epoch).Scan(&done)
			if err != nil || done {
				return err
			}
		}
		return submission.ErrFenced
	})
}
