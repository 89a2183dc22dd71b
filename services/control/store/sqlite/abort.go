package sqlite

import (
	"context"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

const abortQueuedSQL = `UPDATE submissions SET status = 2, outcome = ?1, reason = ?2, message = ?3, cancellation = ?4,
	abort_requested_at = ?5, settled_at = ?5 `

var (
	abortQueued  = sql(abortQueuedSQL + `WHERE submission_id = ?6 AND status = 0`)
	abortQueue   = sql(abortQueuedSQL + `WHERE session_id = ?6 AND seq >= ?7 AND status = 0`)
	markAborted  = sql(`UPDATE submissions SET abort_requested_at = ? WHERE rowid = ? AND abort_requested_at = 0`)
	sessionThere = sql(`SELECT 1 FROM sessions WHERE session_id = ? AND tenant = ?`)
)

// RequestAbort implements submission.Store. No event tells of a queued one's end: only owners append.
func (s *Store) RequestAbort(ctx context.Context, tenant, id string) (sub submission.Submission, err error) {
	err = s.write(ctx, func(t tx) error {
		r, err := t.getSubmission(tenant, id)
		if err != nil {
			return err
		}
		err = t.requestAbort(r)
		if err == nil && r.status != submission.SettledStatus {
			r, err = t.getSubmission(tenant, id)
		}
		if err == nil {
			sub = r.submission(s.Damaged)
		}
		return err
	})
	return sub, err
}

// requestAbort makes a submission end, or settles it if it has not begun.
func (t tx) requestAbort(r *loopRow) error {
	l, err := t.lane(selectLane, r.laneID)
	switch {
	case err != nil:
	case r.status == submission.Queued:
		_, err = t.unqueue(l, abortQueued, r.id)
	case r.status == submission.Running:
		err = t.abort(l, r)
	}
	return err
}

// unqueue settles queued submissions as aborted and takes them out of their lane's count.
func (t tx) unqueue(l *laneRow, which statement, args ...any) (n int, err error) {
	z := submission.NeverBegan()
	st, err := encodeSettlement(&z)
	if err != nil {
		return 0, err
	}
	settled, err := t.exec(which, append([]any{
		string(z.Outcome), z.Reason, z.Message, st.cancellation, t.micros(),
	}, args...)...)
	if err != nil || settled == 0 {
		return 0, err
	}
	if l.pending -= settled; l.pending <= 0 && l.state == due { // a lane that runs goes on
		l.pending, l.state, l.urgent = 0, idle, false
	}
	if err := t.save(l); err != nil {
		return 0, err
	}
	if l.kind == lane.KindRun {
		if err := t.endRun(l.id); err != nil {
			return 0, err
		}
	}
	return int(settled), t.wakeAll(withdrawn, l.id, l.firstOpen, t.micros())
}

// withdrawn is the lanes that rest on submissions which were settled at a time without having begun.
var withdrawn = sql(`SELECT wakes FROM submissions WHERE session_id = ? AND seq >= ? AND status = 2 AND settled_at = ?
	AND wakes IS NOT NULL`)

// abort makes the head end now, and counts that as mail.
func (t tx) abort(l *laneRow, head *loopRow) error {
	n, err := t.exec(markAborted, t.micros(), head.rowid)
	if err != nil || n == 0 {
		return err
	}
	l.abort(t.micros())
	l.wake(t.micros())
	return t.save(l)
}

// RequestAbortSession implements submission.Store.
func (s *Store) RequestAbortSession(
	ctx context.Context, tenant, sessionID string,
) (settled int, running string, err error) {
	err = s.write(ctx, func(t tx) error {
		settled, running = 0, ""
		r, err := t.row(sessionThere, sessionID, tenant)
		if err == nil && r == nil {
			err = session.ErrNotFound
		}
		if err != nil {
			return err
		}
		l, err := t.lane(selectLane, sessionID)
		if err != nil || l == nil { // the conversation of a sub-agent has no queue
			return err
		}
		if settled, err = t.unqueue(l, abortQueue, sessionID, l.firstOpen); err != nil {
			return err
		}
		head, err := t.loop(selectHead, l.id, l.firstOpen)
		if err != nil || head == nil {
			return err
		}
		running = head.id
		return t.abort(l, head)
	})
	return settled, running, err
}
