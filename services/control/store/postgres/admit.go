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
	"github.com/pawl-dev/pawl/services/control/lane"
	"github.com/pawl-dev/pawl/services/control/session"
	"github.com/pawl-dev/pawl/services/control/store/rows"
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
	child     bool // of a sub-agent
	deleting  bool
	executor  string
	entryHead int64
	eventHead int64
	now       time.Time // on the platform's clock
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
		case places[i].child:
			o.err = submission.ErrSubAgent
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
			switch {
			case places[i].deleting:
				o.err = session.ErrDeleting
			case places[i].fresh:
				fresh = append(fresh, i)
			default:
				known = append(known, i)
			}
		}
	}
	if len(fresh)+len(known) == 0 {
		return nil
	}
	slices.SortFunc(known, func(a, b int) int { return cmp.Compare(places[a].sessionID, places[b].sessionID) })
	batch := s.batch()
	if err := queueAdmissions(batch, true, ops, places, fresh); err != nil {
		return err
	}
	if err := queueAdmissions(batch, false, ops, places, known); err != nil {
		return err
	}
	if err := s.queueRecords(batch, ops, slices.Concat(fresh, known)); err != nil {
		return err
	}
	return s.send(ctx, batch)
}

// resolve reads where each admission goes, and whether its idempotency key has a receipt.
func (s *Store) resolve(ctx context.Context, ops []*admissionOp) (places []place, found []bool, err error) {
	n := len(ops)
	asked := make([]admitRow, n)
	for i, o := range ops {
		asked[i] = admitRow{admission: &o.in, ord: int32(i)}
	}
	rows, err := s.pool.Query(ctx, resolveSQL, resolveTable.args(asked, s.now())...)
	if err != nil {
		return nil, nil, err
	}
	places, found = make([]place, n), make([]bool, n)
	var i int
	var id *string
	var p place
	var receipt bool
	_, err = pgx.ForEachRow(rows, []any{
		&i, &id, &p.child, &p.executor, &p.entryHead, &p.eventHead, &receipt, &p.deleting, &p.now,
	}, func() error {
		found[i], places[i] = receipt, p
		if places[i].sessionID = value(id); id == nil {
			places[i].fresh, places[i].sessionID = true, newID()
		}
		return nil
	})
	return places, found, err
}

// queueAdmissions queues the statement for ops[i], i in chosen, all fresh or all known.
func queueAdmissions(batch *pgx.Batch, fresh bool, ops []*admissionOp, places []place, chosen []int) error {
	if len(chosen) == 0 {
		return nil
	}
	rows, missing, receipts := make([]admitRow, len(chosen)), make(map[int]bool, len(chosen)), false
	for j, i := range chosen {
		a := &ops[i].in
		segment, err := startedSegment(a, places[i])
		if err != nil {
			return err
		}
		rows[j] = admitRow{admission: a, place: places[i], ord: int32(i), segment: segment}
		receipts = receipts || a.IdempotencyKey != ""
		missing[i] = true
	}
	batch.Queue(admissionSQL[fresh][receipts], admitTable.args(rows, micros(lane.ForceGrace))...).
		Query(func(rows pgx.Rows) error {
			var i int
			var row admissionRow
			_, err := pgx.ForEachRow(rows, []any{
				&i, &row.seq, &row.took, &row.epoch, &row.entryBase, &row.eventBase, &row.mail,
			}, func() error {
				ops[i].out = row.answer(&ops[i].in, places[i])
				delete(missing, i)
				return nil
			})
			for i := range missing {
				ops[i].err = session.ErrNotFound // deleted under our hands
			}
			return err
		})
	return nil
}

// queueRecords queues the statement that puts ops[i], i in chosen, on record.
func (s *Store) queueRecords(batch *pgx.Batch, ops []*admissionOp, chosen []int) error {
	var records []rows.AuditRow
	for _, i := range chosen {
		if e := ops[i].in.Record; e != nil {
			r, err := rows.NewAuditRow(*e)
			if err != nil {
				return err
			}
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b rows.AuditRow) int { return cmp.Compare(a.ID, b.ID) })
	queue(batch, recordsSQL, recordTable, records, s.now())
	return nil
}

// startedSegment is the segment with the event that tells of the start.
func startedSegment(a *admission, p place) ([]byte, error) {
	if a.Owner == "" {
		return nil, nil
	}
	s, err := event.Pack(0, []event.Event{{
		Seq: 1, Time: p.now, SubmissionID: a.ID, Turn: 1, Type: event.Started, EntrySeq: p.entryHead + 1,
	}})
	return s.Body, err
}

// admissionRow is what the database decided.
type admissionRow struct {
	seq       int64
	took      bool
	epoch     int64
	entryBase int64
	eventBase int64
	mail      int64
}

func (r admissionRow) answer(a *admission, p place) submission.Admitted {
	sub := submission.Submission{
		Loop: lane.Loop{
			ID: a.ID, LaneID: p.sessionID, RootID: a.ID, SessionID: p.sessionID, Key: a.Key, Seq: r.seq,
			AgentDigest: a.AgentDigest, Input: a.Input, Timeout: a.Timeout,
		},
		IdempotencyKey: a.IdempotencyKey, AcceptedAt: p.now,
	}
	if !r.took {
		return submission.Admitted{Submission: sub, EventHead: r.eventBase}
	}
	sub.Input, sub.Status, sub.Phase, sub.Turn = nil, submission.Running, lane.PhaseModel, 1
	sub.InputEntry, sub.EntryHead, sub.StartedAt = r.entryBase+1, r.entryBase+1, p.now
	ends := lane.Ends{In: lane.Never}
	if a.Timeout > 0 {
		ends = lane.Ends{In: a.Timeout, Why: lane.Deadline}
	}
	return submission.Admitted{Submission: sub, EventHead: r.eventBase, Lease: &lane.Lease{
		Fence: lane.Fence{LaneID: p.sessionID, Epoch: r.epoch}, Kind: lane.KindSession, Loops: []lane.Loop{sub.Loop},
		EventHead: r.eventBase + 1, Mail: r.mail, Ends: ends, Executor: p.executor,
	}}
}
