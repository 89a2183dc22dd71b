package postgres

import (
	"strings"
	"sync"
)

// A commit is one statement, driven by the fenced UPDATE of the lanes: whatever else it writes is joined to the lanes
// that came back, so that a stale owner writes nothing. Parts that few commits need are left out of the statement when
// no operation of the batch needs them.

// commitsPart is the commits of a batch.
var commitsPart = fragment{params: 31, sql: `
WITH i AS (SELECT * FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::int[], $8::int[],
    $9::bytea[], $10::text[], $11::bool[], $12::bool[], $13::int[], $14::int[], $15::bigint[], $16::text[],
    $17::bool[], $18::bool[], $19::text[], $20::text[], $21::text[], $22::text[], $23::bigint[], $24::bytea[], $25::uuid[], $26::text[], $27::bytea[], $28::timestamptz[], $29::text[], $30::smallint[],
    $31::bool[])
  AS t(ord, session_id, epoch, seq, entry_head, event_head, entries, events,
    segment, executor, forgets, progresses, phase, turn, input_entry, usage,
    settles, continues, outcome, reason, message, model, result_entry, digest,
    entry_submission, entry_kind, entry_body, entry_at, cancellation, segment_kind, calls)),`}

// changesPart is what happens to calls that exist, and the commits that cannot be because a call does not: not at all,
// or not before the dispatch that is asked for. A call that has ended meanwhile is nobody's fault.
var changesPart = fragment{params: 7, sql: `
n AS MATERIALIZED (SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::int[], $5::smallint[], $6::bytea[], $7::text[])
  AS t(ord, call_id, executor, dispatch, state, reply, journal_id)),
bad AS (SELECT n.ord FROM n JOIN i ON i.ord = n.ord LEFT JOIN tool_calls c ON c.call_id = n.call_id
  WHERE c.call_id IS NULL OR c.session_id <> i.session_id OR (c.state < 2 AND n.dispatch > 0 AND n.dispatch <= c.dispatch)),`}

// lostPart is changesPart for a batch that says lost of a call: nobody may have recorded its outcome meanwhile, or the
// transcript would call unknown what the record knows. So the record is locked and looked at as it is then, after its
// lane, as all others do.
var lostPart = fragment{params: 7, sql: strings.Replace(changesPart.sql, "\nbad AS (", `
h AS MATERIALIZED (SELECT i.ord FROM i JOIN lanes x ON x.session_id = i.session_id AND x.epoch = i.epoch AND x.state + 0 = 2
  AND x.entry_head = i.entry_head AND x.event_head = i.event_head WHERE i.ord IN (SELECT ord FROM n WHERE n.state = 3) ORDER BY x.session_id FOR NO KEY UPDATE OF x),
r AS MATERIALIZED (SELECT n.ord, c.state FROM n JOIN h ON h.ord = n.ord JOIN tool_calls c ON c.call_id = n.call_id
  WHERE n.state = 3 FOR NO KEY UPDATE OF c),
bad AS (SELECT r.ord FROM r WHERE r.state IN (2, 4) UNION ALL `, 1)}

const noneBad = ` AND i.ord NOT IN (SELECT ord FROM bad)`

// lanesPart checks that the lane is as the owner last left it and moves it on. That the submission runs needs no lock:
// as long as the lane passes, only its owner can have settled it. What comes after a settlement is decided by the
// counter on the lane, never by a look at the submissions, which could be older than the lock.
func lanesPart(condition string) fragment {
	return fragment{params: 1, sql: strings.ReplaceAll(lanesSQL, "{condition}", condition)}
}

