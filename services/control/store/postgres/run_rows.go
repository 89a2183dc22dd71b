package postgres

import (
	"time"

	records "github.com/pawl-dev/pawl/services/control/step"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// recordRow is what became of a step of a run.
type recordRow struct {
	*rows.StepRow
	lane string
}

var runStepTable = table[recordRow]{
	col("lane_id", "uuid", func(r *recordRow) string { return r.lane }),
	col("ord", "int", func(r *recordRow) int32 { return int32(r.Ord) }),
	col("parent", "int", func(r *recordRow) int32 { return int32(r.Parent) }),
	col("path", "text", func(r *recordRow) string { return printable(r.Path) }),
	col("kind", "text", func(r *recordRow) string { return r.Kind }),
	col("state", "smallint", func(r *recordRow) int16 { return int16(r.State) }),
	col("try", "int", func(r *recordRow) int32 { return int32(r.Try) }),
	col("pausing", "bool", func(r *recordRow) bool { return r.Pausing }),
	col("took_us", "bigint", func(r *recordRow) int64 { return micros(r.Took) }),
	col("output", "bytea", func(r *recordRow) []byte { return r.Inline }),
	col("output_blob", "text", func(r *recordRow) *string { return optional(r.Blob) }),
	col("failed", "text", func(r *recordRow) *string { return optional(r.Cause) }),
	col("ref", "text", func(r *recordRow) string { return printable(r.Ref) }),
	col("due_at", "timestamptz", func(r *recordRow) *time.Time {
		at, _, _ := r.Due()
		return moment(at)
	}),
	col("wait_us", "bigint", func(r *recordRow) *int64 {
		at, after, ok := r.Due()
		if !ok || !at.IsZero() {
			return nil
		}
		us := micros(after)
		return &us
	}),
	col("folded", "bool", func(r *recordRow) bool { return r.Folded }),
}

// foldRow is a step whose parts are folded.
type foldRow struct {
	lane string
	ord  int
}

var foldTable = table[foldRow]{
	col("lane_id", "uuid", func(r *foldRow) string { return r.lane }),
	col("ord", "int", func(r *foldRow) int32 { return int32(r.ord) }),
}

var blobTable = table[recordRow]{
	col("lane_id", "uuid", func(r *recordRow) string { return r.lane }),
	col("digest", "text", func(r *recordRow) string { return r.Blob }),
	col("body", "bytea", func(r *recordRow) []byte { return r.Body }),
}

// signalRow is a signal that a step has received.
type signalRow struct {
	records.Taken
	lane string
}

var signalTable = table[signalRow]{
	col("lane_id", "uuid", func(r *signalRow) string { return r.lane }),
	col("seq", "bigint", func(r *signalRow) int64 { return r.Seq }),
	col("path", "text", func(r *signalRow) string { return printable(r.Path) }),
}

// addRun appends what a step says of a run.
func (rows *commitRows) addRun(p stepRow) {
	for i := range p.records {
		r := recordRow{&p.records[i], p.lane}
		if rows.records = append(rows.records, r); r.Folds {
			rows.folds = append(rows.folds, foldRow{p.lane, r.Ord})
		}
		if r.Blob != "" {
			rows.blobs = append(rows.blobs, r)
		}
	}
	for _, taken := range p.Taken {
		rows.signals = append(rows.signals, signalRow{taken, p.lane})
	}
}

// foldsSQL folds what steps of runs are made of, as far as it was recorded before this transaction.
var foldsSQL = foldTable.in(`
UPDATE run_steps s SET folded = true FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
WHERE s.run_id = t.lane_id AND s.parent = t.ord AND NOT s.folded`, 1)

// stepsSQL records what became of steps. It asserts that the lane is a run's, and that none has ended or is another:
// else it divides by zero.
var stepsSQL = runStepTable.in(`
WITH i AS MATERIALIZED (SELECT t.*, l.tenant, l.kind = 2 AS of_run, n.now FROM {rows}
  JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1 CROSS JOIN (SELECT `+nowSQL2+` AS now) n),
u AS (INSERT INTO run_steps AS s (run_id, ord, tenant, parent, path, kind, state, try, pausing, took_us, output,
    output_blob, failed, ref, due_at, folded, started_at, ended_at)
  SELECT lane_id, ord, tenant, parent, path, kind, state, try, pausing, took_us, output, output_blob, failed, ref,
    COALESCE(due_at, now + wait_us * interval '1 microsecond'), folded, now, CASE WHEN state > 1 THEN now END
  FROM i WHERE of_run
  ON CONFLICT (run_id, ord) DO UPDATE SET state = excluded.state, try = excluded.try, pausing = excluded.pausing,
    took_us = excluded.took_us, output = excluded.output, output_blob = excluded.output_blob,
    failed = excluded.failed, ref = excluded.ref, due_at = excluded.due_at, folded = s.folded OR excluded.folded,
    ended_at = excluded.ended_at
  WHERE s.state = 1 AND s.path = excluded.path RETURNING 1)
SELECT 1 / ((SELECT count(*) FROM u) = (SELECT count(*) FROM i))::int`, 2)

var blobsSQL = blobTable.in(`
INSERT INTO run_blobs (run_id, digest, tenant, body)
SELECT t.lane_id, t.digest, l.tenant, t.body FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
ON CONFLICT (run_id, digest) DO NOTHING`, 1)

// signalsSQL gives signals to steps. It asserts that no other step has them: that divides by zero. The
// condition is no index's: each is found by its key.
var signalsSQL = signalTable.in(`
WITH i AS MATERIALIZED (SELECT t.* FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1),
u AS (UPDATE run_signals g SET taken_by = i.path FROM i
  WHERE g.run_id = i.lane_id AND g.seq = i.seq AND COALESCE(g.taken_by, '') = '' RETURNING 1)
SELECT 1 / ((SELECT count(*) FROM u) = (SELECT count(*) FROM i))::int`, 1)
