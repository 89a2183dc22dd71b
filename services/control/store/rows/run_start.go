package rows

import (
	"context"
	"errors"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// Gate names a concurrency key.
type Gate struct{ Tenant, Workflow, Key string }

// RunTx is a transaction that starts runs, with what each database does in its own way. A transaction may be tried
// again after its answer was lost.
type RunTx interface {
	Port
	// Promote lets runs of a key pass its gate while that has room, and posts mail for them, but not for self.
	Promote(ctx context.Context, g Gate, self string) error
	// Cancel makes a run end.
	Cancel(ctx context.Context, tenant, runID, submissionID string) error
	// Take makes somebody the owner of a run's lane, which is due, or has been his since an earlier try; nil if it is
	// neither.
	Take(ctx context.Context, runID, owner string) (*lane.Lease, error)
}

// ErrRaced says that another transaction has used the idempotency key meanwhile: try again.
var ErrRaced = errors.New("another transaction has used the idempotency key")

var (
	// What there is of a run that is to be started: the one of its id, that of its idempotency key, a receipt of that
	// or of its instant.
	earlierRuns = reads(`SELECT r.input_hash, r.run_id FROM runs r WHERE r.run_id = $1 AND r.tenant = $2
		UNION ALL SELECT r.input_hash, r.run_id FROM runs r WHERE $4 <> '' AND r.tenant = $2 AND r.workflow = $3
			AND r.idem_key = $4 AND r.idem_key IS NOT NULL
		UNION ALL SELECT hash, submission_id FROM receipts WHERE $6 <> '' AND scope = $5 AND idem_key = $6
			AND expires > {now}`)
	insertReceipt = writes(`INSERT INTO receipts (scope, idem_key, tenant, hash, submission_id, expires)
		VALUES ($1, $2, $3, $4, $5, {after $6}) ON CONFLICT (scope, idem_key) DO UPDATE SET hash = excluded.hash,
		submission_id = excluded.submission_id, expires = excluded.expires WHERE receipts.expires <= {now}`)
	insertRun = writes(`INSERT INTO runs (run_id, tenant, workflow, digest, input, input_blob, input_hash, idem_key,
		attempt, submission_id, status, conc_key, place, blocked, parent_run, parent_path, keep, schedule,
		scheduled_for, forked_from, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, 0, $10, $11, $12, $13, $14, $15, $16, $17, $18, {now})`)
	insertRunBlob = writes(`INSERT INTO run_blobs (run_id, digest, tenant, body) VALUES ($1, $2, $3, $4)
		ON CONFLICT DO NOTHING`)
	insertAttempt = writes(`INSERT INTO submissions (submission_id, tenant, lane_id, session_id, root_id, seq,
		agent_digest, event_base, status, timeout_us, accepted_at, wakes)
		VALUES ($1, $2, $3, $3, $1, $4, $5, $6, 0, $7, {now}, $8)`)
	insertRunLane = writes(`INSERT INTO lanes (lane_id, tenant, kind, state, due_at, next_seq, pending)
		VALUES ($1, $2, 2, 1, CASE WHEN $3 THEN {never} ELSE {now} END, 2, 1)`)
	isBlocked = reads(`SELECT blocked FROM runs WHERE run_id = $1`)

	// A run that enters has a place in the order of its key. One that only looks holds the key.
	enterKey = writes(`INSERT INTO conc_keys AS k (tenant, workflow, key, active, waiting, lim, seq)
		VALUES ($1, $2, $3, 0, $5, $4, 1) ON CONFLICT (tenant, workflow, key) DO UPDATE
		SET waiting = k.waiting + excluded.waiting, seq = k.seq + 1, lim = excluded.lim
		RETURNING active, waiting, lim, seq`)
	oldestOfKey = reads(`SELECT r.run_id, r.submission_id FROM runs r
		JOIN submissions s ON s.submission_id = r.submission_id
		WHERE r.tenant = $1 AND r.workflow = $2 AND r.conc_key = $3 AND r.conc_key IS NOT NULL AND r.status < 2
		AND NOT r.evicted AND COALESCE(CAST(s.abort_requested_at AS text), '0') = '0' ORDER BY r.place LIMIT 1`)
	evictRun = writes(`UPDATE runs SET evicted = true WHERE run_id = $1`)
)

// receipt names what is done once.
type receipt struct{ scope, key string }

// StartRunIn is run.Store's StartRun in a transaction.
func (t *Tables) StartRunIn(ctx context.Context, p RunTx, s run.Start) (run.Started, error) {
	return t.startOnce(ctx, p, s, receipt{startScope(s.Tenant, s.Workflow), s.IdempotencyKey})
}

// startOnce starts a run, once for each receipt.
func (t *Tables) startOnce(ctx context.Context, p RunTx, s run.Start, once receipt) (run.Started, error) {
	earlier, err := p.Query(ctx, earlierRuns, s.ID, s.Tenant, s.Workflow, s.IdempotencyKey, once.scope, once.key)
	if err != nil {
		return run.Started{}, err
	}
	if len(earlier) > 0 {
		return t.restarted(ctx, p, s, earlier[0])
	}
	if s.ReplayOnly {
		return run.Started{}, run.ErrNotFound
	}
	if s.Fork != nil {
		if err := holdAt(ctx, p, s.Tenant, s.Fork.RunID, s.Fork.Of); err != nil {
			return run.Started{}, err
		}
	}
	if err := mayMake(ctx, p, run.Key(s.Tenant, s.Workflow, s.ID)); err != nil {
		return run.Started{}, err
	}
	if once.key != "" {
		n, err := p.Exec(ctx, insertReceipt, once.scope, once.key, s.Tenant, s.InputHash, s.ID,
			submission.ReceiptLife.Microseconds())
		if err == nil && n == 0 {
			err = ErrRaced
		}
		if err != nil {
			return run.Started{}, err
		}
	}
	if s.Gate != nil && s.Gate.Key == "" {
		s.Gate = nil
	}
	place, err := enter(ctx, p, s.Tenant, s.Workflow, s.Gate)
	if err != nil {
		return run.Started{}, err
	}
	if err := insertStart(ctx, p, s, place); err != nil {
		return run.Started{}, err
	}
	blocked, err := pass(ctx, p, Gate{s.Tenant, s.Workflow, keyOf(s.Gate)}, s.ID)
	if err == nil {
		_, err = p.Exec(ctx, insertRunLane, s.ID, s.Tenant, blocked)
	}
	if err == nil && s.Record != nil {
		err = AppendAudit(ctx, p, *s.Record)
	}
	if err != nil {
		return run.Started{}, err
	}
	return t.started(ctx, p, s.Tenant, s.ID, s.Owner)
}

func keyOf(g *run.Gate) string {
	if g == nil {
		return ""
	}
	return g.Key
}

// restarted answers a start of which there is something.
func (t *Tables) restarted(ctx context.Context, p RunTx, s run.Start, earlier Row) (run.Started, error) {
	id := earlier.text(1)
	if id == s.ID {
		return t.started(ctx, p, s.Tenant, id, s.Owner) // by an earlier try
	}
	if s.IdempotencyKey != "" && string(earlier.blob(0)) != string(s.InputHash) {
		return run.Started{}, submission.ErrIdempotencyConflict
	}
	n, err := t.findRun(ctx, p, s.Tenant, id)
	if errors.Is(err, run.ErrNotFound) { // it is gone
		n, err = run.Run{ID: id, Tenant: s.Tenant, Workflow: s.Workflow}, nil
	}
	return run.Started{Run: n, Replayed: true}, err
}

// started is a run as it is now. If somebody is to own it, he does unless it is blocked.
func (t *Tables) started(ctx context.Context, p RunTx, tenant, id, owner string) (out run.Started, err error) {
	if owner != "" {
		if out.Lease, err = p.Take(ctx, id, owner); err != nil {
			return out, err
		}
	}
	out.Run, err = t.findRun(ctx, p, tenant, id)
	return out, err
}

// enter takes a place at a gate, 0 for none. A run that the key refuses has none.
func enter(ctx context.Context, p RunTx, tenant, workflow string, g *run.Gate) (place int64, err error) {
	if g == nil {
		return 0, nil
	}
	key := func(enter int) (Row, error) {
		found, err := p.Query(ctx, enterKey, tenant, workflow, g.Key, g.Limit, enter)
		if err != nil {
			return nil, err
		}
		return found[0], nil
	}
	if g.Policy == run.Reject {
		k, err := key(0)
		if err != nil {
			return 0, err
		}
		if k.int(0)+k.int(1) >= k.int(2) {
			return 0, run.ErrKeyBusy
		}
	}
	k, err := key(1)
	if err != nil {
		return 0, err
	}
	if g.Policy == run.CancelOldest && k.int(0) >= k.int(2) {
		err = evict(ctx, p, Gate{tenant, workflow, g.Key})
	}
	return k.int(3), err
}

// evict makes the oldest run of a key end that nobody has made end.
func evict(ctx context.Context, p RunTx, g Gate) error {
	found, err := p.Query(ctx, oldestOfKey, g.Tenant, g.Workflow, g.Key)
	if err != nil || len(found) == 0 {
		return err
	}
	id := found[0].text(0)
	if _, err := p.Exec(ctx, evictRun, id); err != nil {
		return err
	}
	return p.Cancel(ctx, g.Tenant, id, found[0].text(1))
}

// pass lets those of a key through for whom there is room, and says whether the run still waits.
func pass(ctx context.Context, p RunTx, g Gate, runID string) (blocked bool, err error) {
	if g.Key == "" {
		return false, nil
	}
	if err := p.Promote(ctx, g, runID); err != nil {
		return false, err
	}
	found, err := p.Query(ctx, isBlocked, runID)
	return err == nil && len(found) > 0 && found[0].bool(0), err
}

func insertStart(ctx context.Context, p RunTx, s run.Start, place int64) error {
	k := run.Key(s.Tenant, s.Workflow, s.ID)
	n, err := p.Exec(ctx, insertSession, s.ID, k.Tenant, k.Agent, k.Instance, k.Name, "", nil, nil, nil, 0)
	if err == nil && n == 0 {
		err = session.ErrExists
	}
	if err != nil {
		return err
	}
	in := newBlob(s.Input)
	var parent run.Parent
	if s.Parent != nil {
		parent = *s.Parent
	}
	var index, due, from any
	if s.Fired != nil {
		index, due = s.Fired.Index, s.Fired.For
	}
	if s.Fork != nil {
		from = s.Fork.RunID
	}
	if _, err := p.Exec(ctx, insertRun, s.ID, s.Tenant, s.Workflow, s.Digest, null(in.inline), optional(in.digest),
		null(s.InputHash), optional(s.IdempotencyKey), s.SubmissionID, optional(keyOf(s.Gate)), place, s.Gate != nil,
		optional(parent.RunID), parent.Path, parent.Keep, index, due, from); err != nil {
		return err
	}
	if in.digest != "" {
		if _, err := p.Exec(ctx, insertRunBlob, s.ID, in.digest, s.Tenant, in.body); err != nil {
			return err
		}
	}
	if _, err := p.Exec(ctx, insertAttempt, s.SubmissionID, s.Tenant, s.ID, 1, s.Digest, 0,
		s.Timeout.Microseconds(), optional(s.Wakes)); err != nil {
		return err
	}
	if s.Fork != nil {
		return fork(ctx, p, s)
	}
	return nil
}
