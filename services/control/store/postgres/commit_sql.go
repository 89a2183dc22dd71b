package postgres

// A commit is statements of one pipelined transaction. The first moves the lanes on, each if it is as its owner last
// left it, and stamps them with the transaction's flush id; all others join the lanes that have it, so that a stale
// owner writes nothing. Statements that have nothing to write are not sent. Each has a snapshot of its own, taken when
// the lanes are locked.
//
// $1 is the flush id, and $2 of those that need it the time.

// nowSQL2 is the time, see clock.
const nowSQL2 = `$2::timestamptz`

// endsSQL is how the end of a head is told, of lanes x: what is left of it in microseconds, and why.
const endsSQL = `(extract(epoch FROM x.ends_at - (` + nowSQL2 + `)) * 1e6)::bigint, x.ends_why`

// openAfterSQL is before which no submission of lanes x is open once the head, whose seq a row t has, has settled.
// Where some interrupt, the head need not have been the first: it is looked for from where it was before, so that no
// row is passed twice. An older snapshot does for that: what it lacks comes after all that it has.
func openAfterSQL(t string) string {
	return `CASE WHEN x.urgent THEN COALESCE((SELECT q.seq FROM submissions q WHERE q.session_id = x.lane_id
      AND q.seq >= x.first_open AND q.seq <> ` + t + `.seq AND q.status + 0 < 2 ORDER BY q.seq LIMIT 1),
      ` + t + `.seq + 1)
    ELSE ` + t + `.seq + 1 END`
}

// lanesSQL moves lanes on and appends to their streams. That the root runs needs no lock: while the lane passes, only
// its owner can have settled it. What comes after a settlement is decided by the counter on the lane, never by a look
// at the submissions, which could be older than the lock; whether a lane rests by its mail. A lane whose head settles
// cannot be parked: that would divide by zero.
var lanesSQL = laneTable.in(`
WITH l AS (UPDATE lanes x SET flush = $1,
    event_head  = x.event_head + i.events,
    pending     = x.pending - i.joins - i.ends::int / (NOT i.ends OR i.mail IS NULL)::int,
    first_open  = CASE WHEN i.ends THEN `+openAfterSQL("i")+` ELSE x.first_open END,
    urgent      = x.urgent AND NOT (i.ends AND x.pending <= 1),
    state       = CASE WHEN i.ends THEN CASE WHEN x.pending <= 1 THEN 0 WHEN i.continues THEN 2 ELSE 1 END
                  WHEN x.mail = i.mail THEN 1 ELSE 2 END,
    owner       = CASE WHEN CASE WHEN i.ends THEN i.continues AND x.pending > 1 ELSE x.mail IS DISTINCT FROM i.mail END
                  THEN x.owner END,
    claim_id    = CASE WHEN CASE WHEN i.ends THEN i.continues AND x.pending > 1 ELSE x.mail IS DISTINCT FROM i.mail END
                  THEN x.claim_id END,
    due_at      = CASE WHEN i.ends THEN `+nowSQL2+`
                  WHEN x.mail = i.mail THEN
                    least(COALESCE(`+nowSQL2+` + i.rests_us * interval '1 microsecond', 'infinity'),
                      COALESCE(x.ends_at, 'infinity'))
                  ELSE x.due_at END,
    ends_at     = CASE WHEN NOT i.ends THEN x.ends_at END,
    ends_why    = CASE WHEN i.ends THEN 0 ELSE x.ends_why END,
    force_after = CASE WHEN NOT i.ends THEN x.force_after END
  FROM (SELECT t.*, s.seq, s.seq IS NOT NULL AS ends FROM {rows}
    LEFT JOIN submissions s ON t.ended IS NOT NULL
    AND s.submission_id = ANY (string_to_array(t.ended, ',')::uuid[])
    AND s.lane_id = t.lane_id AND s.status + 0 = 1 AND s.parent_call IS NULL) i
  WHERE x.lane_id = i.lane_id AND x.epoch = i.epoch AND x.state + 0 = 2 AND x.event_head = i.event_head
    AND x.kind + 0 = i.kind
  RETURNING i.ord, i.lane_id, i.events, i.commit_id, i.segment_kind, i.segment, x.tenant, x.epoch, x.event_head,
    x.state, x.mail, x.ends_at, x.ends_why),
g AS (INSERT INTO segments (lane_id, first_seq, last_seq, tenant, epoch, commit_id, kind, body, created_at)
  SELECT lane_id, event_head - events + 1, event_head, tenant, epoch, commit_id, segment_kind, segment, `+nowSQL2+`
  FROM l)
SELECT ord, state, mail, `+endsSQL+` FROM l x`, 2)

