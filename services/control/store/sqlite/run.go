package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	records "github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

var (
	startRun = sql(`UPDATE runs SET status = 1, started_at = ? WHERE run_id = ? AND status = 0`)
	// A run whose attempt has settled and that does not say so yet.
	selectEndedRun = sql(`SELECT r.tenant, r.workflow, r.conc_key, r.blocked, s.outcome FROM runs r
		JOIN submissions s ON s.submission_id = r.submission_id WHERE r.run_id = ? AND r.status < 2 AND s.status = 2`)
	endRun   = sql(`UPDATE runs SET status = ?, blocked = 0, ended_at = ? WHERE run_id = ?`)
	leaveKey = sql(`UPDATE conc_keys SET active = max(active - ?, 0), waiting = max(waiting - ?, 0)
		WHERE tenant = ? AND workflow = ? AND key = ?`)
	roomOfKey = sql(`SELECT lim - active FROM conc_keys
		WHERE tenant = ? AND workflow = ? AND key = ? AND lim > active`)
	firstOfKey = sql(`SELECT run_id FROM runs WHERE tenant = ? AND workflow = ? AND conc_key = ? AND blocked
		ORDER BY place LIMIT ?`)
	unblock = sql(`UPDATE runs SET blocked = 0 WHERE run_id = ?`)
	passKey = sql(`UPDATE conc_keys SET active = active + ?1, waiting = max(waiting - ?1, 0)
		WHERE tenant = ?2 AND workflow = ?3 AND key = ?4`)
	dropKey = sql(`DELETE FROM conc_keys
		WHERE tenant = ? AND workflow = ? AND key = ? AND active = 0 AND waiting = 0`)
	openBelow = sql(`SELECT submission_id FROM runs WHERE parent_run = ? AND NOT keep AND status < 2 ORDER BY run_id`)

	foldSteps = sql(`UPDATE run_steps SET folded = 1 WHERE run_id = ? AND parent = ? AND NOT folded`)
	// A record that has ended, or is of another step, is left as it is.
	recordStep = sql(`INSERT INTO run_steps (run_id, ord, tenant, parent, path, kind, state, try, pausing, took_us,
		output, output_blob, failed, ref, due_at, folded, started_at, ended_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id, ord) DO UPDATE
		SET state = excluded.state, try = excluded.try, pausing = excluded.pausing, took_us = excluded.took_us,
		output = excluded.output, output_blob = excluded.output_blob, failed = excluded.failed, ref = excluded.ref,
		due_at = excluded.due_at, folded = max(run_steps.folded, excluded.folded), ended_at = excluded.ended_at
		WHERE run_steps.state = 1 AND run_steps.path = excluded.path`)
	addRunBlob = sql(`INSERT INTO run_blobs (run_id, digest, tenant, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	takeSignal = sql(`UPDATE run_signals SET taken_by = ? WHERE run_id = ? AND seq = ? AND taken_by IS NULL`)
)

// commitRun writes what a step says of a run's steps and signals.
func (t tx) commitRun(l *laneRow, s step) error {
	if l.kind != lane.KindRun {
		return fmt.Errorf("lane %s is no run's", l.id)
	}
	for i := range s.records {
		if r := &s.records[i]; r.Folds {
			if _, err := t.exec(foldSteps, l.id, r.Ord); err != nil {
				return err
			}
		}
	}
	for i := range s.records {
		if err := t.record(l, &s.records[i]); err != nil {
			return fmt.Errorf("recording step %s: %w", s.records[i].Path, err)
		}
	}
	for _, taken := range s.Taken {
		n, err := t.exec(takeSignal, taken.Path, l.id, taken.Seq)
		if err == nil && n == 0 {
			err = fmt.Errorf("signal %d: %w", taken.Seq, records.ErrTaken)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t tx) record(l *laneRow, r *rows.StepRow) error {
	var due, ended, inline any
	if at, after, ok := r.Due(); ok && !at.IsZero() {
		due = at.UnixMicro()
	} else if ok {
		due = t.micros() + after.Microseconds()
	}
	if r.State.Ended() {
		ended = t.micros()
	}
	if r.Inline != nil {
		inline = r.Inline
	}
	if r.Blob != "" {
		if _, err := t.exec(addRunBlob, l.id, r.Blob, l.tenant, r.Body); err != nil {
			return err
		}
	}
	n, err := t.exec(recordStep, l.id, r.Ord, l.tenant, r.Parent, r.Path, r.Kind, int64(r.State), r.Try, r.Pausing,
		r.Took.Microseconds(), inline, optional(r.Blob), optional(r.Cause), r.Ref, due, r.Folded, t.micros(), ended)
	if err == nil && n == 0 {
		err = records.ErrEnded
	}
	return err
}

// endRun gives a run the status of its attempt, if that has settled. Its place at its concurrency key is free, and what
// it has started is cancelled if it was made to end.
func (t tx) endRun(id string) error {
	r, err := t.row(selectEndedRun, id)
	if err != nil || r == nil {
		return err
	}
	g, blocked, outcome := rows.Gate{Tenant: r.text(0), Workflow: r.text(1), Key: r.text(2)}, r.bool(3), r.text(4)
	status := run.StatusOf(lane.Outcome(outcome))
	if _, err := t.exec(endRun, int64(status), t.micros(), id); err != nil {
		return err
	}
	if g.Key != "" {
		if _, err := t.exec(leaveKey, !blocked, blocked, g.Tenant, g.Workflow, g.Key); err != nil {
			return err
		}
		if err := t.promote(g, ""); err != nil {
			return err
		}
	}
	if status == run.Completed || status == run.Failed {
		return nil
	}
	below, err := t.texts(openBelow, id)
	for _, sub := range below {
		if err == nil {
			err = t.cancelRun(g.Tenant, sub)
		}
	}
	return err
}

// cancelRun makes an attempt of a run end.
func (t tx) cancelRun(tenant, submissionID string) error {
	sub, err := t.getSubmission(tenant, submissionID)
	if err != nil {
		return err
	}
	return t.requestAbort(sub)
}

// promote lets runs of a key pass while there is room, the oldest first, and wakes them but for self.
func (t tx) promote(g rows.Gate, self string) error {
	key := []any{g.Tenant, g.Workflow, g.Key}
	room, err := t.row(roomOfKey, key...)
	if err != nil {
		return err
	}
	var first []string
	if room != nil {
		if first, err = t.texts(firstOfKey, append(key, room.int(0))...); err != nil {
			return err
		}
	}
	for _, id := range first {
		if _, err := t.exec(unblock, id); err != nil {
			return err
		}
		if id == self {
			continue
		}
		if err := t.wake(id); err != nil {
			return err
		}
	}
	if len(first) > 0 {
		_, err = t.exec(passKey, len(first), g.Tenant, g.Workflow, g.Key)
	} else {
		_, err = t.exec(dropKey, key...)
	}
	return err
}

// runTx implements rows.RunTx.
type runTx struct{ plain }

// Promote implements rows.RunTx.
func (p runTx) Promote(_ context.Context, g rows.Gate, self string) error {
	return p.t.promote(g, self)
}

// Cancel implements rows.RunTx.
func (p runTx) Cancel(_ context.Context, tenant, _, submissionID string) error {
	return p.t.cancelRun(tenant, submissionID)
}

// Take implements rows.RunTx.
func (p runTx) Take(_ context.Context, runID, owner string) (*lane.Lease, error) {
	l, err := p.t.lane(selectLane, runID)
	if err != nil || l == nil || l.state != due || l.dueAt > p.t.micros() {
		return nil, err
	}
	l.state, l.owner, l.epoch = running, owner, l.epoch+1
	return p.t.take(l, false)
}

// StartRun implements run.Store.
func (s *Store) StartRun(ctx context.Context, n run.Start) (out run.Started, err error) {
	err = s.writeOf(ctx, n.Tenant, func(t tx) (err error) {
		out, err = s.StartRunIn(ctx, runTx{plain{s: s, t: &t}}, n)
		return err
	})
	return out, wrapped("start a run", err)
}

// RetryRun implements run.Store.
func (s *Store) RetryRun(ctx context.Context, r run.Retry) (out run.Started, err error) {
	err = s.writeOf(ctx, r.Tenant, func(t tx) (err error) {
		out, err = s.RetryRunIn(ctx, runTx{plain{s: s, t: &t}}, r)
		return err
	})
	return out, wrapped("retry a run", err)
}

// Tell implements run.Store.
func (s *Store) Tell(ctx context.Context, n run.Telling) (told records.Signal, replayed bool, err error) {
	err = s.writeOf(ctx, n.Tenant, func(t tx) (err error) {
		told, replayed, err = rows.TellRunIn(ctx, plain{s: s, t: &t}, n)
		if err == nil && !replayed {
			err = t.wake(n.RunID)
		}
		return err
	})
	return told, replayed, wrapped("tell a run", err)
}

// Fire implements run.Store.
func (s *Store) Fire(ctx context.Context, of run.Schedule, next time.Time, starts []run.Start) (fired bool, err error) {
	err = s.writeOf(ctx, of.Tenant, func(t tx) (err error) {
		fired, err = s.FireIn(ctx, runTx{plain{s: s, t: &t}}, of, next, starts)
		return err
	})
	return fired && err == nil, wrapped("fire a schedule", err)
}

func wrapped(doing string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", doing, err)
	}
	return err
}