const lanesSQL = `
l AS (UPDATE lanes x SET
    entry_head = x.entry_head + i.entries,
    event_head = x.event_head + i.events,
    pending    = x.pending - i.settles::int,
    first_open = CASE WHEN i.settles THEN i.seq + 1 ELSE x.first_open END,
    state      = CASE WHEN NOT i.settles THEN 2 WHEN x.pending = 1 THEN 0 WHEN i.continues THEN 2 ELSE 1 END,
    owner      = CASE WHEN NOT i.settles OR (i.continues AND x.pending > 1) THEN x.owner END,
    claim_id   = CASE WHEN NOT i.settles OR (i.continues AND x.pending > 1) THEN x.claim_id END,
    ready_at   = CASE WHEN NOT i.settles THEN x.ready_at ELSE clock_timestamp() + $1::bigint * interval '1 microsecond' END
  FROM i JOIN submissions s ON s.session_id = i.session_id AND s.seq = i.seq AND s.status + 0 = 1
  WHERE x.session_id = i.session_id AND x.epoch = i.epoch AND x.state + 0 = 2
    AND x.entry_head = i.entry_head AND x.event_head = i.event_head{condition}
  RETURNING i.*, x.tenant, x.state, s.submission_id, s.turn AS turn_before, s.stalls,
    s.abort_requested_at IS NOT NULL AS abort_requested,
    clock_timestamp() + $1::bigint * interval '1 microsecond' AS now),
e AS (INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
  SELECT session_id, entry_head + 1, tenant, entry_submission, entry_kind, entry_body, COALESCE(entry_at, now) FROM l WHERE entries > 0),
g AS (INSERT INTO segments (session_id, first_seq, last_seq, tenant, epoch, digest, kind, body, created_at)
  SELECT session_id, event_head + 1, event_head + events, tenant, epoch, digest, segment_kind, segment, now FROM l),
b AS (UPDATE submissions s SET
    phase        = CASE WHEN l.progresses THEN l.phase ELSE s.phase END,
    turn         = CASE WHEN l.progresses THEN l.turn ELSE s.turn END,
    input_entry  = CASE WHEN s.input_entry = 0 THEN l.input_entry ELSE s.input_entry END,
    input        = CASE WHEN l.input_entry > 0 THEN NULL ELSE s.input END,
    usage        = CASE WHEN l.progresses OR l.settles THEN l.usage::jsonb ELSE s.usage END,
    stalls       = CASE WHEN l.entries > 0 OR l.progresses THEN 0 ELSE s.stalls END,
    status       = CASE WHEN l.settles THEN 2 ELSE s.status END,
    outcome      = CASE WHEN l.settles THEN l.outcome ELSE s.outcome END,
    reason       = CASE WHEN l.settles THEN l.reason ELSE s.reason END,
    message      = CASE WHEN l.settles THEN l.message ELSE s.message END,
    model        = CASE WHEN l.settles THEN l.model ELSE s.model END,
    result_entry = CASE WHEN l.settles THEN l.result_entry ELSE s.result_entry END,
    settled_at   = CASE WHEN l.settles THEN l.now ELSE s.settled_at END,
    cancellation = CASE WHEN l.settles THEN l.cancellation ELSE s.cancellation END,
    has_calls    = s.has_calls OR l.calls
  FROM l WHERE s.submission_id = l.submission_id AND (l.progresses OR l.settles OR l.calls OR (l.entries > 0 AND l.stalls > 0)))`

// entriesPart appends the entries that a commit has beside its first one, which comes with the lane's row and needs no
// join.
var entriesPart = fragment{params: 6, sql: `,
m AS (INSERT INTO entries (session_id, seq, tenant, submission_id, kind, body, created_at)
  SELECT l.session_id, l.entry_head + t.n, l.tenant, t.submission_id, t.kind, t.body, COALESCE(t.created_at, l.now)
  FROM unnest($1::int[], $2::int[], $3::uuid[], $4::text[], $5::bytea[], $6::timestamptz[])
    AS t(ord, n, submission_id, kind, body, created_at) JOIN l ON l.ord = t.ord)`}

// callsPart makes the durable records of calls.
var callsPart = fragment{params: 18, sql: `,
c AS (INSERT INTO tool_calls (call_id, tenant, session_id, submission_seq, turn, idx, entry_seq, provider_id, tool, safety, args_hash,
    executor, dispatch, state, reply, created_at, dispatched_at, done_at, journal_id)
  SELECT t.call_id, l.tenant, l.session_id, t.submission_seq, t.turn, t.idx, t.entry_seq, t.provider_id, t.tool, t.safety, t.args_hash,
    t.executor, t.dispatch, t.state, t.reply, COALESCE(t.created_at, l.now),
    COALESCE(t.dispatched_at, CASE WHEN t.state = 1 THEN l.now END), COALESCE(t.done_at, CASE WHEN t.state >= 2 THEN l.now END), t.journal_id
  FROM unnest($1::int[], $2::text[], $3::bigint[], $4::int[], $5::int[], $6::bigint[], $7::text[], $8::text[], $9::smallint[],
      $10::bytea[], $11::text[], $12::int[], $13::smallint[], $14::bytea[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::text[])
    AS t(ord, call_id, submission_seq, turn, idx, entry_seq, provider_id, tool, safety,
      args_hash, executor, dispatch, state, reply, created_at, dispatched_at, done_at, journal_id) JOIN l ON l.ord = t.ord)`}

