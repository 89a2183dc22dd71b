package rows

import (
	"context"

	"github.com/pawl-dev/pawl/internal/ident"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/run/drive"
)

const (
	// ofOrds is the records of a list of Ords.
	ofOrds = `(SELECT CAST(w.value AS int) FROM {list $2} w)`
	// stepColumns are of a record but for its run and its tenant.
	stepColumns = `ord, parent, path, kind, state, try, pausing, took_us, output, output_blob, failed, ref, due_at,
		folded, started_at, ended_at`
)

var (
	holdAttempt = reads(`SELECT r.submission_id, r.workflow, r.digest FROM runs r
		WHERE r.run_id = $1 AND r.tenant = $2`)
	queueAgain = writes(`UPDATE lanes SET state = 1, due_at = {never}, next_seq = next_seq + 1, pending = 1
		WHERE lane_id = $1 AND tenant = $2 AND kind = 2 AND state + 0 = 0 AND pending = 0
		RETURNING next_seq - 1, event_head`)
	dueAgain = writes(`UPDATE lanes SET due_at = {now} WHERE lane_id = $1`)
	runAgain = writes(`UPDATE runs SET attempt = attempt + 1, submission_id = $2, status = 0, conc_key = $3, place = $4,
		blocked = $5, evicted = false, started_at = NULL, ended_at = NULL, swept = false WHERE run_id = $1`)
	dropSteps = writes(`DELETE FROM run_steps WHERE run_id = $1 AND ord NOT IN ` + ofOrds)
	openSteps = writes(`UPDATE run_steps SET state = 1, pausing = false, output = NULL, output_blob = NULL,
		failed = NULL, due_at = NULL, ended_at = NULL WHERE run_id = $1 AND ord IN ` + ofOrds)
	unfold = writes(`UPDATE run_steps SET folded = false WHERE run_id = $1 AND folded AND parent IN ` + ofOrds)
	// Blobs that no record names any more.
	dropBlobs = writes(`DELETE FROM run_blobs WHERE run_id = $1
		AND digest <> COALESCE((SELECT r.input_blob FROM runs r WHERE r.run_id = $1), '')
		AND digest NOT IN (SELECT s.output_blob FROM run_steps s WHERE s.run_id = $1 AND s.output_blob IS NOT NULL)`)
	forkSteps = writes(`INSERT INTO run_steps (run_id, tenant, ` + stepColumns + `)
		SELECT p.id, $4, ` + stepColumns + ` FROM {ids $1} p CROSS JOIN run_steps
		WHERE run_id = $3 AND ord IN ` + ofOrds)
	forkBlobs = writes(`INSERT INTO run_blobs (run_id, tenant, digest, body) SELECT p.id, $3, b.digest, b.body
		FROM {ids $1} p CROSS JOIN run_blobs b WHERE b.run_id = $2 AND b.digest IN (SELECT s.output_blob
		FROM {ids $1} q CROSS JOIN run_steps s WHERE s.run_id = q.id AND s.output_blob IS NOT NULL)
		ON CONFLICT DO NOTHING`)
)

// RetryRunIn is run.Store's RetryRun in a transaction.
func (t *Tables) RetryRunIn(ctx context.Context, p RunTx, r run.Retry) (run.Started, error) {
	if !ident.IsUUID(r.RunID) {
		return run.Started{}, run.ErrNotFound
	}
	found, err := p.Query(ctx, holdAttempt, r.RunID, r.Tenant)
	if err != nil || len(found) == 0 {
		return run.Started{}, orMissing(err)
	}
	workflow := found[0].text(1)
	if found[0].text(0) == r.SubmissionID { // by an earlier try
		return t.started(ctx, p, r.Tenant, r.RunID, r.Owner)
	}
	if err := mayMake(ctx, p, run.Key(r.Tenant, workflow, r.RunID)); err != nil {
		return run.Started{}, err
	}
	lane, err := p.Query(ctx, queueAgain, r.RunID, r.Tenant)
	if err != nil || len(lane) == 0 {
		if err == nil {
			err = run.ErrNotEnded
		}
		return run.Started{}, err
	}
	if err := holdAt(ctx, p, r.Tenant, r.RunID, r.Of); err != nil {
		return run.Started{}, err
	}
	if r.Gate != nil && r.Gate.Key == "" {
		r.Gate = nil
	}
	place, err := enter(ctx, p, r.Tenant, workflow, r.Gate)
	if err != nil {
		return run.Started{}, err
	}
	if err := begin(ctx, p, r.RunID, r.Kept); err != nil {
		return run.Started{}, err
	}
	if _, err := p.Exec(ctx, insertAttempt, r.SubmissionID, r.Tenant, r.RunID, lane[0].int(0), found[0].text(2),
		lane[0].int(1), r.Timeout.Microseconds(), nil); err != nil {
		return run.Started{}, err
	}
	if _, err := p.Exec(ctx, runAgain, r.RunID, r.SubmissionID, optional(keyOf(r.Gate)), place,
		r.Gate != nil); err != nil {
		return run.Started{}, err
	}
	blocked, err := pass(ctx, p, Gate{r.Tenant, workflow, keyOf(r.Gate)}, r.RunID)
	if err == nil && !blocked {
		_, err = p.Exec(ctx, dueAgain, r.RunID)
	}
	if err == nil && r.Record != nil {
		err = AppendAudit(ctx, p, *r.Record)
	}
	if err != nil {
		return run.Started{}, err
	}
	return t.started(ctx, p, r.Tenant, r.RunID, r.Owner)
}

// holdAt holds a run while an attempt is its present one, "" for any.
func holdAt(ctx context.Context, p Port, tenant, runID, of string) error {
	if !ident.IsUUID(runID) {
		return run.ErrNotFound
	}
	held, err := p.Query(ctx, holdRun, runID, tenant)
	if err != nil || len(held) == 0 {
		return orMissing(err)
	}
	if of != "" && held[0].text(1) != of {
		return run.ErrChanged
	}
	return nil
}

func orMissing(err error) error {
	if err == nil {
		err = run.ErrNotFound
	}
	return err
}

// begin leaves the records with which an attempt begins.
func begin(ctx context.Context, p Port, runID string, k drive.Kept) error {
	if _, err := p.Exec(ctx, dropSteps, runID, ords(k.Records)); err != nil {
		return err
	}
	if err := reopen(ctx, p, runID, k.Reopen); err != nil {
		return err
	}
	_, err := p.Exec(ctx, dropBlobs, runID)
	return err
}

// reopen makes steps as if they had not ended. What is part of them is needed again.
func reopen(ctx context.Context, p Port, runID string, which []int) error {
	if len(which) == 0 {
		return nil
	}
	_, err := p.Exec(ctx, openSteps, runID, ords(which))
	if err == nil {
		_, err = p.Exec(ctx, unfold, runID, ords(which))
	}
	return err
}

// fork gives a new run the records that it begins with.
func fork(ctx context.Context, p Port, s run.Start) error {
	from, self := s.Fork, texts{s.ID}.json()
	if _, err := p.Exec(ctx, forkSteps, self, ords(from.Records), from.RunID, s.Tenant); err != nil {
		return err
	}
	if err := reopen(ctx, p, s.ID, from.Reopen); err != nil {
		return err
	}
	_, err := p.Exec(ctx, forkBlobs, self, from.RunID, s.Tenant)
	return err
}

func ords(of []int) string {
	if of == nil {
		of = []int{}
	}
	return encode(of)
}