// beginsSQL makes loops below heads, and their conversations unless these are there. loopsSQL asserts that a
// conversation is where the step says.
var beginsSQL = beginTable.in(`
WITH i AS MATERIALIZED (SELECT t.*, l.tenant AS lane_tenant, `+nowSQL2+` AS now FROM {rows}
  JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1),
s AS (INSERT INTO sessions (session_id, tenant, lane_id, parent_id, parent_call, agent, instance, name, created_at)
  SELECT session_id, tenant, lane_id, parent_id, parent_call, agent, instance, name, now FROM i WHERE NOT goes_on)
INSERT INTO submissions (submission_id, tenant, lane_id, session_id, root_id, parent_call, seq, agent_digest,
  event_base, status, accepted_at, started_at, options, entry_head)
SELECT i.loop_id, i.lane_tenant, i.lane_id, i.session_id, i.root_id, i.parent_call,
  COALESCE((SELECT q.seq FROM submissions q WHERE q.session_id = i.session_id ORDER BY q.seq DESC LIMIT 1), 0) + 1,
  i.digest, i.event_base, 1, i.now, i.now, i.options,
  COALESCE((SELECT e.seq FROM entries e WHERE e.session_id = i.session_id ORDER BY e.seq DESC LIMIT 1), 0)
FROM i WHERE NOT i.goes_on OR EXISTS (SELECT 1 FROM sessions k
  WHERE k.session_id = i.session_id AND k.lane_id = i.lane_id)`, 2)

// loopsSQL moves loops on. It asserts that each is open, in its lane and at the entry that its owner says: under a
// valid fence nothing else can be, so that it fails the transaction, by a division by zero.
var loopsSQL = loopTable.in(moveLoopsSQL+loopsMoved, 2)

// endingLoopsSQL is loopsSQL where some loops end: it wakes the lanes that rest on that.
var endingLoopsSQL = loopTable.in(moveLoopsSQL+`,
w AS (INSERT INTO wakes (tenant, lane_id) SELECT tenant, wakes FROM u WHERE status = 2 AND wakes IS NOT NULL)`+
	loopsMoved, 2)

const loopsMoved = `
SELECT 1 / ((SELECT count(*) FROM u) + (SELECT count(*) FROM r) = (SELECT count(*) FROM i))::int`

const moveLoopsSQL = `
WITH i AS MATERIALIZED (SELECT t.*, ` + nowSQL2 + ` AS now FROM {rows}
  JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1),
u AS (UPDATE submissions s SET
    entry_head   = s.entry_head + i.entries,
    phase        = CASE WHEN i.progresses THEN i.phase ELSE s.phase END,
    turn         = CASE WHEN i.progresses THEN i.turn ELSE s.turn END,
    input_entry  = CASE WHEN s.input_entry = 0 THEN i.input_entry ELSE s.input_entry END,
    input        = CASE WHEN i.input_entry > 0 THEN NULL ELSE s.input END,
    usage        = COALESCE(i.usage::jsonb, s.usage),
    stalls       = CASE WHEN i.clears THEN 0 ELSE s.stalls END,
    stall_cause  = CASE WHEN i.clears THEN '' ELSE s.stall_cause END,
    has_calls    = s.has_calls OR i.calls,
    status       = CASE WHEN i.ends THEN 2 ELSE s.status END,
    outcome      = CASE WHEN i.ends THEN i.outcome ELSE s.outcome END,
    reason       = CASE WHEN i.ends THEN i.reason ELSE s.reason END,
    message      = CASE WHEN i.ends THEN i.message ELSE s.message END,
    model        = CASE WHEN i.ends OR i.model <> '' THEN i.model ELSE s.model END,
    result_entry = CASE WHEN i.ends THEN i.result_entry ELSE s.result_entry END,
    data         = CASE WHEN i.ends THEN i.data ELSE s.data END,
    settled_at   = CASE WHEN i.ends THEN i.now ELSE s.settled_at END,
    cancellation = CASE WHEN i.ends THEN i.cancellation ELSE s.cancellation END
  FROM i WHERE i.writes AND s.submission_id = i.loop_id AND s.lane_id = i.lane_id
    AND (s.session_id = i.session_id) IS TRUE AND s.status + 0 = 1 AND s.entry_head = i.entry_head
  RETURNING s.tenant, s.status, s.wakes),
r AS (SELECT 1 FROM i JOIN submissions s ON s.submission_id = i.loop_id AND s.lane_id = i.lane_id
    AND (s.session_id = i.session_id) IS TRUE AND s.status + 0 = 1 AND s.entry_head = i.entry_head WHERE NOT i.writes)`

