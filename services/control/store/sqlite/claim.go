package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pawl-dev/pawl/services/control/submission"
)

var (
	selectReady = sql(`SELECT session_id FROM lanes WHERE state = 1 ORDER BY ready_at, rowid LIMIT ?`)
	takeLane    = sql(`UPDATE lanes SET state = 2, owner = ?, epoch = epoch + 1 WHERE session_id = ? RETURNING epoch, entry_head, event_head`)
	// What a lane that was handed back left half-done goes on before the next one starts.
	startNext = sql(`UPDATE submissions SET status = 1, started_at = ?1, deadline = iif(timeout_us > 0, ?1 + timeout_us, 0)
		WHERE session_id = ?2 AND status = 0 AND seq = (SELECT seq FROM submissions WHERE session_id = ?2 AND status = 0 ORDER BY seq LIMIT 1)`)

	nextOwner   = sql(`SELECT owner FROM lanes WHERE state = 2 AND owner > ? ORDER BY owner LIMIT 1`)
	isLive      = sql(`SELECT 1 FROM replicas WHERE replica_id = ? AND expires > ?`)
	selectOwned = sql(`SELECT session_id FROM lanes WHERE state = 2 AND owner = ? ORDER BY rowid LIMIT ?`)
	ownedLanes  = sql(`SELECT session_id, epoch FROM lanes WHERE state = 2 AND owner = ?`)
	countDeath  = sql(`UPDATE submissions SET attempts = attempts + 1, stalls = stalls + 1 WHERE session_id = ? AND status = 1`)

	selectOverdue = sql(`SELECT session_id FROM submissions WHERE status = 1 AND abort_requested_at > 0 AND abort_requested_at <= ?1 AND forced_at <= ?1
		UNION ALL SELECT session_id FROM submissions WHERE status = 1 AND deadline > 0 AND deadline <= ?1 AND forced_at <= ?1
		AND NOT (abort_requested_at > 0 AND abort_requested_at <= ?1)`)
	isRunning  = sql(`SELECT 1 FROM lanes WHERE session_id = ? AND state = 2`)
	markForced = sql(`UPDATE submissions SET forced_at = ? WHERE session_id = ? AND status = 1`)

	releaseLane = sql(`UPDATE lanes SET state = 1, owner = NULL WHERE session_id = ? AND epoch = ? AND state = 2`)
	stall       = sql(`UPDATE submissions SET stalls = stalls + 1 WHERE session_id = ? AND status = 1`)
)

// Claim implements submission.Store.
func (s *Store) Claim(ctx context.Context, owner string, limit int) (leases []submission.Lease, err error) {
	err = s.write(ctx, func(t tx) error {
		ready, err := t.texts(selectReady, max(limit, 0))
		if err != nil {
			return err
		}
		leases = make([]submission.Lease, 0, len(ready))
		for _, id := range ready {
			l, err := t.take(owner, id)
			if err != nil {
				return fmt.Errorf("claiming session %s: %w", id, err)
			}
			leases = append(leases, l)
		}
		return nil
	})
	return leases, err
}

// take makes owner the lane's owner, with a new epoch, and its first submission the running one.
func (t tx) take(owner, sessionID string) (submission.Lease, error) {
	r, err := t.returning(takeLane, owner, sessionID)
	if err != nil {
		return submission.Lease{}, err
	}
	if r == nil {
		return submission.Lease{}, fmt.Errorf("session %s has no lane", sessionID)
	}
	l := submission.Lease{
		Fence: submission.Fence{SessionID: sessionID, Epoch: r.int(0)}, EntryHead: r.int(1),
		EventHead: r.int(2),
	}
	return t.head(l)
}

// head puts the lane's running submission into a lease, and starts the next one when none runs.
func (t tx) head(l submission.Lease) (submission.Lease, error) {
	r, err := t.row(selectRunning, l.Fence.SessionID)
	if err == nil && r == nil {
		if _, err = t.exec(startNext, t.micros(), l.Fence.SessionID); err == nil {
			r, err = t.row(selectRunning, l.Fence.SessionID)
		}
	}
	if err != nil {
		return l, err
	}
	if r == nil {
		return l, fmt.Errorf("session %s counts a submission that is not there", l.Fence.SessionID)
	}
	l.Executor = r.text(executorColumn)
	l.Submission = r.submission()
	return l, nil
}

