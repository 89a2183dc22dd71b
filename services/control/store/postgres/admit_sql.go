package postgres

import (
	"strings"
	"time"

	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/rows"
)

// admitRow is an admission with where it goes.
type admitRow struct {
	*admission
	place
	ord     int32
	segment []byte
	options string
}

// resolveTable is what is known of an admission before it is known where it goes.
var resolveTable = table[admitRow]{
	col("ord", "int", func(r *admitRow) int32 { return r.ord }),
	col("tenant", "text", func(r *admitRow) string { return r.Key.Tenant }),
	col("agent", "text", func(r *admitRow) string { return r.Key.Agent }),
	col("instance", "text", func(r *admitRow) string { return r.Key.Instance }),
	col("name", "text", func(r *admitRow) string { return r.Key.Name }),
	col("idem_key", "text", func(r *admitRow) *string { return optional(r.IdempotencyKey) }),
	col("scope", "text", func(r *admitRow) string { return r.scope }),
}

// pinnedTable is resolveTable where sessions are meant by their ids.
var pinnedTable = append(resolveTable[:len(resolveTable):len(resolveTable)], table[admitRow]{
	col("pinned", "uuid", func(r *admitRow) *string { return optional(r.SessionID) }),
}...)

var admitTable = append(resolveTable[:len(resolveTable):len(resolveTable)], table[admitRow]{
	col("session_id", "uuid", func(r *admitRow) string { return r.sessionID }),
	col("submission_id", "uuid", func(r *admitRow) string { return r.ID }),
	col("hash", "bytea", func(r *admitRow) []byte { return r.InputHash }),
	col("digest", "text", func(r *admitRow) string { return r.AgentDigest }),
	col("input", "bytea", func(r *admitRow) []byte { return r.Input }),
	col("timeout_us", "bigint", func(r *admitRow) int64 { return r.Timeout.Microseconds() }),
	col("ends_at", "timestamptz", func(r *admitRow) *time.Time {
		if r.Timeout <= 0 {
			return nil
		}
		at := r.now.Add(min(r.Timeout, longest))
		return &at
	}),
	col("owner", "uuid", func(r *admitRow) *string { return optional(r.Owner) }),
	col("claim_id", "uuid", func(r *admitRow) string { return r.claimID }),
	col("entry_head", "bigint", func(r *admitRow) int64 { return r.entryHead }),
	col("event_head", "bigint", func(r *admitRow) int64 { return r.eventHead }),
	col("segment", "bytea", func(r *admitRow) []byte { return r.segment }),
	col("now", "timestamptz", func(r *admitRow) time.Time { return r.now }),
	col("options", "text", func(r *admitRow) *string { return optional(r.options) }),
	col("wakes", "uuid", func(r *admitRow) *string { return optional(r.Wakes) }),
}...)

// resolveSQL is the read before an admission. Its clock is the admission's, so that the event that tells of the start
// can carry it.
const resolveText = `
SELECT t.ord, s.session_id, COALESCE(s.lane_id <> s.session_id, false), COALESCE(s.executor, ''),
  COALESCE((SELECT e.seq FROM entries e WHERE e.session_id = s.session_id ORDER BY e.seq DESC LIMIT 1),
    s.forked_at, 0),
  COALESCE(l.event_head, 0), r.scope IS NOT NULL, EXISTS (SELECT 1 FROM deletions d WHERE d.tenant = t.tenant
    AND d.agent IN ('', t.agent) AND d.instance IN ('', t.instance) AND d.name IN ('', {name})
    AND d.done_at IS NULL), s.rewound_to IS NOT NULL, $1::timestamptz
FROM {rows}
{session}
LEFT JOIN lanes l ON l.lane_id = s.session_id
LEFT JOIN receipts r ON r.scope = t.scope AND r.idem_key = t.idem_key`

// resolveSQL finds sessions by their names, and pinnedSQL those that are meant by their ids, too.
var (
	resolveSQL = resolveTable.in(strings.NewReplacer("{name}", "t.name", "{session}",
		`LEFT JOIN sessions s ON s.tenant = t.tenant AND s.agent = t.agent AND s.instance = t.instance
			AND s.name = t.name`).Replace(resolveText), 1)
	pinnedSQL = pinnedTable.in(strings.NewReplacer("{name}", "COALESCE(s.name, t.name)", "{session}",
		`LEFT JOIN LATERAL (SELECT n.* FROM sessions n WHERE t.pinned IS NULL AND n.tenant = t.tenant
				AND n.agent = t.agent AND n.instance = t.instance AND n.name = t.name
			UNION ALL SELECT p.* FROM sessions p WHERE p.session_id = t.pinned AND p.tenant = t.tenant) s ON true`).
		Replace(resolveText), 1)
)

// Admissions begin with their rows. An admission that takes its lane begins its head: it sets the time by which that
// has to end, and $1 microseconds later it is settled without its owner.
const admissionColumns = `
WITH i AS MATERIALIZED (SELECT t.*, t.ends_at + $1::bigint * interval '1 microsecond' AS force_after FROM {rows}),`

