package postgres

import "strings"

// resolveSQL is the read before an admission. Its clock is the admission's, so that the event that tells of the start
// can carry it.
const resolveSQL = `
SELECT t.ord, s.session_id, s.executor, l.entry_head, l.event_head, r.scope IS NOT NULL,
  clock_timestamp() + $8::bigint * interval '1 microsecond'
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
  AS t(ord, tenant, agent, instance, name, scope, idem_key)
LEFT JOIN sessions s ON s.tenant = t.tenant AND s.agent = t.agent AND s.instance = t.instance AND s.name = t.name
LEFT JOIN lanes l ON l.session_id = s.session_id
LEFT JOIN receipts r ON r.scope = t.scope AND r.idem_key = t.idem_key`

const admissionColumns = `
WITH i AS MATERIALIZED (SELECT * FROM unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::text[],
    $6::text[], $7::uuid[], $8::text[], $9::text[], $10::bytea[], $11::text[], $12::bytea[], $13::bigint[], $14::uuid[], $15::uuid[],
    $16::bigint[], $17::bigint[], $18::bytea[], $19::timestamptz[])
  AS t(ord, session_id, tenant, agent, instance, name, submission_id, idem_key, scope, hash, digest, input, timeout_us, owner,
    claim_id, entry_head, event_head, segment, now)),`

// freshSQL makes sessions. Everything is known beforehand: whoever made the session meanwhile makes the statement fail.
const freshSQL = admissionColumns + `
s AS (INSERT INTO sessions (session_id, tenant, agent, instance, name, created_at)
  SELECT session_id, tenant, agent, instance, name, now FROM i),
x AS (INSERT INTO lanes (session_id, tenant, state, next_seq, pending, ready_at, owner, claim_id, epoch, entry_head, event_head)
  SELECT session_id, tenant, CASE WHEN owner IS NULL THEN 1 ELSE 2 END, 2, 1, now, owner, CASE WHEN owner IS NULL THEN NULL ELSE claim_id END,
    (owner IS NOT NULL)::int, (owner IS NOT NULL)::int, (owner IS NOT NULL)::int FROM i),
l AS MATERIALIZED (SELECT i.*, 1::bigint AS seq, owner IS NOT NULL AS took, (owner IS NOT NULL)::int::bigint AS epoch, 0::bigint AS entry_base, 0::bigint AS event_base FROM i),`

// knownSQL queues at existing lanes and takes those that are idle and as they were read. A lane that was deleted
// meanwhile gives no row, and the admission is tried again.
var knownSQL = admissionColumns + strings.ReplaceAll(`
l AS (UPDATE lanes x SET next_seq = x.next_seq + 1, pending = x.pending + 1,
    state      = CASE WHEN x.state <> 0 THEN x.state WHEN {unchanged} THEN 2 ELSE 1 END,
    ready_at   = CASE WHEN x.state <> 0 THEN x.ready_at ELSE i.now END,
    owner      = CASE WHEN x.state <> 0 THEN x.owner WHEN {unchanged} THEN i.owner END,
    claim_id   = CASE WHEN x.state <> 0 THEN x.claim_id WHEN {unchanged} THEN i.claim_id END,
    epoch      = x.epoch      + (x.state = 0 AND {unchanged})::int,
    entry_head = x.entry_head + (x.state = 0 AND {unchanged})::int,
    event_head = x.event_head + (x.state = 0 AND {unchanged})::int
  FROM i WHERE x.session_id = i.session_id
  RETURNING i.ord, i.session_id, i.tenant, i.submission_id, i.idem_key, i.scope, i.hash, i.digest, i.input, i.timeout_us, i.segment, i.now,
    x.next_seq - 1 AS seq, x.claim_id IS NOT DISTINCT FROM i.claim_id AS took, x.epoch,
    x.entry_head - (x.claim_id IS NOT DISTINCT FROM i.claim_id)::int AS entry_base,
    x.event_head - (x.claim_id IS NOT DISTINCT FROM i.claim_id)::int AS event_base),`,
	"{unchanged}", "i.owner IS NOT NULL AND x.entry_head = i.entry_head AND x.event_head = i.event_head")

// admissionRows adds what hangs on the lanes: an admission that took its lane is started at once.
const admissionRows = `
e AS (INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
  SELECT session_id, entry_base + 1, tenant, submission_id, 'input', input, now FROM l WHERE took),
g AS (INSERT INTO segments (session_id, first_seq, last_seq, tenant, epoch, kind, body, created_at)
  SELECT session_id, event_base + 1, event_base + 1, tenant, epoch, 3, segment, now FROM l WHERE took),
b AS (INSERT INTO submissions (submission_id, tenant, session_id, seq, idem_key, input_hash, agent_digest, input, event_base,
    status, phase, turn, input_entry, timeout_us, deadline, accepted_at, started_at)
  SELECT submission_id, tenant, session_id, seq, idem_key, hash, digest, CASE WHEN took THEN NULL ELSE input END, event_base,
    took::int, took::int, took::int, CASE WHEN took THEN entry_base + 1 ELSE 0 END, timeout_us,
    CASE WHEN took AND timeout_us > 0 THEN now + timeout_us * interval '1 microsecond' END, now, CASE WHEN took THEN now END FROM l)`

const admissionReceipts = `,
r AS (INSERT INTO receipts (scope, idem_key, tenant, hash, submission_id, expires)
  SELECT scope, idem_key, tenant, hash, submission_id, now + interval '168 hours' FROM l WHERE idem_key IS NOT NULL)`

const admissionAnswer = `
SELECT ord, seq, took, epoch, entry_base, event_base FROM l`

// admissionSQL is indexed by [fresh][receipts].
var admissionSQL = map[bool]map[bool]string{
	true: {
		false: freshSQL + admissionRows + admissionAnswer,
		true:  freshSQL + admissionRows + admissionReceipts + admissionAnswer,
	},
	false: {
		false: knownSQL + admissionRows + admissionAnswer,
		true:  knownSQL + admissionRows + admissionReceipts + admissionAnswer,
	},
}
