package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pawl-dev/pawl/services/control/submission"
)

// GetSubmission implements submission.Store.
func (s *Store) GetSubmission(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	if !isID(id) {
		return sub, submission.ErrNotFound
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		got, _, err := s.submission(ctx, `s.submission_id = $1 AND s.tenant = $2`, id, tenant)
		sub = got.Submission
		return err
	})
	return sub, wrap("get submission", err)
}

// ListSubmissions implements submission.Store.
func (s *Store) ListSubmissions(
	ctx context.Context, sessionID string, before int64, limit int,
) (subs []submission.Submission, err error) {
	if !isID(sessionID) {
		return nil, nil
	}
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		subs = nil
		return s.ask(ctx, func(rows pgx.Rows) error {
			for rows.Next() {
				var row submissionRow
				if err := rows.Scan(row.targets()...); err != nil {
					return err
				}
				subs = append(subs, row.submission(s.Damaged))
			}
			return rows.Err()
		}, listSubmissionsSQL, sessionID, before, limit)
	})
	return subs, wrap("list submissions", err)
}

// listSubmissionsSQL does not read long inputs.
var listSubmissionsSQL = `SELECT ` + strings.Replace(submissionColumns, "s.input,",
	fmt.Sprintf("CASE WHEN length(s.input) <= %d THEN s.input END,", submission.MaxListed), 1) + `
FROM submissions s JOIN sessions k USING (session_id)
WHERE s.session_id = $1 AND s.parent_call IS NULL AND s.seq < $2 ORDER BY s.seq DESC LIMIT $3`

// submission reads one submission with the hash of its input.
func (s *Store) submission(ctx context.Context, where string, args ...any) (sub stored, hash []byte, err error) {
	var row submissionRow
	err = s.askOne(ctx, row.targets(&sub.eventBase, &hash), `SELECT `+submissionColumns+`, s.event_base, s.input_hash
		FROM submissions s JOIN sessions k USING (session_id) WHERE s.parent_call IS NULL AND `+where, args...)
	if errors.Is(err, pgx.ErrNoRows) {
		return sub, nil, submission.ErrNotFound
	}
	if err == nil {
		sub.Submission = row.submission(s.Damaged)
	}
	return sub, hash, err
}

// stored is a submission with what only the store knows of it.
type stored struct {
	submission.Submission
	eventBase int64
}

// submissionColumns of submissions s and sessions k, as scanned by submissionRow.
const submissionColumns = loopColumns + `, s.idem_key, s.status, s.outcome, s.reason, s.message, s.result_entry,
  s.abort_requested_at IS NOT NULL, s.cancellation, s.accepted_at, s.settled_at, s.data,
  s.when_busy, s.host_id`

// submissionRow receives submissionColumns.
type submissionRow struct {
	loopRow
	sub               submission.Submission
	idem              *string
	status, busy      int16
	host              *string
	cancellation      *string
	data              *string
	accepted, settled pgtype.Timestamptz
}

func (r *submissionRow) targets(more ...any) []any {
	s := &r.sub
	*r = submissionRow{}
	return append(r.loopRow.targets(&r.idem, &r.status, &s.Outcome, &s.Reason, &s.Message, &s.ResultEntry,
		&s.AbortRequested, &r.cancellation, &r.accepted, &r.settled, &r.data, &r.busy, &r.host), more...)
}

// submission finishes what was scanned. The next scan does not touch it. Nothing is decided by what is told here, so
// that a damaged row is told without what cannot be read of it.
func (r *submissionRow) submission(damaged func(error)) submission.Submission {
	s := r.sub
	var err error
	s.Loop, err = r.decode()
	s.IdempotencyKey, s.Status = value(r.idem), submission.Status(r.status)
	s.AcceptedAt, s.SettledAt = r.accepted.Time, r.settled.Time
	if r.data != nil {
		s.Data = json.RawMessage(*r.data)
	}
	s.WhenBusy, s.Host = submission.WhenBusy(r.busy), value(r.host)
	if r.cancellation != nil {
		if failed := json.Unmarshal([]byte(*r.cancellation), &s.Cancellation); failed != nil {
			s.Cancellation, err = nil, errors.Join(err, fmt.Errorf("cancellation of a submission: %w", failed))
		}
	}
	if err != nil {
		damaged(fmt.Errorf("submission %s, without what cannot be read: %w", s.ID, err))
	}
	return s
}

// wrap adds what was being done.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