// changePart dispatches and completes calls that have not ended. What comes after lost is kept beside it, as by
// CompleteCall.
var changePart = fragment{sql: `,
d AS (UPDATE tool_calls c SET
    executor      = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN n.executor ELSE c.executor END,
    dispatch      = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN n.dispatch ELSE c.dispatch END,
    journal_id    = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN n.journal_id ELSE c.journal_id END,
    dispatched_at = CASE WHEN c.state < 2 AND n.dispatch > 0 THEN l.now ELSE c.dispatched_at END,
    state         = CASE WHEN c.state < 2 THEN COALESCE(n.state, 1) ELSE c.state END,
    reply         = CASE WHEN c.state < 2 THEN n.reply ELSE c.reply END,
    done_at       = CASE WHEN c.state < 2 AND n.state IS NOT NULL THEN l.now ELSE c.done_at END,
    late_reply    = CASE WHEN c.state = 3 THEN n.reply ELSE c.late_reply END
  FROM n JOIN l ON l.ord = n.ord
  WHERE c.call_id = n.call_id AND c.session_id = l.session_id
    AND (c.state < 2 OR (c.state = 3 AND n.state <> 3 AND n.reply IS NOT NULL AND c.late_reply IS NULL)))`}

// forgetPart drops the replies that the entries of this commit hold. It cannot meet a row of changePart: replies are on
// calls that have ended, and the outcomes of such a commit carry none.
var forgetPart = fragment{sql: `,
f AS (UPDATE tool_calls c SET reply = NULL FROM l
  WHERE l.forgets AND c.session_id = l.session_id AND c.submission_seq = l.seq AND c.turn = l.turn_before AND c.reply IS NOT NULL)`}

// bindPart remembers where the workspace is.
var bindPart = fragment{sql: `,
k AS (UPDATE sessions s SET executor = l.executor FROM l WHERE s.session_id = l.session_id AND l.executor <> '')`}

var answerPart = fragment{sql: `
SELECT ord, state, abort_requested FROM l`}

// parts says which optional parts a statement has.
type parts struct{ entries, calls, changes, lost, forget, bind bool }

// statements has one text for each combination, so that each is prepared once. A control plane on SQLite makes none.
var statements = sync.OnceValue(func() map[parts]string {
	all := map[parts]string{}
	for n := range 1 << 6 {
		p := parts{
			entries: n&1 != 0, calls: n&2 != 0, changes: n&4 != 0, forget: n&8 != 0, bind: n&16 != 0,
			lost: n&32 != 0,
		}
		chosen := []fragment{commitsPart}
		switch {
		case p.lost:
			chosen = append(chosen, lostPart, lanesPart(noneBad), changePart)
		case p.changes:
			chosen = append(chosen, changesPart, lanesPart(noneBad), changePart)
		default:
			chosen = append(chosen, lanesPart(""))
		}
		for _, o := range []struct {
			wanted bool
			part   fragment
		}{{p.entries, entriesPart}, {p.calls, callsPart}, {p.forget, forgetPart}, {p.bind, bindPart}} {
			if o.wanted {
				chosen = append(chosen, o.part)
			}
		}
		all[p] = compose(append(chosen, answerPart)...)
	}
	return all
})

// nextSQL is headsSQL for lanes that the commit before it in the same transaction has kept. It needs a snapshot of its
// own: a submission that was admitted while the commit waited for its lane counts already, but the commit's own
// snapshot lacks it.
var nextSQL = headsOf("l.state + 0 = 2 AND l.session_id = i.session_id AND l.epoch = i.epoch AND l.event_head = "+
	"i.event_head",
	"JOIN unnest($3::uuid[], $4::bigint[], $5::bigint[]) AS i(session_id, epoch, event_head) ON i.session_id = "+
		"l.session_id")

// recogniseSQL finds the segment of a commit whose answer was lost, by what only that commit can have written. While
// the epoch is the same, the heads must be as it left them: an owner that has gone on knew the answer.
const recogniseSQL = `
SELECT l.epoch, l.state, s.abort_requested_at IS NOT NULL FROM lanes l JOIN submissions s ON s.session_id = l.session_id AND s.seq = $2
JOIN segments g ON g.session_id = l.session_id AND g.first_seq = $3 AND g.last_seq = $4 AND g.epoch = $5 AND g.digest = $6
WHERE l.session_id = $1 AND (l.epoch <> $5 OR (l.event_head = $4 AND l.entry_head = $7))`

// heldSQL tells whether the lane is as a commit expects it, so that its refusal has another reason.
const heldSQL = `
SELECT EXISTS (SELECT 1 FROM lanes l JOIN submissions s ON s.session_id = l.session_id AND s.seq = $2 AND s.status + 0 = 1
  WHERE l.session_id = $1 AND l.epoch = $3 AND l.state + 0 = 2 AND l.entry_head = $4 AND l.event_head = $5)`
