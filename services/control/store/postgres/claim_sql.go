package postgres

import "strings"

// Claiming is statements of one pipelined transaction, never one: the first re-checks a lane on its newest version when
// it had to follow it there, while a sub-select in the same statement would still look at submissions as they were
// before. The others have snapshots of their own, taken when the lanes are already locked.

const claimLanesSQL = `
WITH c AS (SELECT lane_id FROM lanes
  WHERE state = 1 AND kind = $4 AND due_at <= $5::timestamptz
  ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)` + takeSQL

// claimInTurnSQL claims while more lanes are due than are wanted. Tenants take turns: those after $7 in order of their
// names, and then the others, each with its share. It goes from tenant to tenant, and looks at the lanes of each from
// the first that is due: what it costs grows with the tenants that have lanes at rest, and not with these.
const claimInTurnSQL = `
WITH RECURSIVE t AS (
  (SELECT tenant COLLATE "C" AS tenant FROM lanes WHERE state = 1 AND kind = $4 ORDER BY tenant COLLATE "C" LIMIT 1)
  UNION ALL SELECT (SELECT l.tenant COLLATE "C" FROM lanes l WHERE l.state = 1 AND l.kind = $4
    AND l.tenant COLLATE "C" > t.tenant ORDER BY l.tenant COLLATE "C" LIMIT 1) FROM t WHERE t.tenant IS NOT NULL),
b AS MATERIALIZED (SELECT t.tenant FROM t WHERE (SELECT l.due_at FROM lanes l WHERE l.state = 1 AND l.kind = $4
    AND l.tenant COLLATE "C" = t.tenant ORDER BY l.due_at LIMIT 1) <= $5::timestamptz
  ORDER BY t.tenant <= $7::text COLLATE "C", t.tenant),
c AS (SELECT l.lane_id FROM b CROSS JOIN LATERAL (SELECT lane_id FROM lanes
    WHERE state = 1 AND kind = $4 AND tenant COLLATE "C" = b.tenant AND due_at <= $5::timestamptz
    ORDER BY due_at LIMIT (SELECT greatest(1, $3 / greatest(count(*), 1)) FROM b) FOR UPDATE SKIP LOCKED) l
  LIMIT $3)` + takeSQL

// takeSQL makes lanes c somebody's. A head whose time has passed while nobody ran it has the grace of its kind from now
// on, one of $6, in which its new owner can cancel its calls. It has that once: else it could be put off for ever.
const takeSQL = `
UPDATE lanes x SET state = 2, owner = $1, epoch = x.epoch + 1, claim_id = $2,
  force_after = CASE WHEN x.force_after <= x.ends_at + ($6::bigint[])[x.kind] * interval '1 microsecond'
    THEN greatest(x.force_after, $5::timestamptz + ($6::bigint[])[x.kind] * interval '1 microsecond')
    ELSE x.force_after END
FROM c WHERE x.lane_id = c.lane_id`

// takeLanesSQL goes from owner to owner of running lanes, of which there are few, and takes lanes of those that are
// named or, when none is, of those whose lease has expired or is gone. A lease that has expired is ended for good,
// under the lock of its row: a renewal that was sent in time and arrives after the lanes were taken is to find none.
const takeLanesSQL = `
WITH RECURSIVE o AS (
  (SELECT owner FROM lanes WHERE state = 2 AND owner IS NOT NULL ORDER BY owner LIMIT 1)
  UNION ALL SELECT (SELECT l.owner FROM lanes l WHERE l.state = 2 AND l.owner > o.owner ORDER BY l.owner LIMIT 1)
  FROM o WHERE o.owner IS NOT NULL),
e AS (UPDATE replicas r SET expires = 'epoch' FROM o
  WHERE cardinality($4::uuid[]) = 0 AND r.replica_id = o.owner AND r.expires <= $5::timestamptz
  RETURNING r.replica_id),
d AS (SELECT o.owner FROM o LEFT JOIN replicas r ON r.replica_id = o.owner
  WHERE cardinality($4::uuid[]) = 0 AND o.owner IS NOT NULL AND r.replica_id IS NULL
  UNION SELECT replica_id FROM e
  UNION SELECT unnest($4::uuid[])),
c AS (SELECT l.lane_id FROM d CROSS JOIN LATERAL (SELECT lane_id FROM lanes
    WHERE state = 2 AND owner = d.owner AND owner <> $1::uuid LIMIT $3 FOR UPDATE SKIP LOCKED) l LIMIT $3)` + takeSQL