// TakeOver implements submission.Store. An owner without a live lease counts as dead, whether it expired or was
// removed.
func (s *Store) TakeOver(
	ctx context.Context, owner string, dead []string, limit int,
) (leases []submission.Lease, err error) {
	err = s.write(ctx, func(t tx) error {
		orphans, err := t.orphans(owner, dead, limit)
		if err != nil {
			return err
		}
		leases = make([]submission.Lease, 0, len(orphans))
		for _, id := range orphans {
			if _, err := t.exec(countDeath, id); err != nil {
				return err
			}
			l, err := t.take(owner, id)
			if err != nil {
				return fmt.Errorf("taking over session %s: %w", id, err)
			}
			leases = append(leases, l)
		}
		return nil
	})
	return leases, err
}

// orphans finds running lanes of dead owners. It looks once at each owner of lanes, of which there are few, not at each
// lane.
func (t tx) orphans(owner string, dead []string, limit int) (sessions []string, err error) {
	for last := ""; len(sessions) < limit; {
		r, err := t.row(nextOwner, last)
		if err != nil || r == nil {
			return sessions, err
		}
		if last = r.text(0); last == owner {
			continue
		}
		if len(dead) > 0 && !slices.Contains(dead, last) {
			continue
		}
		if len(dead) == 0 {
			live, err := t.row(isLive, last, t.micros())
			if err != nil {
				return nil, err
			}
			if live != nil {
				continue
			}
		}
		more, err := t.texts(selectOwned, last, limit-len(sessions))
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, more...)
	}
	return sessions, nil
}

// TakeOverdue implements submission.Store.
func (s *Store) TakeOverdue(
	ctx context.Context, owner string, grace time.Duration, limit int,
) (leases []submission.Lease, err error) {
	err = s.write(ctx, func(t tx) error {
		leases = nil
		overdue, err := t.texts(selectOverdue, t.now.Add(-grace).UnixMicro())
		if err != nil {
			return err
		}
		for _, id := range overdue {
			if len(leases) >= limit {
				return nil
			}
			r, err := t.row(isRunning, id)
			if err != nil {
				return err
			}
			if r == nil {
				continue // handed back: whoever claims it ends it
			}
			if _, err := t.exec(markForced, t.micros(), id); err != nil {
				return err
			}
			l, err := t.take(owner, id)
			if err != nil {
				return fmt.Errorf("taking session %s from an owner that hangs: %w", id, err)
			}
			l.Forced = true
			leases = append(leases, l)
		}
		return nil
	})
	return leases, err
}

// OwnedLanes implements submission.Store.
func (s *Store) OwnedLanes(ctx context.Context, owner string) (lanes []submission.Fence, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.rows(ownedLanes, func(r row) (bool, error) {
			lanes = append(lanes, submission.Fence{SessionID: r.text(0), Epoch: r.int(1)})
			return true, nil
		}, owner)
	})
	return lanes, err
}

// Release implements submission.Store. The lane keeps its place among the ready ones: it has waited before.
func (s *Store) Release(ctx context.Context, f submission.Fence) error {
	return s.write(ctx, func(t tx) error { return t.release(f) })
}

// ReleaseStalled implements submission.Store.
func (s *Store) ReleaseStalled(ctx context.Context, f submission.Fence) error {
	return s.write(ctx, func(t tx) error {
		if err := t.release(f); err != nil {
			return err
		}
		_, err := t.exec(stall, f.SessionID)
		return err
	})
}

func (t tx) release(f submission.Fence) error {
	n, err := t.exec(releaseLane, f.SessionID, f.Epoch)
	if err == nil && n == 0 {
		return submission.ErrFenced
	}
	return err
}

// texts collects the first column of a query.
func (c *conn) texts(s statement, args ...any) (out []string, err error) {
	err = c.rows(s, func(r row) (bool, error) {
		out = append(out, r.text(0))
		return true, nil
	}, args...)
	return out, err
}