// freshSQL makes sessions. Everything is known beforehand: whoever made the session meanwhile makes the statement fail.
const freshSQL = admissionColumns + `
s AS (INSERT INTO sessions (session_id, tenant, lane_id, agent, instance, name, created_at)
  SELECT session_id, tenant, session_id, agent, instance, name, now FROM i),
x AS (INSERT INTO lanes (lane_id, tenant, state, next_seq, pending, due_at, owner, claim_id, epoch, event_head,
    ends_at, ends_why, force_after)
  SELECT session_id, tenant, CASE WHEN owner IS NULL THEN 1 ELSE 2 END, 2, 1, now, owner,
    CASE WHEN owner IS NOT NULL THEN claim_id END, (owner IS NOT NULL)::int, (owner IS NOT NULL)::int,
    CASE WHEN owner IS NOT NULL THEN ends_at END, (owner IS NOT NULL AND ends_at IS NOT NULL)::int,
    CASE WHEN owner IS NOT NULL THEN force_after END FROM i),
l AS MATERIALIZED (SELECT i.*, 1::bigint AS seq, owner IS NOT NULL AS took, (owner IS NOT NULL)::int::bigint AS epoch,
  0::bigint AS entry_base, 0::bigint AS event_base, 0::bigint AS mail FROM i),`

// knownSQL queues at existing lanes and takes those that are idle and as they were read: no entry is written without an
// event. A lane that was deleted, or closed, meanwhile gives no row, and the admission is tried again.
var knownSQL = admissionColumns + strings.ReplaceAll(`
l AS (UPDATE lanes x SET next_seq = x.next_seq + 1, pending = x.pending + 1,
    state       = CASE WHEN x.state <> 0 THEN x.state WHEN {takes} THEN 2 ELSE 1 END,
    due_at      = CASE WHEN x.state <> 0 THEN x.due_at ELSE i.now END,
    owner       = CASE WHEN x.state <> 0 THEN x.owner WHEN {takes} THEN i.owner END,
    claim_id    = CASE WHEN x.state <> 0 THEN x.claim_id WHEN {takes} THEN i.claim_id END,
    ends_at     = CASE WHEN x.state = 0 AND {takes} THEN i.ends_at ELSE x.ends_at END,
    ends_why    = CASE WHEN x.state = 0 AND {takes} THEN (i.ends_at IS NOT NULL)::int ELSE x.ends_why END,
    force_after = CASE WHEN x.state = 0 AND {takes} THEN i.force_after ELSE x.force_after END,
    epoch       = x.epoch      + (x.state = 0 AND {takes})::int,
    event_head  = x.event_head + (x.state = 0 AND {takes})::int
  FROM i WHERE x.lane_id = i.session_id AND NOT x.closed
  RETURNING i.ord, i.session_id, i.tenant, i.submission_id, i.idem_key, i.scope, i.hash, i.digest, i.input,
    i.timeout_us, i.segment, i.now, i.options, i.wakes, x.next_seq - 1 AS seq,
    x.claim_id IS NOT DISTINCT FROM i.claim_id AS took, x.epoch, i.entry_head AS entry_base,
    x.event_head - (x.claim_id IS NOT DISTINCT FROM i.claim_id)::int AS event_base, x.mail),`,
	"{takes}", "i.owner IS NOT NULL AND x.event_head = i.event_head")

// admissionRows adds what hangs on the lanes: an admission that took its lane is started at once.
const admissionRows = `
e AS (INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
  SELECT session_id, entry_base + 1, tenant, submission_id, 'input', input, now FROM l WHERE took),
g AS (INSERT INTO segments (lane_id, first_seq, last_seq, tenant, epoch, kind, body, created_at)
  SELECT session_id, event_base + 1, event_base + 1, tenant, epoch, 3, segment, now FROM l WHERE took),
b AS (INSERT INTO submissions (submission_id, tenant, lane_id, session_id, root_id, seq, idem_key, input_hash,
    agent_digest, input, event_base, status, phase, turn, input_entry, entry_head, timeout_us, accepted_at, started_at,
    options, wakes)
  SELECT submission_id, tenant, session_id, session_id, submission_id, seq, idem_key, hash, digest,
    CASE WHEN NOT took THEN input END, event_base, took::int, took::int, took::int,
    CASE WHEN took THEN entry_base + 1 ELSE 0 END, CASE WHEN took THEN entry_base + 1 ELSE 0 END, timeout_us, now,
    CASE WHEN took THEN now END, options, wakes FROM l)`

// busyRow is an admission that wants something of a session that is busy.
type busyRow struct {
	ord       int32
	sessionID string
	id        string
	whenBusy  int16
}

var busyTable = table[busyRow]{
	col("ord", "int", func(r *busyRow) int32 { return r.ord }),
	col("session_id", "uuid", func(r *busyRow) string { return r.sessionID }),
	col("submission_id", "uuid", func(r *busyRow) string { return r.id }),
	col("when_busy", "smallint", func(r *busyRow) int16 { return r.whenBusy }),
}

