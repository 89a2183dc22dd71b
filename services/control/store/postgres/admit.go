package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pawl-dev/pawl/services/control/event"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/submission"
)

// admission is an admission with what is prepared for it outside of the flush.
type admission struct {
	submission.Admission
	scope   string // names the session by its key
	claimID string
	tries   int // lost races for a session
}

type admitted = submission.Admitted

// admissionOp is an admission in a group, with what resolve has found.
type admissionOp = op[admission, admitted]

// place is where an admission goes: a session as it was read, or a new one.
type place struct {
	fresh     bool
	sessionID string
	executor  string
	entryHead int64
	eventHead int64
	now       time.Time // on the database's clock
}

// Admit implements submission.Store.
func (s *Store) Admit(ctx context.Context, a submission.Admission) (submission.Admitted, error) {
	scope := scopeOf(a.Key)
	for tries := 0; ; tries++ {
		out, err := s.admits.do(ctx, scope, admission{Admission: a, scope: scope, claimID: uuid.NewString(), tries: tries})
		if (isViolation(err) || errors.Is(err, session.ErrNotFound)) && tries < 10 {
			continue // the session was made or deleted, or the key used, between the read and the write: read again
		}
		if err != nil {
			return submission.Admitted{}, fmt.Errorf("admit: %w", err)
		}
		return out, nil
	}
}

// scopeOf names a session in receipts, which outlive it.
func scopeOf(k session.Key) string {
	b, _ := json.Marshal([]string{k.Tenant, k.Agent, k.Instance, k.Name}) // strings always can be marshalled
	return string(b)
}

// flushAdmissions admits a batch in one transaction. Where two replicas use sessions or keys at the same time, the batch is
// sorted, so that they wait for each other in one order only.
func (s *Store) flushAdmissions(ctx context.Context, ops []*admissionOp) error {
	slices.SortFunc(ops, func(a, b *admissionOp) int { return cmp.Compare(a.in.scope, b.in.scope) })
	places, found, err := s.resolve(ctx, ops)
	if err != nil {
		return err
	}
	var fresh, known []int
	for i, o := range ops {
		o.err = nil
		switch {
		case found[i] || o.in.tries > 0 || o.again:
			// It looks like a replay, has lost a race or may have been committed: worth a look before the write.
			answered, err := s.replay(ctx, o)
			if err != nil {
				return err
			}
			if answered {
				continue
			}
			fallthrough
		default:
			if places[i].fresh {
				fresh = append(fresh, i)
			} else {
				known = append(known, i)
			}
		}
	}
	if len(fresh)+len(known) == 0 {
		return nil
	}
	slices.SortFunc(known, func(a, b int) int { return cmp.Compare(places[a].sessionID, places[b].sessionID) })
	batch := &pgx.Batch{}
	if len(fresh) > 0 {
		queueAdmissions(batch, true, ops, places, fresh)
	}
	if len(known) > 0 {
		queueAdmissions(batch, false, ops, places, known)
	}
	return s.pool.SendBatch(ctx, batch).Close()
}

const resolveSQL = `
SELECT t.ord, s.session_id, s.executor, l.entry_head, l.event_head, r.scope IS NOT NULL,
  clock_timestamp() + $8::bigint * interval '1 microsecond'
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
  AS t(ord, tenant, agent, instance, name, scope, idem_key)
LEFT JOIN sessions s ON s.tenant = t.tenant AND s.agent = t.agent AND s.instance = t.instance AND s.name = t.name
LEFT JOIN lanes l ON l.session_id = s.session_id
LEFT JOIN receipts r ON r.scope = t.scope AND r.idem_key = t.idem_key`

// resolve reads where each admission goes, and whether its idempotency key has a receipt.
func (s *Store) resolve(ctx context.Context, ops []*admissionOp) (places []place, found []bool, err error) {
	n := len(ops)
	ords, keys := make([]int32, n), [4][]string{}
	scopes, idems := make([]string, n), make([]*string, n)
	for i, o := range ops {
		ords[i], scopes[i], idems[i] = int32(i), o.in.scope, optional(o.in.IdempotencyKey)
		for f, v := range []string{o.in.Key.Tenant, o.in.Key.Agent, o.in.Key.Instance, o.in.Key.Name} {
			keys[f] = append(keys[f], v)
		}
	}
	rows, err := s.pool.Query(ctx, resolveSQL, ords, keys[0], keys[1], keys[2], keys[3], scopes, idems, s.offset())
	if err != nil {
		return nil, nil, err
	}
	places, found = make([]place, n), make([]bool, n)
	var i int
	var id, executor *string
	var entryHead, eventHead *int64
	var receipt bool
	var now time.Time
	_, err = pgx.ForEachRow(rows, []any{&i, &id, &executor, &entryHead, &eventHead, &receipt, &now}, func() error {
		found[i] = receipt
		if id == nil {
			places[i] = place{fresh: true, sessionID: newID(), now: now}
			return nil
		}
		places[i] = place{sessionID: *id, executor: *executor, entryHead: value(entryHead), eventHead: value(eventHead), now: now}
		return nil
	})
	return places, found, err
}

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

