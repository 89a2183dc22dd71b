package postgres

import (
	"bytes"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// replay answers an admission that was accepted before: by an earlier call with the same idempotency key, or by this
// very call when the answer was lost. false means that it is new.
func (s *Store) replay(ctx context.Context, o *admissionOp) (answered bool, err error) {
	a := &o.in
	if o.again || a.tries > 0 {
		sub, hash, err := s.submission(ctx, `s.submission_id = $1`, a.ID)
		if err == nil && a.isFor(sub) { // nobody else has made one with this id
			o.out, err = s.lostAnswer(ctx, a, sub)
			return true, err
		}
		if err == nil {
			o.out, o.err = replayed(a, sub, hash)
			return true, nil
		}
		if !errors.Is(err, submission.ErrNotFound) {
			return false, err
		}
	}
	if a.IdempotencyKey == "" {
		return false, nil
	}
	where, args := `s.session_id = (SELECT session_id FROM sessions
		WHERE tenant = $2 AND agent = $3 AND instance = $4 AND name = $5)
		AND s.idem_key = $1`, []any{a.IdempotencyKey, a.Key.Tenant, a.Key.Agent, a.Key.Instance, a.Key.Name}
	if a.SessionID != "" {
		where, args = `s.session_id = $2 AND s.tenant = $3 AND s.idem_key = $1`,
			[]any{a.IdempotencyKey, a.SessionID, a.Key.Tenant}
	}
	sub, hash, err := s.submission(ctx, where, args...)
	if err == nil {
		o.out, o.err = replayed(a, sub, hash)
		return true, nil
	}
	if !errors.Is(err, submission.ErrNotFound) {
		return false, err
	}
	return s.receipt(ctx, o)
}

// receipt answers from the receipt of a submission whose row is gone with its session. An expired one makes way.
func (s *Store) receipt(ctx context.Context, o *admissionOp) (answered bool, err error) {
	a := &o.in
	if _, err := s.tell(ctx, `DELETE FROM receipts WHERE scope = $1 AND idem_key = $2
		AND expires <= $3::timestamptz`,
		a.scope, a.IdempotencyKey, s.now()); err != nil {
		return false, err
	}
	sub := stored{Submission: submission.Submission{
		Loop: lane.Loop{Key: a.Key}, IdempotencyKey: a.IdempotencyKey, Status: submission.SettledStatus,
	}}
	var hash []byte
	err = s.askOne(ctx, []any{&sub.ID, &hash}, `SELECT submission_id, hash FROM receipts
		WHERE scope = $1 AND idem_key = $2`, a.scope, a.IdempotencyKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// It is there under another name when its session was rewound.
	there, _, err := s.submission(ctx, `s.submission_id = $1 AND s.tenant = $2`, sub.ID, a.Key.Tenant)
	switch {
	case err == nil:
		name := there.Key
		there.Key = a.Key
		o.out, o.err = replayed(a, there, hash)
		o.out.Submission.Key = name
		return true, nil
	case !errors.Is(err, submission.ErrNotFound):
		return false, err
	}
	o.out, o.err = replayed(a, sub, hash)
	return true, nil
}

// isFor reports whether a submission is of the session that the admission is for.
func (a *admission) isFor(sub stored) bool {
	if a.SessionID != "" && sub.SessionID != "" { // whose name may have changed
		return sub.SessionID == a.SessionID
	}
	return sub.Key == a.Key
}

// replayed is the answer to a repeated admission.
func replayed(a *admission, sub stored, hash []byte) (submission.Admitted, error) {
	if !a.isFor(sub) || !bytes.Equal(hash, a.InputHash) {
		return submission.Admitted{}, submission.ErrIdempotencyConflict
	}
	return submission.Admitted{Submission: sub.Submission, Replayed: true, EventHead: sub.eventBase}, nil
}

// lostAnswer is the answer to an admission that was committed although the connection failed.
func (s *Store) lostAnswer(ctx context.Context, a *admission, sub stored) (submission.Admitted, error) {
	out := submission.Admitted{Submission: sub.Submission, EventHead: sub.eventBase}
	lease := lane.Lease{
		Fence: lane.Fence{LaneID: sub.LaneID}, Kind: lane.KindSession, Loops: []lane.Loop{sub.Loop},
	}
	var endsIn *int64
	var why int16
	err := s.askOne(ctx, []any{
		&lease.Fence.Epoch, &lease.EventHead, &lease.Mail, &endsIn, &why, &lease.Executor,
	}, `SELECT x.epoch, x.event_head, x.mail, `+endsSQL+`, k.executor
		FROM lanes x JOIN sessions k ON k.session_id = x.lane_id
		WHERE x.lane_id = $1 AND x.state + 0 = 2 AND x.claim_id = $3`, sub.LaneID, s.now(), a.claimID)
	if errors.Is(err, pgx.ErrNoRows) {
		return out, nil
	}
	if err == nil {
		lease.Ends = lane.Ends{In: remaining(endsIn), Why: lane.Why(why)}
		out.Lease = &lease
	}
	return out, err
}
