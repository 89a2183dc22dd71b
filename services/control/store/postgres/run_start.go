package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/run"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/rows"
	"github.com/pawl-dev/pawl/services/control/submission"
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// runStart is the start of a run in a group.
type runStart struct {
	rows.StartRow
	claimID string
}

// errNotFresh says that there is something of the run already, or that its session must not be made.
var errNotFresh = errors.New("the start has to look at what there is")

// startRow is a start with what is known when it is written.
type startRow struct {
	*runStart
	ord int32
	now time.Time
}

// record is a part of what is put on record; nil for none.
func record(get func(*rows.AuditRow) string) func(*startRow) *string {
	return func(r *startRow) *string {
		if r.Record == nil {
			return nil
		}
		v := get(r.Record)
		return &v
	}
}

var startTable = table[startRow]{
	col("ord", "int", func(r *startRow) int32 { return r.ord }),
	col("run_id", "uuid", func(r *startRow) string { return r.ID }),
	col("submission_id", "uuid", func(r *startRow) string { return r.SubmissionID }),
	col("tenant", "text", func(r *startRow) string { return r.Tenant }),
	col("workflow", "text", func(r *startRow) string { return r.Workflow }),
	col("agent", "text", func(r *startRow) string { return r.Agent }),
	col("digest", "text", func(r *startRow) string { return r.Digest }),
	col("input", "bytea", func(r *startRow) []byte { return r.Inline }),
	col("input_blob", "text", func(r *startRow) *string { return optional(r.Blob) }),
	col("body", "bytea", func(r *startRow) []byte { return r.Body }),
	col("hash", "bytea", func(r *startRow) []byte { return r.InputHash }),
	col("scope", "text", func(r *startRow) string { return r.Scope }),
	col("idem_key", "text", func(r *startRow) *string { return optional(r.IdempotencyKey) }),
	col("conc_key", "text", func(r *startRow) *string { return optional(r.Key()) }),
	col("lim", "bigint", func(r *startRow) int64 {
		if r.Gate == nil {
			return 0
		}
		return int64(r.Gate.Limit)
	}),
	col("parent_run", "uuid", func(r *startRow) *string { return optional(r.parent().RunID) }),
	col("parent_path", "text", func(r *startRow) string { return r.parent().Path }),
	col("keep", "bool", func(r *startRow) bool { return r.parent().Keep }),
	col("schedule", "bigint", func(r *startRow) *int64 {
		if r.Fired == nil {
			return nil
		}
		index := int64(r.Fired.Index)
		return &index
	}),
	col("scheduled_for", "timestamptz", func(r *startRow) *time.Time {
		if r.Fired == nil {
			return nil
		}
		return &r.Fired.For
	}),
	col("timeout_us", "bigint", func(r *startRow) int64 { return micros(r.Timeout) }),
	col("ends_at", "timestamptz", func(r *startRow) *time.Time {
		if r.Timeout <= 0 {
			return nil
		}
		at := r.now.Add(min(r.Timeout, longest))
		return &at
	}),
	col("wakes", "uuid", func(r *startRow) *string { return optional(r.Wakes) }),
	col("owner", "uuid", func(r *startRow) *string { return optional(r.Owner) }),
	col("claim_id", "uuid", func(r *startRow) string { return r.claimID }),
	col("event_id", "uuid", record(func(a *rows.AuditRow) string { return a.ID })),
	col("token_id", "text", record(func(a *rows.AuditRow) string { return a.TokenID })),
	col("verb", "text", record(func(a *rows.AuditRow) string { return a.Verb })),
	col("record", "text", record(func(a *rows.AuditRow) string { return a.Body })),
	col("of", "text", record(func(a *rows.AuditRow) string { return a.Tenant })),
}

func (r *runStart) parent() (p run.Parent) {
	if r.Parent != nil {
		p = *r.Parent
	}
	return p
}

