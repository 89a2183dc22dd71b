package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const abortQueuedSQL = `UPDATE submissions SET status = 2, outcome = ?1, reason = ?2, message = ?3, cancellation = ?4, abort_requested_at = ?5, settled_at = ?5 `

var (
	abortQueued = sql(abortQueuedSQL + `WHERE submission_id = ?6 AND status = 0`)
	abortQueue  = sql(abortQueuedSQL + `WHERE session_id = ?6 AND status = 0`)
	markRunning = sql(`UPDATE submissions SET abort_requested_at = ? WHERE submission_id = ? AND status = 1 AND abort_requested_at = 0`)
	// A lane that runs goes on; a ready one has nothing to run when these were the last.
	unqueue       = sql(`UPDATE lanes SET pending = pending - ?2, state = iif(state = 1 AND pending = ?2, 0, state) WHERE session_id = ?1`)
	selectAborted = sql(`SELECT session_id, submission_id FROM submissions s WHERE status = 1 AND abort_requested_at > 0
		AND EXISTS (SELECT 1 FROM lanes l WHERE l.session_id = s.session_id AND l.state = 2 AND l.owner = ?)`)
	sessionThere = sql(`SELECT 1 FROM sessions WHERE session_id = ? AND tenant = ?`)
)

// RequestAbort implements submission.Store. No event tells of a queued one's end: only owners append.
func (s *Store) RequestAbort(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	err = s.write(ctx, func(t tx) error {
		if sub, _, err = t.getSubmission(tenant, id); err != nil {
			return err
		}
		switch sub.Status {
		case submission.Queued:
			_, err = t.unqueue(abortQueued, id, sub.SessionID)
		case submission.Running:
			_, err = t.exec(markRunning, t.micros(), id)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		sub, _, err = t.getSubmission(tenant, id)
		return err
	})
	return sub, err
}

// unqueue settles queued submissions as aborted and takes them out of their lane's count.
func (t tx) unqueue(which statement, id, sessionID string) (n int, err error) {
	z := submission.NeverBegan()
	cancellation, err := encodeCancellation(z.Cancellation)
	if err != nil {
		return 0, err
	}
	settled, err := t.exec(which, string(z.Outcome), z.Reason, z.Message, cancellation, t.micros(), id)
	if err == nil && settled > 0 {
		_, err = t.exec(unqueue, sessionID, settled)
	}
	return int(settled), err
}

// RequestAbortSession implements submission.Store.
func (s *Store) RequestAbortSession(
	ctx context.Context, tenant, sessionID string,
) (settled int, running string, err error) {
	err = s.write(ctx, func(t tx) error {
		running = ""
		r, err := t.row(sessionThere, sessionID, tenant)
		if err == nil && r == nil {
			err = session.ErrNotFound
		}
		if err != nil {
			return err
		}
		if settled, err = t.unqueue(abortQueue, sessionID, sessionID); err != nil {
			return err
		}
		if r, err = t.row(selectRunning, sessionID); err != nil || r == nil {
			return err
		}
		running = r.text(0)
		_, err = t.exec(markRunning, t.micros(), running)
		return err
	})
	return settled, running, err
}

// AbortRequests implements submission.Store.
func (s *Store) AbortRequests(ctx context.Context, owner string) (requests []submission.AbortRequest, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(selectAborted, func(r row) (bool, error) {
			requests = append(requests, submission.AbortRequest{SessionID: r.text(0), SubmissionID: r.text(1)})
			return true, nil
		}, owner)
	})
	return requests, err
}
