package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	// moveHeads is the fence, the compare-and-swap of both heads and their move. Every commit begins with it.
	moveHeads = sql(`UPDATE lanes SET entry_head = ?1, event_head = ?2
		WHERE session_id = ?3 AND epoch = ?4 AND state = 2 AND entry_head = ?5 AND event_head = ?6 RETURNING tenant`)
	selectHeads = sql(`SELECT state, epoch, entry_head, event_head FROM lanes WHERE session_id = ?`)
	// advance tells by its row that the submission runs.
	advance = sql(`UPDATE submissions SET phase = ?1, turn = ?2, usage = ?3, input_entry = iif(input_entry = 0, ?4, input_entry),
		input = iif(?4 > 0, NULL, input), stalls = 0 WHERE session_id = ?5 AND seq = ?6 AND status = 1 RETURNING abort_requested_at`)
	unstall     = sql(`UPDATE submissions SET stalls = 0 WHERE session_id = ? AND seq = ? AND status = 1 RETURNING abort_requested_at`)
	peek        = sql(`SELECT abort_requested_at FROM submissions WHERE session_id = ? AND seq = ? AND status = 1`)
	peekAny     = sql(`SELECT abort_requested_at, status FROM submissions WHERE session_id = ? AND seq = ?`)
	bindSession = sql(`UPDATE sessions SET executor = ? WHERE session_id = ?`)
)

// step is a commit with everything encoded, which callers do side by side before they queue for the writer.
type step struct {
	submission.Commit
	tenant        string // the lane's
	entries       []entry
	events        segment
	progressUsage any
	settleUsage   any
	cancellation  any
	newEntryHead  int64
	newEventHead  int64
}

// Commit implements submission.Store.
func (s *Store) Commit(ctx context.Context, c submission.Commit) (out submission.Committed, err error) {
	st, err := encodeStep(c)
	if err != nil {
		return out, fmt.Errorf("committing to session %s: %w", c.Fence.SessionID, err)
	}
	err = s.write(ctx, func(t tx) (err error) {
		out, err = t.commit(st)
		return err
	})
	return out, err
}

func encodeStep(c submission.Commit) (st step, err error) {
	st = step{
		Commit:       c,
		newEntryHead: c.EntryHead + int64(len(c.Entries)), newEventHead: c.EventHead + int64(len(c.Events)),
	}
	if len(c.Events) == 0 {
		return st, errors.New("a commit needs an event")
	}
	for i, e := range c.Events {
		if want := c.EventHead + int64(i) + 1; e.Seq != want {
			return st, fmt.Errorf("event %d of the commit has seq %d, not %d", i, e.Seq, want)
		}
	}
	if st.entries, err = encodeEntries(c); err != nil {
		return st, err
	}
	st.events = segment{first: c.EventHead + 1, last: st.newEventHead, kind: event.KindOf(c.Events)}
	if st.events.body, err = json.Marshal(c.Events); err != nil {
		return st, fmt.Errorf("encoding events: %w", err)
	}
	if c.Progress != nil {
		if st.progressUsage, err = encodeUsage(c.Progress.Usage); err != nil {
			return st, err
		}
	}
	if c.Settle != nil {
		if st.settleUsage, err = encodeUsage(c.Settle.Usage); err != nil {
			return st, err
		}
		st.cancellation, err = encodeCancellation(c.Settle.Cancellation)
	}
	return st, err
}

func (t tx) commit(st step) (out submission.Committed, err error) {
	r, err := t.returning(moveHeads, st.newEntryHead, st.newEventHead, st.Fence.SessionID, st.Fence.Epoch,
		st.EntryHead, st.EventHead)
	if err != nil {
		return out, err
	}
	if r == nil {
		return t.again(st)
	}
	st.tenant = r.text(0)
	for _, e := range st.entries {
		if err := t.addEntry(st.Fence.SessionID, st.tenant, e); err != nil {
			return out, err
		}
	}
	if err := t.addSegment(st.Fence, st.tenant, st.events); err != nil {
		return out, err
	}
	if err := t.commitCalls(st); err != nil {
		return out, err
	}
	if st.Executor != "" {
		if _, err := t.exec(bindSession, st.Executor, st.Fence.SessionID); err != nil {
			return out, err
		}
	}
	if out.AbortRequested, err = t.progress(st); err != nil || st.Settle == nil {
		return out, err
	}
	return t.settle(st, out)
}

// progress moves the submission on and returns whether an abort is requested. A submission that does not run is not the
// owner's to write about.
func (t tx) progress(st step) (aborted bool, err error) {
	var r row
	switch p := st.Progress; {
	case p != nil:
		r, err = t.returning(advance, int64(p.Phase), p.Turn, st.progressUsage, p.InputEntry, st.Fence.SessionID,
			st.SubmissionSeq)
	case len(st.Entries) > 0:
		r, err = t.returning(unstall, st.Fence.SessionID, st.SubmissionSeq)
	default:
		r, err = t.row(peek, st.Fence.SessionID, st.SubmissionSeq)
	}
	if err != nil {
		return false, err
	}
	if r == nil {
		return false, submission.ErrFenced
	}
	return r.bool(0), nil
}

// again answers a commit whose heads do not fit. It is this very commit, retried after its answer was lost, when the
// epoch is the same, the heads have moved by it and no further, and the log holds its events; anything else is a stale
// owner's.
func (t tx) again(st step) (out submission.Committed, err error) {
	r, err := t.row(selectHeads, st.Fence.SessionID)
	if err != nil {
		return out, err
	}
	if r == nil || r.int(1) != st.Fence.Epoch || r.int(2) != st.newEntryHead || r.int(3) != st.newEventHead {
		return out, submission.ErrFenced
	}
	same, err := t.holds(st.Fence.SessionID, st.events)
	if err != nil {
		return out, err
	}
	if !same {
		return out, submission.ErrFenced
	}
	state := r.int(0)
	if r, err = t.row(peekAny, st.Fence.SessionID, st.SubmissionSeq); err != nil || r == nil {
		return out, errors.Join(err, notThere(r))
	}
	out.AbortRequested = r.bool(0)
	if settled := r.int(1) == int64(submission.SettledStatus); settled != (st.Settle != nil) {
		return submission.Committed{}, submission.ErrFenced
	}
	if st.Settle == nil {
		if state != laneRunning { // handed back since
			return submission.Committed{}, submission.ErrFenced
		}
		return out, nil
	}
	out.Ready = state == laneReady
	if state == laneRunning {
		out.Next, err = t.next(st)
	}
	return out, err
}

func notThere(r row) error {
	if r == nil {
		return submission.ErrFenced
	}
	return nil
}

// holds reports whether the log has the segment as it is.
func (t tx) holds(sessionID string, seg segment) (bool, error) {
	r, err := t.row(selectSegment, sessionID, seg.first)
	if err != nil || r == nil || r.int(0) != seg.last {
		return false, err
	}
	return string(r.blob(1)) == string(seg.body), nil
}