// startsSQL makes runs of which there is nothing yet, whose sessions nobody deletes, and whose concurrency keys let
// nobody else pass now; $1 is the time, $2 the grace of runs. A run passes its key at once if there is room and nobody
// waits. Whoever uses an id meanwhile makes the statement fail. Rows that others may make too are locked in order. It
// answers for those that it made. Sub-selects and no NOT EXISTS: a planner that makes joins of these may read the other
// table from end to end.
var startsSQL = startTable.in(`
WITH i AS MATERIALIZED (SELECT t.*, $1::timestamptz AS now FROM {rows}
  WHERE (SELECT 1 FROM deletions d WHERE d.tenant = t.tenant AND d.agent IN ('', t.agent)
      AND d.instance IN ('', t.run_id::text) AND d.name IN ('', $3) AND d.done_at IS NULL LIMIT 1) IS NULL
    AND (SELECT 1 FROM runs o WHERE o.tenant = t.tenant AND o.workflow = t.workflow
      AND o.idem_key = t.idem_key AND o.idem_key IS NOT NULL) IS NULL
    AND (SELECT 1 FROM conc_keys o WHERE o.tenant = t.tenant AND o.workflow = t.workflow
      AND o.key = t.conc_key AND o.waiting > 0 AND o.active < t.lim) IS NULL),
q AS (INSERT INTO receipts (scope, idem_key, tenant, hash, submission_id, expires)
  SELECT scope, idem_key, tenant, hash, run_id, now + $4::bigint * interval '1 microsecond' FROM i
  WHERE idem_key IS NOT NULL ORDER BY scope, idem_key
  ON CONFLICT (scope, idem_key) DO UPDATE SET hash = excluded.hash, submission_id = excluded.submission_id,
    expires = excluded.expires WHERE receipts.expires <= $1 RETURNING scope, idem_key),
f AS MATERIALIZED (SELECT i.* FROM i LEFT JOIN q ON q.scope = i.scope AND q.idem_key = i.idem_key
  WHERE i.idem_key IS NULL OR q.scope IS NOT NULL),
k AS (INSERT INTO conc_keys AS k (tenant, workflow, key, active, waiting, lim, seq)
  SELECT tenant, workflow, conc_key, 1, 0, lim, 1 FROM f WHERE conc_key IS NOT NULL
  ORDER BY tenant, workflow, conc_key
  ON CONFLICT (tenant, workflow, key) DO UPDATE SET
    active = k.active + (k.waiting = 0 AND k.active < excluded.lim)::int,
    waiting = k.waiting + (k.waiting > 0 OR k.active >= excluded.lim)::int, seq = k.seq + 1, lim = excluded.lim
  RETURNING tenant, workflow, key, waiting, seq),
j AS MATERIALIZED (SELECT f.*, COALESCE(k.seq, 0) AS place, COALESCE(k.waiting, 0) > 0 AS blocked,
    owner IS NOT NULL AND COALESCE(k.waiting, 0) = 0 AS took
  FROM f LEFT JOIN k ON k.tenant = f.tenant AND k.workflow = f.workflow AND k.key = f.conc_key),
s AS (INSERT INTO sessions (session_id, tenant, lane_id, agent, instance, name, created_at)
  SELECT run_id, tenant, run_id, agent, run_id::text, $3, now FROM j),
u AS (INSERT INTO runs (run_id, tenant, workflow, digest, input, input_blob, input_hash, idem_key, attempt,
    submission_id, status, conc_key, place, blocked, parent_run, parent_path, keep, schedule, scheduled_for,
    created_at, started_at)
  SELECT run_id, tenant, workflow, digest, input, input_blob, hash, idem_key, 1, submission_id, took::int, conc_key,
    place, blocked, parent_run, parent_path, keep, schedule, scheduled_for, now, CASE WHEN took THEN now END FROM j),
b AS (INSERT INTO run_blobs (run_id, digest, tenant, body)
  SELECT run_id, input_blob, tenant, body FROM j WHERE input_blob IS NOT NULL),
a AS (INSERT INTO submissions (submission_id, tenant, lane_id, session_id, root_id, seq, agent_digest, event_base,
    status, timeout_us, accepted_at, started_at, wakes)
  SELECT submission_id, tenant, run_id, run_id, submission_id, 1, digest, 0, took::int, timeout_us, now,
    CASE WHEN took THEN now END, wakes FROM j),
l AS (INSERT INTO lanes (lane_id, tenant, kind, state, due_at, next_seq, pending, owner, claim_id, epoch, ends_at,
    ends_why, force_after)
  SELECT run_id, tenant, 2, 1 + took::int, CASE WHEN blocked THEN 'infinity' ELSE now END, 2, 1,
    CASE WHEN took THEN owner END, CASE WHEN took THEN claim_id END, took::int, CASE WHEN took THEN ends_at END,
    (took AND ends_at IS NOT NULL)::int,
    CASE WHEN took THEN ends_at + $2::bigint * interval '1 microsecond' END FROM j),
w AS (INSERT INTO audit (event_id, tenant, at, token_id, verb, body)
  SELECT event_id, "of", now, token_id, verb, record::jsonb FROM j WHERE event_id IS NOT NULL
  ON CONFLICT (event_id) DO NOTHING)
SELECT ord, blocked, took FROM j`, 4)

