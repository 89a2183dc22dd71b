package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// Runs end in the transactions that settle their attempts, whichever these are, with statements that find by
// themselves what has settled: done again, they change nothing. Whoever changes what counts for a concurrency key has
// locked the key's row, in order of the keys, after the lane and before rows of runs. Other lanes are not touched: what
// they have to hear is mail, or an abort on its way.

// endedRuns are the runs $1, as t.
const endedRuns = `FROM unnest($1::uuid[]) WITH ORDINALITY AS t(run_id, nth) JOIN runs r ON r.run_id = t.run_id
  AND t.nth BETWEEN 1 AND 1000000000`

const (
	lockKeysSQL = `
SELECT 1 FROM (SELECT DISTINCT r.tenant, r.workflow, r.conc_key ` + endedRuns + ` WHERE r.conc_key IS NOT NULL) i
JOIN conc_keys k ON k.tenant = i.tenant AND k.workflow = i.workflow AND k.key = i.conc_key
ORDER BY k.tenant, k.workflow, k.key FOR UPDATE OF k`

	// endRunsSQL gives runs the status of their attempts. What a run has started which was made to end is to be
	// cancelled.
	endRunsSQL = `
WITH e AS MATERIALIZED (SELECT r.run_id, r.tenant, r.workflow, r.conc_key, r.blocked, s.outcome ` + endedRuns + `
  JOIN submissions s ON s.submission_id = r.submission_id WHERE r.status < 2 AND s.status + 0 = 2),
u AS (UPDATE runs r SET blocked = false, ended_at = ` + nowSQL2 + `, status = CASE e.outcome WHEN 'completed' THEN 2
    WHEN 'failed' THEN 3 WHEN 'aborted' THEN 4 WHEN 'expired' THEN 5 ELSE 6 END
  FROM e WHERE r.run_id = e.run_id AND r.status < 2 RETURNING r.run_id),
n AS (SELECT e.tenant, e.workflow, e.conc_key, count(*) FILTER (WHERE NOT e.blocked) AS passed,
    count(*) FILTER (WHERE e.blocked) AS waited
  FROM e JOIN u ON u.run_id = e.run_id WHERE e.conc_key IS NOT NULL GROUP BY 1, 2, 3),
k AS (UPDATE conc_keys k SET active = greatest(k.active - n.passed, 0), waiting = greatest(k.waiting - n.waited, 0)
  FROM n WHERE k.tenant = n.tenant AND k.workflow = n.workflow AND k.key = n.conc_key)
INSERT INTO aborts (tenant, lane_id, submission_id)
SELECT c.tenant, c.run_id, c.submission_id FROM e JOIN u ON u.run_id = e.run_id JOIN runs c ON c.parent_run = e.run_id
WHERE e.outcome IN ('aborted', 'expired', 'interrupted') AND NOT c.keep AND c.status < 2 ORDER BY c.run_id`

	// promoteSQL lets runs of the keys of runs $1 pass while there is room, the oldest first, and wakes them but for
	// $2.
	promoteSQL = `
WITH k AS MATERIALIZED (SELECT k.tenant, k.workflow, k.key, k.lim - k.active AS room
  FROM (SELECT DISTINCT r.tenant, r.workflow, r.conc_key ` + endedRuns + ` WHERE r.conc_key IS NOT NULL) i
  JOIN conc_keys k ON k.tenant = i.tenant AND k.workflow = i.workflow AND k.key = i.conc_key WHERE k.lim > k.active),
b AS MATERIALIZED (SELECT b.run_id, k.tenant, k.workflow, k.key FROM k CROSS JOIN LATERAL (SELECT r.run_id FROM runs r
  WHERE r.tenant = k.tenant AND r.workflow = k.workflow AND r.conc_key = k.key AND r.blocked
  ORDER BY r.place LIMIT k.room) b),
u AS (UPDATE runs r SET blocked = false FROM b WHERE r.run_id = b.run_id),
n AS (SELECT tenant, workflow, key, count(*) AS passed FROM b GROUP BY 1, 2, 3),
c AS (UPDATE conc_keys c SET active = c.active + n.passed, waiting = greatest(c.waiting - n.passed, 0) FROM n
  WHERE c.tenant = n.tenant AND c.workflow = n.workflow AND c.key = n.key)
INSERT INTO wakes (tenant, lane_id) SELECT tenant, run_id FROM b WHERE run_id IS DISTINCT FROM $2::uuid`

	dropKeysSQL = `
DELETE FROM conc_keys k USING (SELECT DISTINCT r.tenant, r.workflow, r.conc_key ` + endedRuns + `
  WHERE r.conc_key IS NOT NULL) i
WHERE k.tenant = i.tenant AND k.workflow = i.workflow AND k.key = i.conc_key AND k.active = 0 AND k.waiting = 0`

	// beginRunsSQL is for the runs of a claim.
	beginRunsSQL = `
UPDATE runs r SET status = 1, started_at = $1::timestamptz FROM lanes l
WHERE l.state = 2 AND l.owner = $2::uuid AND l.claim_id = $3::uuid AND l.kind = 2 AND r.run_id = l.lane_id
  AND r.status = 0`
)

// endRuns queues what follows from the settlement of runs' attempts in the same transaction.
func endRuns(batch *pgx.Batch, ids []string, now time.Time) {
	if len(ids) == 0 {
		return
	}
	batch.Queue(lockKeysSQL, ids)
	batch.Queue(endRunsSQL, ids, now)
	batch.Queue(promoteSQL, ids, nil)
	batch.Queue(dropKeysSQL, ids)
}