// treesSQL settles the loops that are still open below roots ($2) that have ended in this transaction, as these, and
// what has joined them, which has their answer, too, and wakes the lanes that rest on that. OFFSET 0 has them found by
// their root: a planner that knows of none yet would read all that there are by then.
const treesSQL = `
WITH u AS (UPDATE submissions s SET status = 2, outcome = r.outcome, reason = r.reason, message = r.message,
  settled_at = r.settled_at, model = CASE WHEN c.joined THEN r.model ELSE s.model END,
  result_entry = CASE WHEN c.joined THEN r.result_entry ELSE s.result_entry END,
  cancellation = CASE WHEN c.joined THEN r.cancellation ELSE s.cancellation END,
  data = CASE WHEN c.joined THEN r.data ELSE s.data END
FROM unnest($2::uuid[]) WITH ORDINALITY AS t(loop_id, nth)
  JOIN submissions r ON r.submission_id = t.loop_id AND r.parent_call IS NULL
  JOIN lanes l ON l.lane_id = r.lane_id AND l.flush = $1
  CROSS JOIN LATERAL (SELECT c.submission_id, false AS joined FROM submissions c
    WHERE c.root_id = r.submission_id AND c.parent_call IS NOT NULL AND c.status + 0 = 1
    UNION ALL SELECT c.submission_id, true FROM submissions c WHERE c.host_id = r.submission_id AND c.status + 0 = 3
    OFFSET 0) c
WHERE t.nth BETWEEN 1 AND 1000000000 AND s.submission_id = c.submission_id AND s.status + 0 IN (1, 3)
  AND r.status + 0 = 2 RETURNING s.tenant, s.wakes)
INSERT INTO wakes (tenant, lane_id) SELECT tenant, wakes FROM u WHERE wakes IS NOT NULL`

// joinsSQL takes submissions off the queue that join the loops of this transaction. It asserts that each waits for its
// loop: one that was withdrawn divides by zero.
var joinsSQL = joinTable.in(`
WITH i AS MATERIALIZED (SELECT t.*, `+nowSQL2+` AS now FROM {rows}
  JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1),
u AS (UPDATE submissions s SET status = 3, input = NULL, input_entry = i.input_entry, started_at = i.now
  FROM i WHERE s.submission_id = i.submission_id AND s.lane_id = i.lane_id AND s.host_id = i.loop_id
    AND s.when_busy = 1 AND s.status + 0 = 0 RETURNING 1)
SELECT 1 / ((SELECT count(*) FROM u) = (SELECT count(*) FROM i))::int`, 2)

var entriesSQL = entryTable.in(`
INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
SELECT t.session_id, t.seq, l.tenant, t.submission_id, t.kind, t.body, COALESCE(t.created_at, `+nowSQL2+`)
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1`, 2)

// imagesSQL stores what entries name. A conversation has each image once.
var imagesSQL = imageTable.in(`
INSERT INTO images (session_id, sha256, tenant, body)
SELECT t.session_id, t.sha256, l.tenant, t.body FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
ON CONFLICT (session_id, sha256) DO NOTHING`, 1)

// callsSQL makes the durable records of calls. Their times are the database's: ages are told by its clock.
var callsSQL = callTable.in(`
INSERT INTO tool_calls (call_id, tenant, lane_id, submission_id, turn, idx, kind, entry_seq, provider_id, tool, safety,
  args_hash, executor, dispatch, journal_id, state, approval_id, reply, leaves, shown_stdout, shown_stderr, created_at,
  dispatched_at, done_at)
SELECT t.call_id, l.tenant, t.lane_id, t.loop_id, t.turn, t.idx, t.kind, t.entry_seq, t.provider_id, t.tool, t.safety,
  t.args_hash, t.executor, t.dispatch, t.journal_id, t.state, t.approval_id, t.reply, t.leaves, t.stdout, t.stderr,
  n.now, CASE WHEN t.state = 1 THEN n.now END, CASE WHEN t.state >= 2 THEN n.now END
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1 CROSS JOIN (SELECT `+nowSQL2+` AS now) n`, 2)

