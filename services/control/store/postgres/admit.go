package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// admissionOp is an admission in a group, with what resolve has found.
type admissionOp = op[admission, submission.Admitted]

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
	scope, claimID := scopeOf(a.Key), uuid.NewString()
	for tries := 0; ; tries++ {
		out, err := s.admits.do(ctx, scope, admission{Admission: a, scope: scope, claimID: claimID, tries: tries})
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

// flushAdmissions admits a batch in one transaction. Where two replicas use sessions or keys at the same time, the
// batch is sorted, so that they wait for each other in one order only.
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
		case found[i] || o.in.tries > 0 || o.again || o.in.ReplayOnly:
			// It looks like a replay, has lost a race or may have been committed: worth a look before the write.
			answered, err := s.replay(ctx, o)
			if err != nil {
				return err
			}
			if answered {
				continue
			}
			if o.in.ReplayOnly {
				o.err = submission.ErrNotFound
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
	batch := s.batch()
	if len(fresh) > 0 {
		queueAdmissions(batch, true, ops, places, fresh)
	}
	if len(known) > 0 {
		queueAdmissions(batch, false, ops, places, known)
	}
	return s.send(ctx, batch)
}

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
		places[i] = place{
			sessionID: *id, executor: *executor, entryHead: value(entryHead),
			eventHead: value(eventHead), now: now,
		}
		return nil
	})
	return places, found, err
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
	batch.Queue(admissionSQL[fresh][receipts], ords, sessions, tenants, agents, instances, names, submissions, idems,
		scopes, hashes,
		digests, inputs, timeouts, owners, claims, entryHeads, eventHeads, segments, nows).Query(func(rows pgx.Rows) error {
		var i int
		var row admissionRow
		_, err := pgx.ForEachRow(rows, []any{&i, &row.seq, &row.took, &row.epoch, &row.entryBase, &row.eventBase},
			func() error {
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
