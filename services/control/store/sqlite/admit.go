package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// States of a lane, as numbered in the database.
const (
	laneIdle int64 = iota
	laneReady
	laneRunning
)

var (
	selectKeyed = sql(`SELECT s.input_hash, s.submission_id FROM submissions s WHERE s.idem_key = ?2 AND s.session_id =
		(SELECT session_id FROM sessions WHERE tenant = ?3 AND agent = ?4 AND instance = ?5 AND name = ?6)
		UNION ALL SELECT hash, submission_id FROM receipts WHERE scope = ?1 AND idem_key = ?2 AND expires > ?7`)
	insertReceipt = sql(`INSERT OR REPLACE INTO receipts (scope, idem_key, tenant, hash, submission_id, expires) VALUES (?, ?, ?, ?, ?, ?)`)
	selectLane    = sql(`SELECT k.session_id, k.executor, l.state, l.next_seq, l.epoch, l.entry_head, l.event_head
		FROM sessions k JOIN lanes l ON l.session_id = k.session_id WHERE k.tenant = ? AND k.agent = ? AND k.instance = ? AND k.name = ?`)
	insertSession = sql(`INSERT INTO sessions (session_id, tenant, agent, instance, name, created_at) VALUES (?, ?, ?, ?, ?, ?)`)
	insertLane    = sql(`INSERT INTO lanes (session_id, tenant, state, next_seq, pending, ready_at, owner, epoch, entry_head, event_head)
		VALUES (?, ?, ?, 2, 1, ?, ?, ?, ?, ?)`)
	queueOnLane = sql(`UPDATE lanes SET next_seq = next_seq + 1, pending = pending + 1, ready_at = iif(state = 0, ?, ready_at),
		state = iif(state = 0, 1, state) WHERE session_id = ?`)
	startOnLane = sql(`UPDATE lanes SET next_seq = next_seq + 1, pending = pending + 1, state = 2, ready_at = ?, owner = ?, epoch = epoch + 1,
		entry_head = entry_head + 1, event_head = event_head + 1 WHERE session_id = ? AND state = 0`)
	insertSubmission = sql(`INSERT INTO submissions (submission_id, tenant, session_id, seq, idem_key, input_hash, agent_digest, input, event_base,
		status, phase, turn, input_entry, timeout_us, deadline, accepted_at, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
)

// lane is a lane's row as an admission finds it.
type lane struct {
	sessionID string
	executor  string
	isNew     bool
	state     int64
	nextSeq   int64
	epoch     int64
	entryHead int64
	eventHead int64
}

// Admit implements submission.Store.
func (s *Store) Admit(ctx context.Context, a submission.Admission) (out submission.Admitted, err error) {
	if len(a.Input) == 0 {
		return out, fmt.Errorf("admitting %s: no input", a.ID)
	}
	if a.Key.Tenant == "" {
		a.Key.Tenant = session.DefaultTenant
	}
	err = s.write(ctx, func(t tx) (err error) {
		out, err = t.admit(a)
		return err
	})
	return out, err
}

func (t tx) admit(a submission.Admission) (out submission.Admitted, err error) {
	if a.IdempotencyKey != "" {
		if out, found, err := t.replay(a); found || err != nil {
			return out, err
		}
	}
	if a.ReplayOnly {
		return out, submission.ErrNotFound
	}
	l, err := t.findLane(a.Key)
	if err != nil {
		return out, err
	}
	start := a.Owner != "" && l.state == laneIdle
	out = admitted(a, l, start, t.now)
	if err := t.enqueue(a, l, start); err != nil {
		return out, err
	}
	if err := t.addSubmission(a, out); err != nil {
		return out, err
	}
	if start {
		if err := t.addStart(a, out); err != nil {
			return out, err
		}
	}
	if a.IdempotencyKey != "" {
		_, err = t.exec(insertReceipt, scope(a.Key), a.IdempotencyKey, a.Key.Tenant, a.InputHash, a.ID,
			t.now.Add(submission.ReceiptLife).UnixMicro())
	}
	return out, err
}

// scope names a session for its receipts, which may outlive its id. Parts are quoted so that no two keys are the same.
func scope(k session.Key) string {
	escape := strings.NewReplacer(`\`, `\\`, `/`, `\/`)
	return escape.Replace(k.Tenant) + "/" + escape.Replace(k.Agent) + "/" + escape.Replace(k.Instance) + "/" +
		escape.Replace(k.Name)
}

// replay answers an admission whose key was used before.
func (t tx) replay(a submission.Admission) (out submission.Admitted, found bool, err error) {
	k := a.Key
	r, err := t.row(selectKeyed, scope(k), a.IdempotencyKey, k.Tenant, k.Agent, k.Instance, k.Name, t.micros())
	if err != nil || r == nil {
		return out, false, err
	}
	if !bytes.Equal(r.blob(0), a.InputHash) {
		return out, true, submission.ErrIdempotencyConflict
	}
	out.Replayed = true
	out.Submission, out.EventHead, err = t.getSubmission(k.Tenant, r.text(1))
	if errors.Is(err, submission.ErrNotFound) { // it is gone with its session
		out.Submission = submission.Submission{
			ID: r.text(1), Key: k, IdempotencyKey: a.IdempotencyKey,
			Status: submission.SettledStatus,
		}
		err = nil
	}
	return out, true, err
}

func (t tx) findLane(k session.Key) (lane, error) {
	r, err := t.row(selectLane, k.Tenant, k.Agent, k.Instance, k.Name)
	if err != nil {
		return lane{}, err
	}
	if r != nil {
		return lane{
			sessionID: r.text(0), executor: r.text(1), state: r.int(2), nextSeq: r.int(3), epoch: r.int(4), entryHead: r.int(5), eventHead: r.int(6),
		}, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return lane{}, fmt.Errorf("making a session id: %w", err)
	}
	return lane{sessionID: id.String(), isNew: true, nextSeq: 1}, nil
}

// admitted is the answer, as far as it is known before anything is written.
func admitted(a submission.Admission, l lane, start bool, now time.Time) submission.Admitted {
	at := time.UnixMicro(now.UnixMicro()).UTC()
	sub := submission.Submission{
		ID: a.ID, SessionID: l.sessionID, Key: a.Key, Seq: l.nextSeq, IdempotencyKey: a.IdempotencyKey, AgentDigest: a.AgentDigest,
		Input: a.Input, Status: submission.Queued, Timeout: a.Timeout.Truncate(time.Microsecond), AcceptedAt: at,
	}
	out := submission.Admitted{EventHead: l.eventHead}
	if start {
		sub.Status, sub.Phase, sub.Turn, sub.Input = submission.Running, submission.PhaseModel, 1, nil
		sub.InputEntry, sub.StartedAt = l.entryHead+1, at
		if sub.Timeout > 0 {
			sub.Deadline = at.Add(sub.Timeout)
		}
		out.Lease = &submission.Lease{
			Fence: submission.Fence{SessionID: l.sessionID, Epoch: l.epoch + 1}, Submission: sub,
			EntryHead: l.entryHead + 1, EventHead: l.eventHead + 1, Executor: l.executor,
		}
	}
	out.Submission = sub
	return out
}

// enqueue makes or moves the lane.
func (t tx) enqueue(a submission.Admission, l lane, start bool) (err error) {
	switch {
	case l.isNew:
		if _, err = t.exec(insertSession, l.sessionID, a.Key.Tenant, a.Key.Agent, a.Key.Instance, a.Key.Name,
			t.micros()); err != nil {
			return err
		}
		state, owner, one := laneReady, any(nil), 0
		if start {
			state, owner, one = laneRunning, a.Owner, 1
		}
		_, err = t.exec(insertLane, l.sessionID, a.Key.Tenant, state, t.micros(), owner, one, one, one)
	case start:
		_, err = t.exec(startOnLane, t.micros(), a.Owner, l.sessionID)
	default:
		_, err = t.exec(queueOnLane, t.micros(), l.sessionID)
	}
	return err
}

func (t tx) addSubmission(a submission.Admission, out submission.Admitted) error {
	sub := out.Submission
	_, err := t.exec(insertSubmission, sub.ID, sub.Key.Tenant, sub.SessionID, sub.Seq, optional(sub.IdempotencyKey),
		a.InputHash, sub.AgentDigest,
		[]byte(sub.Input), out.EventHead, int64(sub.Status), int64(sub.Phase), sub.Turn, sub.InputEntry, sub.Timeout.Microseconds(),
		micros(sub.Deadline), t.micros(), micros(sub.StartedAt))
	return err
}

// addStart appends what a start commits: the input and the event that tells of it.
func (t tx) addStart(a submission.Admission, out submission.Admitted) error {
	l := out.Lease
	e := entry{seq: l.EntryHead, submissionID: a.ID, kind: session.Input, body: a.Input}
	if err := t.addEntry(l.Fence.SessionID, a.Key.Tenant, e); err != nil {
		return err
	}
	body, err := json.Marshal([]event.Event{{
		Time: l.Submission.StartedAt, SubmissionID: a.ID, Turn: 1, Type: event.Started, EntrySeq: l.EntryHead,
	}})
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	return t.addSegment(l.Fence, a.Key.Tenant, segment{
		first: l.EventHead, last: l.EventHead, kind: event.Bounds,
		body: body,
	})
}
