package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	abortQueued = sql(`UPDATE submissions SET status = 2, outcome = 'aborted', abort_requested = 1, settled_at = ? WHERE submission_id = ? AND status = 0`)
	markRunning = sql(`UPDATE submissions SET abort_requested = 1 WHERE submission_id = ? AND status = 1`)
	// A lane that runs goes on; a ready one has nothing to run when this was the last.
	unqueue       = sql(`UPDATE lanes SET pending = pending - 1, state = iif(state = 1 AND pending = 1, 0, state) WHERE session_id = ?`)
	selectAborted = sql(`SELECT session_id FROM submissions s WHERE status = 1 AND abort_requested = 1
		AND EXISTS (SELECT 1 FROM lanes l WHERE l.session_id = s.session_id AND l.state = 2 AND l.owner = ?) ORDER BY session_id`)
)

// RequestAbort implements submission.Store. No event tells of a queued one's end: only owners append.
func (s *Store) RequestAbort(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	err = s.write(ctx, func(t tx) error {
		if sub, _, err = t.getSubmission(tenant, id); err != nil {
			return err
		}
		switch {
		case sub.Status == submission.Queued:
			if _, err := t.exec(abortQueued, t.micros(), id); err != nil {
				return err
			}
			if _, err := t.exec(unqueue, sub.SessionID); err != nil {
				return err
			}
		case sub.Status == submission.Running && !sub.AbortRequested:
			if _, err := t.exec(markRunning, id); err != nil {
				return err
			}
		default:
			return nil
		}
		sub, _, err = t.getSubmission(tenant, id)
		return err
	})
	return sub, err
}

// AbortRequests implements submission.Store.
func (s *Store) AbortRequests(ctx context.Context, owner string) (sessions []string, err error) {
	err = s.read(ctx, func(c *conn) error {
		sessions, err = c.texts(selectAborted, owner)
		return err
	})
	return sessions, err
}