// knownSQL queues at existing lanes and takes those that are idle and as they were read. A lane that was deleted meanwhile
// gives no row, and the admission is tried again.
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
g AS (INSERT INTO segments (session_id, first_seq, last_seq, tenant, epoch, body)
  SELECT session_id, event_base + 1, event_base + 1, tenant, epoch, segment FROM l WHERE took),
b AS (INSERT INTO submissions (submission_id, tenant, session_id, seq, idem_key, input_hash, agent_digest, input, event_base,
    status, phase, turn, input_entry, timeout_us, deadline, accepted_at, started_at)
  SELECT submission_id, tenant, session_id, seq, idem_key, hash, digest, CASE WHEN took THEN NULL ELSE input END, event_base,
    took::int, took::int, took::int, CASE WHEN took THEN entry_base + 1 ELSE 0 END, timeout_us,
    CASE WHEN took AND timeout_us > 0 THEN now + timeout_us * interval '1 microsecond' END, now, CASE WHEN took THEN now END FROM l)`

const admissionReceipts = `,
r AS (INSERT INTO receipts (scope, idem_key, tenant, hash, submission_id, expires)
  SELECT scope, idem_key, tenant, hash, submission_id, now + interval '7 days' FROM l WHERE idem_key IS NOT NULL)`

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

// queueAdmissions queues the statement for ops[i], i in chosen, all fresh or all known.
func queueAdmissions(batch *pgx.Batch, fresh bool, ops []*admissionOp, places []place, chosen []int) {
	n := len(chosen)
	var (
		ords                                        = make([]int32, n)
		sessions, tenants, agents, instances, names = texts(n), texts(n), texts(n), texts(n), texts(n)
		submissions, scopes, digests, claims        = texts(n), texts(n), texts(n), texts(n)
		idems, owners                               = make([]*string, n), make([]*string, n)
		hashes, inputs, segments                    = make([][]byte, n), make([][]byte, n), make([][]byte, n)
		timeouts, entryHeads, eventHeads            = make([]int64, n), make([]int64, n), make([]int64, n)
		nows                                        = make([]time.Time, n)
		receipts                                    bool
		missing                                     = make(map[int]bool, n)
	)
	for j, i := range chosen {
		a, p := &ops[i].in, places[i]
		ords[j], sessions[j] = int32(i), p.sessionID
		tenants[j], agents[j], instances[j], names[j] = a.Key.Tenant, a.Key.Agent, a.Key.Instance, a.Key.Name
		submissions[j], idems[j], scopes[j], hashes[j] = a.ID, optional(a.IdempotencyKey), a.scope, a.InputHash
		digests[j], inputs[j], timeouts[j] = a.AgentDigest, a.Input, a.Timeout.Microseconds()
		owners[j], claims[j] = optional(a.Owner), a.claimID
		entryHeads[j], eventHeads[j], segments[j] = p.entryHead, p.eventHead, startedSegment(a, p)
		nows[j] = p.now
		receipts = receipts || a.IdempotencyKey != ""
		missing[i] = true
	}
	batch.Queue(admissionSQL[fresh][receipts], ords, sessions, tenants, agents, instances, names, submissions, idems, scopes, hashes,
		digests, inputs, timeouts, owners, claims, entryHeads, eventHeads, segments, nows).Query(func(rows pgx.Rows) error {
		var i int
		var row admissionRow
		_, err := pgx.ForEachRow(rows, []any{&i, &row.seq, &row.took, &row.epoch, &row.entryBase, &row.eventBase}, func() error {
			ops[i].out = row.answer(&ops[i].in, places[i])
			delete(missing, i)
			return nil
		})
		for i := range missing {
			ops[i].err = session.ErrNotFound // deleted under our hands
		}
		return err
	})
}

// startedSegment is the segment with the event that tells of the start.
func startedSegment(a *admission, p place) []byte {
	if a.Owner == "" {
		return nil
	}
	return encodeEvents([]event.Event{{
		Time: p.now, SubmissionID: a.ID, Turn: 1, Type: event.Started, EntrySeq: p.entryHead + 1,
	}})
}

// admissionRow is what the database decided.
type admissionRow struct {
	seq       int64
	took      bool
	epoch     int64
	entryBase int64
	eventBase int64
}

func (r admissionRow) answer(a *admission, p place) submission.Admitted {
	sub := submission.Submission{
		ID: a.ID, SessionID: p.sessionID, Key: a.Key, Seq: r.seq, IdempotencyKey: a.IdempotencyKey, AgentDigest: a.AgentDigest,
		Input: a.Input, Timeout: a.Timeout, AcceptedAt: p.now,
	}
	if !r.took {
		return submission.Admitted{Submission: sub, EventHead: r.eventBase}
	}
	sub.Input, sub.Status, sub.Phase, sub.Turn = nil, submission.Running, submission.PhaseModel, 1
	sub.InputEntry, sub.StartedAt = r.entryBase+1, p.now
	if a.Timeout > 0 {
		sub.Deadline = p.now.Add(a.Timeout)
	}
	return submission.Admitted{Submission: sub, EventHead: r.eventBase, Lease: &submission.Lease{
		Fence: submission.Fence{SessionID: p.sessionID, Epoch: r.epoch}, Submission: sub,
		EntryHead: r.entryBase + 1, EventHead: r.eventBase + 1, Executor: p.executor,
	}}
}