// startFresh starts a run of which there is nothing yet. Otherwise it fails with errNotFresh, or a violation.
func (s *Store) startFresh(ctx context.Context, n run.Start, claimID string) (out run.Started, err error) {
	if within := tenancy.Of(ctx); within != "" && within != n.Tenant {
		return out, tenancy.ErrForeign
	}
	row, err := rows.NewStartRow(n)
	if err != nil {
		return out, err
	}
	if !row.Fresh() {
		return out, errNotFresh
	}
	of := row.Key()
	switch { // a statement meets no key twice
	case of != "":
		of = "key " + n.Workflow + " " + of
	case n.IdempotencyKey != "":
		of = "idem " + n.Workflow + " " + n.IdempotencyKey
	default:
		of = n.ID
	}
	return s.starts.do(ctx, origin{n.Tenant, n.Tenant + " " + of}, runStart{row, claimID})
}

// flushStarts starts a batch of runs in one statement.
func (s *Store) flushStarts(ctx context.Context, ops []*op[runStart, run.Started]) error {
	now := s.now().Truncate(time.Microsecond)
	var all []startRow
	var keyed []string
	for i, o := range ops {
		if o.err = errNotFresh; o.again {
			continue // it may have been started
		}
		all = append(all, startRow{&o.in, int32(i), now})
		if o.in.Gate != nil {
			keyed = append(keyed, o.in.ID)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b startRow) int { return cmp.Compare(a.ID, b.ID) })
	batch := s.batch()
	batch.Queue(startsSQL, startTable.args(all, now, micros(lane.RunGrace), session.DefaultName,
		micros(submission.ReceiptLife))...).Query(func(found pgx.Rows) error {
		var i int
		var blocked, took bool
		_, err := pgx.ForEachRow(found, []any{&i, &blocked, &took}, func() error {
			ops[i].out, ops[i].err = ops[i].in.answer(now, blocked, took), nil
			return nil
		})
		return err
	})
	if len(keyed) > 0 {
		batch.Queue(promoteSQL, keyed, nil) // it may allow more than before as of this moment
	}
	return s.send(ctx, batch)
}

// answer is what a start comes to.
func (r *runStart) answer(now time.Time, blocked, took bool) run.Started {
	out := run.Started{Run: r.Run(now.UTC(), blocked, took)}
	if !took {
		return out
	}
	ends := lane.Ends{In: lane.Never}
	if r.Timeout > 0 {
		ends = lane.Ends{In: r.Timeout, Why: lane.Deadline}
	}
	out.Lease = &lane.Lease{
		Fence: lane.Fence{LaneID: r.ID, Epoch: 1}, Kind: lane.KindRun, Ends: ends,
		Loops: []lane.Loop{{
			ID: r.SubmissionID, LaneID: r.ID, RootID: r.SubmissionID, SessionID: r.ID,
			Key: run.Key(r.Tenant, r.Workflow, r.ID), Seq: 1, AgentDigest: r.Digest, Timeout: r.Timeout, StartedAt: now,
		}},
	}
	return out
}