// busySQL does with busy lanes what admissions of the same transaction want, which has locked them: one that steers is
// meant for the submission that runs, and one that interrupts makes that end and is next. Either is mail. $2
// microseconds after it was made to end a submission is settled without its owner.
var busySQL = busyTable.in(`
WITH n AS (SELECT $1::timestamptz AS now),
h AS MATERIALIZED (SELECT t.*, r.submission_id AS host, r.abort_requested_at IS NULL AS first
  FROM {rows} JOIN lanes x ON x.lane_id = t.session_id AND x.pending > 1
  JOIN submissions s ON s.submission_id = t.submission_id AND s.status + 0 = 0
  LEFT JOIN submissions r ON r.lane_id = t.session_id AND r.status = 1 AND r.parent_call IS NULL
  WHERE t.when_busy = 2 OR r.submission_id IS NOT NULL),
u AS (UPDATE submissions s SET when_busy = h.when_busy, host_id = h.host FROM h
  WHERE s.submission_id = h.submission_id),
a AS (UPDATE submissions s SET abort_requested_at = n.now FROM h, n
  WHERE h.when_busy = 2 AND h.first AND s.submission_id = h.host),
l AS (UPDATE lanes x SET
    urgent      = x.urgent OR h.when_busy = 2,
    mail        = x.mail + (h.host IS NOT NULL AND (h.first OR h.when_busy = 1))::int,
    due_at      = CASE WHEN h.host IS NOT NULL AND x.state = 1 THEN least(x.due_at, n.now) ELSE x.due_at END,
    ends_why    = CASE WHEN h.when_busy < 2 OR h.host IS NULL OR NOT h.first OR x.ends_at <= n.now
                  THEN x.ends_why ELSE 2 END,
    ends_at     = CASE WHEN h.when_busy = 2 AND h.host IS NOT NULL AND h.first THEN least(x.ends_at, n.now)
                  ELSE x.ends_at END,
    force_after = CASE WHEN h.when_busy = 2 AND h.host IS NOT NULL AND h.first
                  THEN least(x.force_after, n.now + $2::bigint * interval '1 microsecond') ELSE x.force_after END
  FROM h, n WHERE x.lane_id = h.session_id)
SELECT ord, when_busy, COALESCE(host::text, '') FROM h`, 2)

const admissionReceipts = `,
r AS (INSERT INTO receipts (scope, idem_key, tenant, hash, submission_id, expires)
  SELECT scope, idem_key, tenant, hash, submission_id, now + interval '168 hours' FROM l WHERE idem_key IS NOT NULL)`

const admissionAnswer = `
SELECT ord, seq, took, epoch, entry_base, event_base, mail FROM l`

var recordTable = table[rows.AuditRow]{
	col("event_id", "uuid", func(r *rows.AuditRow) string { return r.ID }),
	col("tenant", "text", func(r *rows.AuditRow) string { return r.Tenant }),
	col("token_id", "text", func(r *rows.AuditRow) string { return r.TokenID }),
	col("verb", "text", func(r *rows.AuditRow) string { return r.Verb }),
	col("body", "text", func(r *rows.AuditRow) string { return r.Body }),
}

// recordsSQL puts admissions on record. What an earlier try has stored, with its answer lost, is left as it is.
var recordsSQL = recordTable.in(`
INSERT INTO audit (event_id, tenant, at, token_id, verb, body)
SELECT t.event_id, t.tenant, $1::timestamptz, t.token_id, t.verb, t.body::jsonb FROM {rows}
ON CONFLICT (event_id) DO NOTHING`, 1)

// admittedImages stores what the inputs of submissions name that were admitted before in the same transaction.
var admittedImages = admittedTable.in(`
INSERT INTO images (session_id, sha256, tenant, body)
SELECT s.session_id, t.sha256, s.tenant, t.body FROM {rows} JOIN submissions s ON s.submission_id = t.submission_id
ON CONFLICT (session_id, sha256) DO NOTHING`, 0)

// admittedImage is an image of an input.
type admittedImage struct {
	session.Image
	submission string
}

var admittedTable = table[admittedImage]{
	col("submission_id", "uuid", func(r *admittedImage) string { return r.submission }),
	col("sha256", "text", func(r *admittedImage) string { return r.SHA256 }),
	col("body", "bytea", func(r *admittedImage) []byte { return r.Data }),
}

// admissionSQL is indexed by [fresh][receipts].
var admissionSQL = map[bool]map[bool]string{
	true: {
		false: admitTable.in(freshSQL+admissionRows+admissionAnswer, 1),
		true:  admitTable.in(freshSQL+admissionRows+admissionReceipts+admissionAnswer, 1),
	},
	false: {
		false: admitTable.in(knownSQL+admissionRows+admissionAnswer, 1),
		true:  admitTable.in(knownSQL+admissionRows+admissionReceipts+admissionAnswer, 1),
	},
}
