package sqlite

import (
	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	settleSubmission = sql(`UPDATE submissions SET status = 2, outcome = ?, reason = ?, message = ?, model = ?, usage = ?, result_entry = ?, settled_at = ?, cancellation = ?
		WHERE session_id = ? AND seq = ? AND status = 1`)
	// What comes after is decided by the counter, never by looking for queued submissions.
	leaveLane = sql(`UPDATE lanes SET pending = pending - 1, state = iif(pending > 1, 1, 0), ready_at = ?, owner = NULL
		WHERE session_id = ? RETURNING state`)
	keepLane = sql(`UPDATE lanes SET pending = pending - 1, state = iif(pending > 1, 2, 0), owner = iif(pending > 1, owner, NULL)
		WHERE session_id = ? RETURNING state`)
)

// settle ends the submission and hands the lane on. The commit's fence has been checked.
func (t tx) settle(st step, out submission.Committed) (submission.Committed, error) {
	s := st.Settle
	n, err := t.exec(settleSubmission, string(s.Outcome), s.Reason, s.Message, s.Model, st.settleUsage, s.ResultEntry,
		t.micros(),
		st.cancellation, st.Fence.SessionID, st.SubmissionSeq)
	if err == nil && n == 0 {
		err = submission.ErrFenced
	}
	if err != nil {
		return out, err
	}
	var r row
	if s.Continue {
		r, err = t.returning(keepLane, st.Fence.SessionID)
	} else {
		r, err = t.returning(leaveLane, t.micros(), st.Fence.SessionID)
	}
	if err != nil {
		return out, err
	}
	switch r.int(0) {
	case laneReady:
		out.Ready = true
	case laneRunning:
		out.Next, err = t.next(st)
	}
	return out, err
}

// next is the lease of the submission that follows the settled one in the same ownership.
func (t tx) next(st step) (*submission.Lease, error) {
	l, err := t.head(submission.Lease{Fence: st.Fence, EntryHead: st.newEntryHead, EventHead: st.newEventHead})
	return &l, err
}
