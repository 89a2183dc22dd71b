package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/lane"
)

// releaseSQL hands a lane back. If a loop is named, it is charged or, once it has ended, the head. Without a pause the
// lane keeps its due_at, so that work which had begun is the first to be claimed.
const releaseSQL = `
WITH l AS (UPDATE lanes SET state = 1, owner = NULL, claim_id = NULL,
    due_at = CASE WHEN $5::bigint = 0 THEN due_at
      ELSE least($6::timestamptz + $5::bigint * interval '1 microsecond', ends_at) END
  WHERE lane_id = $1 AND epoch = $2 AND state + 0 = 2 RETURNING lane_id, first_open, urgent),
s AS (UPDATE submissions s SET stalls = s.stalls + 1, stall_cause = $4 FROM l` + headSQL + `
  WHERE $3::uuid IS NOT NULL AND s.submission_id = COALESCE((SELECT o.submission_id FROM submissions o
    WHERE o.submission_id = $3::uuid AND o.lane_id = l.lane_id AND o.status + 0 = 1), h.submission_id))
SELECT count(*) > 0 FROM l`

// Release implements lane.Store.
func (s *Store) Release(ctx context.Context, f lane.Fence, r lane.Release) error {
	if !isID(f.LaneID) {
		return lane.ErrFenced
	}
	return wrap("release", s.retry(ctx, func(ctx context.Context, again bool) error {
		var done bool
		err := s.pool.QueryRow(ctx, releaseSQL, f.LaneID, f.Epoch, optional(r.Stalled), printable(r.Cause),
			micros(min(r.Pause, longest)), s.now()).Scan(&done)
		if err != nil || done {
			return err
		}
		if again {
			// Nobody but the owner of this epoch can have handed the lane back.
			err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM lanes WHERE lane_id = $1 AND epoch = $2
				AND state + 0 = 1)`, f.LaneID, f.Epoch).Scan(&done)
			if err != nil || done {
				return err
			}
		}
		return lane.ErrFenced
	}))
}

// raiseSQL is stamped, so that a repetition recognises itself: the epoch alone could be a take-over's.
const raiseSQL = `
UPDATE lanes SET epoch = CASE WHEN flush = $4 THEN epoch ELSE $3::bigint + 1 END, flush = $4
WHERE lane_id = $1 AND state + 0 = 2 AND (flush = $4 AND epoch = $3::bigint + 1
  OR epoch = $2 AND $3::bigint >= epoch AND $3::bigint - epoch < $5::bigint)
RETURNING epoch`

// Raise implements lane.Store.
func (s *Store) Raise(ctx context.Context, f lane.Fence, above int64) (lane.Fence, error) {
	if !isID(f.LaneID) {
		return lane.Fence{}, lane.ErrFenced
	}
	raised, id := lane.Fence{LaneID: f.LaneID}, uuid.NewString()
	err := s.retry(ctx, func(ctx context.Context, _ bool) error {
		return s.pool.QueryRow(ctx, raiseSQL, f.LaneID, f.Epoch, above, id, call.MaxRaise).Scan(&raised.Epoch)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = lane.ErrFenced
	}
	if err != nil {
		return lane.Fence{}, wrap("raise a lane's epoch", err)
	}
	return raised, nil
}
