package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
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
		rows, err := s.pool.Query(ctx, `SELECT `+submissionColumns+` FROM submissions s JOIN sessions k USING (session_id)
			WHERE s.session_id = $1 AND s.seq < $2 ORDER BY s.seq DESC LIMIT $3`, sessionID, before, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var row submissionRow
			if err := rows.Scan(row.targets()...); err != nil {
				return err
			}
			subs = append(subs, row.submission())
		}
		return rows.Err()
	})
	return subs, wrap("list submissions", err)
}

const settledSQL = `SELECT submission_id FROM submissions WHERE submission_id = ANY($1::uuid[]) AND status + 0 = 2`

// Settled implements submission.Store.
func (s *Store) Settled(ctx context.Context, ids []string) (settled []string, err error) {
	ids = validIDs(ids)
	err = s.retry(ctx, func(ctx context.Context, _ bool) error {
		rows, err := s.pool.Query(ctx, settledSQL, ids)
		if err != nil {
			return err
		}
		settled, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return settled, wrap("look for settled submissions", err)
}

// submission reads one submission with the hash of its input.
func (s *Store) submission(ctx context.Context, where string, args ...any) (sub stored, hash []byte, err error) {
	var row submissionRow
	err = s.pool.QueryRow(ctx, `SELECT `+submissionColumns+`, s.event_base, s.input_hash
		FROM submissions s JOIN sessions k USING (session_id) WHERE `+where, args...).Scan(row.targets(&sub.eventBase, &hash)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return sub, nil, submission.ErrNotFound
	}
	if err == nil {
		sub.Submission = row.submission()
	}
	return sub, hash, err
}

// stored is a submission with what only the store knows of it.
type stored struct {
	submission.Submission
	eventBase int64
}

// submissionColumns of submissions s and sessions k, as scanned by submissionRow.
const submissionColumns = `s.submission_id, s.session_id, k.tenant, k.agent, k.instance, k.name, s.seq, s.idem_key, s.agent_digest, s.input,
  s.status, s.outcome, s.reason, s.message, s.phase, s.turn, s.input_entry, s.result_entry, s.model, s.usage, s.attempts, s.stalls,
  s.timeout_us, s.deadline, s.abort_requested_at IS NOT NULL, s.cancellation, s.accepted_at, s.started_at, s.settled_at`

// submissionRow receives submissionColumns.
type submissionRow struct {
	sub                        submission.Submission
	idem                       *string
	status, phase              int16
	usage                      []byte
	cancellation               *string
	timeout                    int64
	deadline, started, settled *time.Time
}

func (r *submissionRow) targets(more ...any) []any {
	s := &r.sub
	*r = submissionRow{}
	return append([]any{
		&s.ID, &s.SessionID, &s.Key.Tenant, &s.Key.Agent, &s.Key.Instance, &s.Key.Name, &s.Seq, &r.idem, &s.AgentDigest,
		(*[]byte)(&s.Input), &r.status, &s.Outcome, &s.Reason, &s.Message, &r.phase, &s.Turn, &s.InputEntry, &s.ResultEntry, &s.Model,
		&r.usage, &s.Attempts, &s.Stalls, &r.timeout, &r.deadline, &s.AbortRequested, &r.cancellation, &s.AcceptedAt, &r.started, &r.settled,
	}, more...)
}

// submission finishes what was scanned. The next scan does not touch it. One row that is damaged must not keep a batch
// of lanes from being claimed, and neither of the fields that are decoded decides what happens next.
func (r *submissionRow) submission() submission.Submission {
	s := r.sub
	s.IdempotencyKey, s.Status, s.Phase = value(r.idem), submission.Status(r.status), submission.Phase(r.phase)
	s.Timeout = time.Duration(r.timeout) * time.Microsecond
	s.Deadline, s.StartedAt, s.SettledAt = value(r.deadline), value(r.started), value(r.settled)
	err := decodeUsage(r.usage, &s.Usage)
	if r.cancellation != nil {
		if failed := json.Unmarshal([]byte(*r.cancellation), &s.Cancellation); failed != nil {
			s.Cancellation, err = nil, errors.Join(err, fmt.Errorf("cancellation of a submission: %w", failed))
		}
	}
	if err != nil {
		slog.Error("a submission's row is damaged, going on without what cannot be read", "submission_id", s.ID,
			"error", err)
	}
	return s
}

// encodeUsage is NULL for no usage at all.
func encodeUsage(u model.Usage) (*string, error) {
	if u == (model.Usage{}) {
		return nil, nil
	}
	b, err := json.Marshal(u)
	text := string(b)
	return &text, err
}

// encodeCancellation is NULL for none.
func encodeCancellation(c *call.Cancellation) (*string, error) {
	if c == nil {
		return nil, nil
	}
	b, err := json.Marshal(c)
	text := string(b)
	return &text, err
}

func decodeUsage(b []byte, u *model.Usage) error {
	if b == nil {
		return nil
	}
	if err := json.Unmarshal(b, u); err != nil {
		*u = model.Usage{}
		return fmt.Errorf("usage of a submission: %w", err)
	}
	return nil
}

// wrap adds what was being done.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
