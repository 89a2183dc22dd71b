package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pawl-dev/pawl/services/control/call"
	"github.com/pawl-dev/pawl/services/control/model"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const submissionColumns = `SELECT s.submission_id, s.session_id, k.tenant, k.agent, k.instance, k.name, s.seq, s.idem_key, s.agent_digest,
	s.input, s.status, s.outcome, s.reason, s.message, s.phase, s.turn, s.input_entry, s.result_entry, s.model, s.usage, s.attempts,
	s.stalls, s.timeout_us, s.deadline, s.abort_requested_at, s.accepted_at, s.started_at, s.settled_at, s.cancellation,
	s.event_base, k.executor
	FROM submissions s JOIN sessions k ON k.session_id = s.session_id `

// Columns after those of a submission.
const (
	eventBaseColumn = 29 + iota
	executorColumn
)

var (
	selectSubmission  = sql(submissionColumns + `WHERE s.submission_id = ? AND s.tenant = ?`)
	selectRunning     = sql(submissionColumns + `WHERE s.session_id = ? AND s.status = 1`)
	isSettled         = sql(`SELECT 1 FROM submissions WHERE submission_id = ? AND status = 2`)
	selectSubmissions = sql(submissionColumns + `WHERE s.session_id = ? AND s.seq < ? ORDER BY s.seq DESC LIMIT ?`)
)

func (r row) submission() submission.Submission {
	s := submission.Submission{
		ID: r.text(0), SessionID: r.text(1),
		Key: session.Key{Tenant: r.text(2), Agent: r.text(3), Instance: r.text(4), Name: r.text(5)},
		Seq: r.int(6), IdempotencyKey: r.text(7), AgentDigest: r.text(8), Input: r.blob(9),
		Status: submission.Status(r.int(10)), Outcome: submission.Outcome(r.text(11)), Reason: r.text(12), Message: r.text(13),
		Phase: submission.Phase(r.int(14)), Turn: int(r.int(15)), InputEntry: r.int(16), ResultEntry: r.int(17), Model: r.text(18),
		Attempts: int(r.int(20)), Stalls: int(r.int(21)), Timeout: time.Duration(r.int(22)) * time.Microsecond,
		Deadline: r.time(23), AbortRequested: r.bool(24), AcceptedAt: r.time(25), StartedAt: r.time(26), SettledAt: r.time(27),
	}
	// One row that is damaged must not keep a batch of lanes from being claimed, and neither field decides what happens
	// next.
	err := errors.Join(decodeCancellation(r.text(28), &s.Cancellation), decodeUsage(r.text(19), &s.Usage))
	if err != nil {
		slog.Error("a submission's row is damaged, going on without what cannot be read", "submission_id", s.ID,
			"error", err)
	}
	return s
}

// encodeCancellation stores none as NULL.
func encodeCancellation(c *call.Cancellation) (any, error) {
	if c == nil {
		return nil, nil
	}
	b, err := json.Marshal(c)
	return string(b), err
}

func decodeCancellation(text string, c **call.Cancellation) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), c); err != nil {
		*c = nil
		return fmt.Errorf("decoding a cancellation: %w", err)
	}
	return nil
}

// encodeUsage stores no usage as NULL: it is what most submissions have until they settle.
func encodeUsage(u model.Usage) (any, error) {
	if u == (model.Usage{}) {
		return nil, nil
	}
	b, err := json.Marshal(u)
	return string(b), err
}

func decodeUsage(text string, u *model.Usage) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), u); err != nil {
		*u = model.Usage{}
		return fmt.Errorf("decoding a usage: %w", err)
	}
	return nil
}

// GetSubmission implements submission.Store.
func (s *Store) GetSubmission(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	err = s.read(ctx, func(c *conn) error {
		sub, _, err = c.getSubmission(tenant, id)
		return err
	})
	return sub, err
}

// getSubmission returns the submission and the stream's head at its admission.
func (c *conn) getSubmission(tenant, id string) (sub submission.Submission, eventBase int64, err error) {
	r, err := c.row(selectSubmission, id, tenant)
	if err != nil {
		return sub, 0, err
	}
	if r == nil {
		return sub, 0, submission.ErrNotFound
	}
	return r.submission(), r.int(eventBaseColumn), nil
}

// ListSubmissions implements submission.Store.
func (s *Store) ListSubmissions(
	ctx context.Context, sessionID string, before int64, limit int,
) (subs []submission.Submission, err error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	err = s.read(ctx, func(c *conn) error {
		return c.rows(selectSubmissions, func(r row) (bool, error) {
			subs = append(subs, r.submission())
			return true, nil
		}, sessionID, before, max(limit, 0))
	})
	return subs, err
}

// Settled implements submission.Store.
func (s *Store) Settled(ctx context.Context, ids []string) (settled []string, err error) {
	err = s.read(ctx, func(c *conn) error {
		for _, id := range ids {
			r, err := c.row(isSettled, id)
			if err != nil {
				return err
			}
			if r != nil {
				settled = append(settled, id)
			}
		}
		return nil
	})
	return settled, err
}