// takenSQL counts the lanes of a claim whose answer was lost.
const takenSQL = `SELECT count(*) FROM lanes WHERE state = 2 AND owner = $1 AND claim_id = $2`

// firstSQL is where the head of lanes l is: the first open submission from there. What runs is the head, and then what
// interrupts.
const firstSQL = `CASE WHEN NOT l.urgent THEN l.first_open ELSE COALESCE(
    (SELECT u.seq FROM submissions u WHERE u.lane_id = l.lane_id AND u.status = 1 AND u.parent_call IS NULL),
    (SELECT u.seq FROM submissions u WHERE u.session_id = l.lane_id AND u.when_busy = 2 AND u.status = 0
      ORDER BY u.seq LIMIT 1), l.first_open) END`

// headsSQL starts, or goes on with, the submission at the head of lanes l: the oldest that has not settled. It is
// looked up where the lane says that these begin, whatever the length of the history. One that was to join another has
// its own place in the queue after all. One that starts gets its end from its timeout: from now on the lane's row alone
// can end it. No timeout is longer than the calendar of the database allows.
const headsSQL = `
WITH n AS (SELECT $2::timestamptz AS now),
h AS (UPDATE submissions s SET status = 1, attempts = s.attempts + $1::int, stalls = s.stalls + $1::int,
    started_at = COALESCE(s.started_at, n.now), event_base = CASE WHEN q.fresh THEN l.event_head ELSE s.event_base END,
    entry_head = CASE WHEN q.fresh THEN COALESCE((SELECT e.seq FROM entries e WHERE e.session_id = s.session_id
      ORDER BY e.seq DESC LIMIT 1), (SELECT f.forked_at FROM sessions f WHERE f.session_id = s.session_id), 0)
      ELSE s.entry_head END,
    host_id = CASE WHEN q.fresh AND s.when_busy = 1 THEN NULL ELSE s.host_id END,
    when_busy = CASE WHEN q.fresh AND s.when_busy = 1 THEN 0 ELSE s.when_busy END
  FROM n, lanes l {join} CROSS JOIN LATERAL (SELECT q.submission_id, q.started_at IS NULL AS fresh FROM submissions q
    WHERE q.session_id = l.lane_id AND q.seq >= ` + firstSQL + ` AND q.status + 0 < 2 ORDER BY q.seq LIMIT 1) q
  WHERE s.submission_id = q.submission_id AND s.status + 0 < 2 AND {lanes}
  RETURNING s.*, q.fresh, n.now + least(s.timeout_us, 3155760000000000) * interval '1 microsecond' AS ends),
e AS (UPDATE lanes x SET ends_at = h.ends, ends_why = 1,
    force_after = h.ends + ($3::bigint[])[x.kind] * interval '1 microsecond'
  FROM h WHERE x.lane_id = h.lane_id AND h.fresh AND h.timeout_us > 0 RETURNING x.lane_id, x.ends_at, x.ends_why)
SELECT ` + loopColumns + `, l.kind, l.epoch, l.event_head, l.mail,
  (extract(epoch FROM COALESCE(e.ends_at, l.ends_at) - n.now) * 1e6)::bigint, COALESCE(e.ends_why, l.ends_why),
  k.executor, l.due_at
FROM n, h s JOIN lanes l ON l.lane_id = s.lane_id JOIN sessions k ON k.session_id = s.session_id
  LEFT JOIN e ON e.lane_id = s.lane_id`