// changesSQL dispatches and completes calls that have not ended; one that has is nobody's fault, and what comes after
// lost is kept beside it. It asserts that each is in its lane, that a dispatch follows the last one, and that nothing
// is said lost of which the outcome is on record: the transcript would call unknown what the record knows. So the rows
// are looked at as they are once they are locked, in order of their ids as all others lock them. What the loop's own
// calls came to may be in its entries already; what the call came to that it answers itself is nowhere else.
var changesSQL = changeTable.in(`
WITH n AS MATERIALIZED (SELECT t.*, `+nowSQL2+` AS now FROM {rows}
  JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1),
o AS MATERIALIZED (SELECT c.call_id, c.dispatch FROM n
  JOIN tool_calls c ON c.call_id = n.call_id AND c.lane_id = n.lane_id
  WHERE c.state + 0 < 2 ORDER BY c.call_id FOR NO KEY UPDATE OF c),
b AS (SELECT 1 FROM n LEFT JOIN o ON o.call_id = n.call_id
  LEFT JOIN tool_calls c ON c.call_id = n.call_id AND c.lane_id = n.lane_id
  WHERE c.call_id IS NULL OR n.dispatch > 0 AND n.dispatch <= o.dispatch
    OR n.state = 3 AND o.call_id IS NULL AND c.state <> 3),
u AS (UPDATE tool_calls c SET
    executor      = CASE WHEN c.state < 2 AND n.dispatches THEN n.executor ELSE c.executor END,
    dispatch      = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN n.dispatch ELSE c.dispatch END,
    journal_id    = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN n.journal_id ELSE c.journal_id END,
    dispatched_at = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN n.now ELSE c.dispatched_at END,
    state         = CASE WHEN c.state >= 2 THEN c.state WHEN n.state IS NOT NULL THEN n.state
                    WHEN n.dispatches THEN (n.dispatch > 0)::int ELSE c.state END,
    reply         = CASE WHEN c.state < 2 THEN CASE WHEN c.submission_id IS DISTINCT FROM n.forgets THEN n.reply END
                    ELSE c.reply END,
    leaves        = n.leaves,
    done_at       = CASE WHEN c.state < 2 AND n.state IS NOT NULL THEN n.now ELSE c.done_at END,
    late_reply    = CASE WHEN c.state = 3 THEN n.reply ELSE c.late_reply END
  FROM n WHERE c.call_id = n.call_id AND c.lane_id = n.lane_id
    AND (c.state + 0 < 2 OR (c.state = 3 AND n.state <> 3 AND n.reply IS NOT NULL AND c.late_reply IS NULL)))
SELECT 1 / (NOT EXISTS (SELECT 1 FROM b))::int`, 2)

// forgetSQL drops the replies that the entries of this transaction hold, of the turn that the loops ($2) are at before
// loopsSQL. The replies that the transaction brings come after it: changesSQL leaves out those of these loops' calls.
const forgetSQL = `
WITH i AS MATERIALIZED (SELECT s.submission_id, s.turn FROM unnest($2::uuid[]) AS t(loop_id)
  JOIN submissions s ON s.submission_id = t.loop_id JOIN lanes l ON l.lane_id = s.lane_id AND l.flush = $1)
UPDATE tool_calls c SET reply = NULL FROM i
WHERE c.submission_id = i.submission_id AND c.turn = i.turn AND c.reply IS NOT NULL`

var shownSQL = shownTable.in(`
UPDATE tool_calls c SET shown_stdout = t.stdout, shown_stderr = t.stderr
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
WHERE c.call_id = t.call_id AND c.lane_id = t.lane_id`, 1)

// turnsSQL records calls of the model.
var turnsSQL = turnTable.in(`
INSERT INTO turns (submission_id, turn, tenant, lane_id, model, request, prefix, usage, attempts, first_token_us,
  duration_us, stop, error, purpose, created_at)
SELECT t.loop_id, t.turn, l.tenant, l.lane_id, t.model, t.request, t.prefix, t.usage::jsonb, t.attempts,
  t.first_token_us, t.duration_us, t.stop, t.error, t.purpose, `+nowSQL2+`
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1`, 2)

// prefixesSQL stores what requests began with, in order of the digests: who stores several waits in one order only.
var prefixesSQL = prefixTable.in(`
INSERT INTO prefixes AS p (digest, tenant, body, used_at)
SELECT DISTINCT ON (t.digest) t.digest, l.tenant, t.body, `+nowSQL2+`
FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1 ORDER BY t.digest
ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at
  WHERE p.used_at < excluded.used_at - interval '1 hour'`, 2)

// bindSQL remembers where the workspaces are.
var bindSQL = bindTable.in(`
UPDATE sessions s SET executor = t.executor FROM {rows} JOIN lanes l ON l.lane_id = t.lane_id AND l.flush = $1
WHERE s.session_id = l.lane_id`, 1)

// recogniseSQL finds the segment of a commit whose answer was lost, and says whether that has settled the head.
const recogniseSQL = `
SELECT x.epoch, EXISTS (SELECT 1 FROM submissions s WHERE s.submission_id = ANY (string_to_array($5, ',')::uuid[])
  AND s.parent_call IS NULL), x.state, x.mail, ` + endsSQL + `
FROM segments g JOIN lanes x ON x.lane_id = g.lane_id WHERE g.lane_id = $1 AND g.first_seq = $3 AND g.commit_id = $4`
