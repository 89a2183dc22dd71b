package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/rows"
	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	selectReceipt = sql(`SELECT s.input_hash, s.submission_id FROM submissions s WHERE s.idem_key = ?2
		AND s.session_id = ?3
		UNION ALL SELECT hash, submission_id FROM receipts WHERE scope = ?1 AND idem_key = ?2 AND expires > ?4`)
	insertReceipt = sql(`INSERT OR REPLACE INTO receipts (scope, idem_key, tenant, hash, submission_id, expires)
		VALUES (?, ?, ?, ?, ?, ?)`)
	selectNamed = sql(`SELECT session_id, executor, name, rewound_to FROM sessions
		WHERE tenant = ? AND agent = ? AND instance = ? AND name = ?`)
	selectPinned = sql(`SELECT session_id, executor, name, rewound_to FROM sessions
		WHERE session_id = ? AND tenant = ?`)
	isDeleting = sql(`SELECT 1 FROM deletions WHERE tenant = ?1 AND agent IN ('', ?2) AND instance IN ('', ?3)
		AND name IN ('', ?4) AND done_at IS NULL LIMIT 1`)
	insertSession = sql(`INSERT INTO sessions (session_id, lane_id, tenant, agent, instance, name, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`)
	insertSubmission = sql(`INSERT INTO submissions (submission_id, lane_id, session_id, tenant, seq, idem_key,
		input_hash, agent_digest, input, event_base, status, phase, turn, input_entry, entry_head, timeout_us, accepted_at,
		started_at, options, when_busy, host_id, wakes)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
)

// Admit implements submission.Store.
func (s *Store) Admit(ctx context.Context, a submission.Admission) (out submission.Admitted, err error) {
	if len(a.Input) == 0 {
		return out, fmt.Errorf("admitting %s: no input", a.ID)
	}
	if a.Key.Tenant == "" {
		a.Key.Tenant = session.DefaultTenant
	}
	err = s.writeOf(ctx, a.Key.Tenant, func(t tx) (err error) {
		if out, err = t.admit(a); err == nil && a.Record != nil && !out.Replayed {
			err = rows.AppendAudit(ctx, plain{s: s, t: &t}, *a.Record)
		}
		return err
	})
	return out, err
}

func (t tx) admit(a submission.Admission) (out submission.Admitted, err error) {
	at, err := t.place(a)
	if err != nil {
		return out, err
	}
	if a.IdempotencyKey != "" {
		if out, found, err := t.replay(a, at.id); found || err != nil {
			return out, err
		}
	}
	if a.ReplayOnly {
		return out, submission.ErrNotFound
	}
	if err := t.mayAdmit(&a, at); err != nil {
		return out, err
	}
	l, err := t.laneOf(a.Key, at)
	if err != nil {
		return out, err
	}
	out = queued(a, l, t.now)
	if a.WhenBusy != submission.Queue && l.state != idle {
		if err := t.meet(a, l, &out.Submission); err != nil {
			return out, err
		}
	}
	start := a.Owner != "" && l.state == idle
	l.pending++
	l.nextSeq++
	switch {
	case start:
		err = t.start(a, l, &out, at.executor)
	case l.state == idle:
		l.rest(t.micros())
	}
	if err != nil {
		return out, err
	}
	if l.rowid == 0 {
		err = t.addLane(l, a.Key)
	} else {
		err = t.save(l)
	}
	if err == nil {
		err = t.addSubmission(a, out)
	}
	if err == nil && a.IdempotencyKey != "" {
		_, err = t.exec(insertReceipt, scope(a.Key), a.IdempotencyKey, a.Key.Tenant, a.InputHash, a.ID,
			t.now.Add(submission.ReceiptLife).UnixMicro())
	}
	return out, err
}

// meet does with a busy lane what an admission wants.
func (t tx) meet(a submission.Admission, l *laneRow, sub *submission.Submission) error {
	head, err := t.head(l)
	if err != nil || head == nil {
		return err
	}
	runs := head.status == submission.Running
	if runs {
		sub.Host = head.id
	}
	switch {
	case a.WhenBusy == submission.Interrupt:
		sub.WhenBusy, l.urgent = submission.Interrupt, true
		if runs {
			return t.abort(l, head)
		}
	case runs:
		sub.WhenBusy = submission.Steer
		l.wake(t.micros())
	}
	return nil
}

// scope names a session for its receipts, which may outlive its id. Parts are quoted so that no two keys are the same.
func scope(k session.Key) string {
	escape := strings.NewReplacer(`\`, `\\`, `/`, `\/`)
	return escape.Replace(k.Tenant) + "/" + escape.Replace(k.Agent) + "/" + escape.Replace(k.Instance) + "/" +
		escape.Replace(k.Name)
}

// place is the session that an admission is for. Without an id there is none.
type place struct {
	id, executor, name string
	rewound            bool
}

func (t tx) place(a submission.Admission) (at place, err error) {
	k := a.Key
	q, args := selectNamed, []any{k.Tenant, k.Agent, k.Instance, k.Name}
	if a.SessionID != "" {
		q, args = selectPinned, []any{a.SessionID, k.Tenant}
	}
	r, err := t.row(q, args...)
	if err == nil && r != nil {
		at = place{id: r.text(0), executor: r.text(1), name: r.text(2), rewound: r.text(3) != ""}
	}
	return at, err
}

// mayAdmit refuses what no session takes, or the one that is meant. From here on the name is what it is by now.
func (t tx) mayAdmit(a *submission.Admission, at place) error {
	if a.SessionID != "" {
		switch a.Key.Name = at.name; {
		case at.id == "":
			return session.ErrNotFound
		case at.rewound:
			return session.ErrRewound
		}
	}
	k := a.Key
	deleting, err := t.row(isDeleting, k.Tenant, k.Agent, k.Instance, k.Name)
	if err == nil && deleting != nil {
		err = session.ErrDeleting
	}
	return err
}

// replay answers an admission whose key was used before, in the session with the id or in one that had its name.
func (t tx) replay(a submission.Admission, id string) (out submission.Admitted, found bool, err error) {
	k := a.Key
	r, err := t.row(selectReceipt, scope(k), a.IdempotencyKey, id, t.micros())
	if err != nil || r == nil {
		return out, false, err
	}
	if !bytes.Equal(r.blob(0), a.InputHash) {
		return out, true, submission.ErrIdempotencyConflict
	}
	out.Replayed = true
	sub, err := t.getSubmission(k.Tenant, r.text(1))
	switch {
	case err == nil:
		out.Submission, out.EventHead = sub.submission(t.damaged), sub.eventBase()
	case errors.Is(err, submission.ErrNotFound): // it is gone with its session
		out.Submission = submission.Submission{
			Loop: lane.Loop{ID: r.text(1), Key: k}, IdempotencyKey: a.IdempotencyKey, Status: submission.SettledStatus,
		}
		err = nil
	}
	return out, true, err
}

// laneOf returns a lane without a rowid when there is no session yet.
func (t tx) laneOf(k session.Key, at place) (l *laneRow, err error) {
	if at.id != "" {
		if l, err = t.lane(selectLane, at.id); err == nil && l == nil {
			err = submission.ErrSubAgent
		}
		return l, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("making a session id: %w", err)
	}
	return &laneRow{id: id.String(), tenant: k.Tenant, kind: lane.KindSession, nextSeq: 1, firstOpen: 1}, nil
}

// queued is the answer of an admission that waits.
func queued(a submission.Admission, l *laneRow, now time.Time) submission.Admitted {
	return submission.Admitted{EventHead: l.eventHead, Submission: submission.Submission{
		Loop: lane.Loop{
			ID: a.ID, LaneID: l.id, RootID: a.ID, SessionID: l.id, Key: a.Key, Seq: l.nextSeq, AgentDigest: a.AgentDigest,
			Input: a.Input, Timeout: a.Timeout.Truncate(time.Microsecond), Options: a.Options,
		},
		IdempotencyKey: a.IdempotencyKey, AcceptedAt: time.UnixMicro(now.UnixMicro()).UTC(),
	}}
}

// start takes the idle lane and appends what a start commits: the input and the event that tells of it.
func (t tx) start(a submission.Admission, l *laneRow, out *submission.Admitted, executor string) error {
	var head int64
	if l.rowid != 0 {
		var err error
		if head, err = t.entryHead(l.id); err != nil {
			return err
		}
	}
	sub := &out.Submission
	sub.Status, sub.Phase, sub.Turn, sub.Input = submission.Running, lane.PhaseModel, 1, nil
	sub.InputEntry, sub.EntryHead, sub.StartedAt = head+1, head+1, sub.AcceptedAt
	l.state, l.owner, l.dueAt, l.epoch = running, a.Owner, t.micros(), l.epoch+1
	l.endAfter(sub.Timeout, t.micros())
	seg, err := event.Pack(l.eventHead, []event.Event{{
		Seq: l.eventHead + 1, Time: sub.StartedAt, SubmissionID: a.ID, Turn: 1, Type: event.Started, EntrySeq: head + 1,
	}})
	if err != nil {
		return err
	}
	l.eventHead = seg.Last
	e := entry{seq: head + 1, submissionID: a.ID, kind: session.Input, body: a.Input}
	if err := errors.Join(t.addSegment(l, nil, seg), t.addEntry(l.id, l.tenant, e)); err != nil {
		return err
	}
	out.Lease = &lane.Lease{
		Fence: lane.Fence{LaneID: l.id, Epoch: l.epoch}, Kind: l.kind, Loops: []lane.Loop{sub.Loop}, EventHead: seg.Last,
		Mail: l.mail, Ends: l.ends.remaining(t.micros()), Executor: executor,
	}
	return nil
}

// addLane makes a session and its lane.
func (t tx) addLane(l *laneRow, k session.Key) error {
	if _, err := t.exec(insertSession, l.id, l.id, k.Tenant, k.Agent, k.Instance, k.Name, t.micros()); err != nil {
		return err
	}
	_, err := t.exec(insertLane, l.id, l.tenant, int64(l.kind), l.state, l.dueAt, l.nextSeq, l.pending, optional(l.owner),
		l.epoch, l.eventHead, l.ends.at, int64(l.ends.why), l.ends.force)
	return err
}

func (t tx) addSubmission(a submission.Admission, out submission.Admitted) error {
	sub := out.Submission
	options, err := a.Options.Encode()
	if err != nil {
		return err
	}
	if err := t.addImages(sub.SessionID, sub.Key.Tenant, a.Images); err != nil {
		return err
	}
	_, err = t.exec(insertSubmission, sub.ID, sub.LaneID, sub.SessionID, sub.Key.Tenant, sub.Seq,
		optional(sub.IdempotencyKey), a.InputHash, sub.AgentDigest, []byte(sub.Input), out.EventHead, int64(sub.Status),
		int64(sub.Phase), sub.Turn, sub.InputEntry, sub.EntryHead, sub.Timeout.Microseconds(), t.micros(),
		micros(sub.StartedAt), optional(options), int64(sub.WhenBusy), optional(sub.Host), optional(a.Wakes))
	return err
}