// headsOf is headsSQL for the lanes of a condition, whose parameters start at $4.
func headsOf(lanes, join string) string {
	return strings.NewReplacer("{lanes}", lanes, "{join}", join).Replace(headsSQL)
}

const ofClaim = "l.state = 2 AND l.owner = $4::uuid AND l.claim_id = $5::uuid"

var claimHeadsSQL = headsOf(ofClaim, "")

// nextHeadsSQL is headsSQL for lanes that the commit before it in the same transaction has kept. A submission that was
// admitted while the commit waited for its lane counts already, but the commit's own snapshot lacks it.
var nextHeadsSQL = keptTable.in(headsOf("l.state + 0 = 2 AND l.lane_id = t.lane_id AND l.epoch = t.epoch AND "+
	"l.event_head = t.event_head", "JOIN {rows} ON l.lane_id = t.lane_id"), 3)

// headSQL is the head of lanes l.
const headSQL = ` CROSS JOIN LATERAL (SELECT q.submission_id FROM submissions q
  WHERE q.session_id = l.lane_id AND q.seq >= ` + firstSQL + ` AND q.status + 0 < 2 ORDER BY q.seq LIMIT 1) h`

// childrenSQL is the open loops below the heads of a claim, and stallsSQL charges them for the death of their owner.
const (
	childrenSQL = `SELECT ` + loopColumns + ` FROM lanes l` + headSQL + `
JOIN submissions s ON s.root_id = h.submission_id AND s.parent_call IS NOT NULL AND s.status + 0 = 1
JOIN sessions k ON k.session_id = s.session_id
WHERE l.state = 2 AND l.owner = $1::uuid AND l.claim_id = $2::uuid ORDER BY s.submission_id`

	stallsSQL = `
UPDATE submissions s SET stalls = s.stalls + $1::int FROM lanes l` + headSQL + `
WHERE l.state = 2 AND l.owner = $2::uuid AND l.claim_id = $3::uuid
  AND s.root_id = h.submission_id AND s.parent_call IS NOT NULL AND s.status + 0 = 1`
)

// dueSQL is how long it is until the next lane of a kind is due. min(due_at) would read every entry of the kind.
const dueSQL = `
SELECT (extract(epoch FROM due_at - ($2::timestamptz)) * 1e6)::bigint
FROM lanes WHERE state = 1 AND kind = $1 AND due_at < 'infinity' ORDER BY due_at LIMIT 1`

// recountOf counts lanes anew that run and have no head where they say that it is: what they count, or where their
// queue begins, is wrong. Which lanes k these may be is filled in.
func recountOf(lanes string) string {
	return `
WITH n AS MATERIALIZED (SELECT k.lane_id, count(q.seq)::int AS open, min(q.seq) AS first FROM lanes k
  LEFT JOIN submissions q ON q.session_id = k.lane_id AND q.status + 0 < 2
  WHERE ` + lanes + ` AND NOT EXISTS (SELECT 1 FROM submissions h
    WHERE h.session_id = k.lane_id AND h.seq >= k.first_open AND h.status + 0 < 2)
  GROUP BY k.lane_id)
UPDATE lanes l SET pending = n.open, state = CASE WHEN n.open > 0 THEN 1 ELSE 0 END, owner = NULL, claim_id = NULL,
  first_open = COALESCE(n.first, l.next_seq), ends_at = NULL, ends_why = 0, force_after = NULL
FROM n WHERE l.lane_id = n.lane_id`
}

var (
	repairSQL  = recountOf("k.state = 2 AND k.owner = $1 AND k.claim_id = $2")
	recountSQL = recountOf("k.state + 0 = 2 AND k.lane_id = ANY($1::uuid[])")
)
