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
	"github.com/pawl-dev/pawl/services/control/tenancy"
)

// admission is an admission with what is prepared for it outside of the flush.
type admission struct {
	submission.Admission
	scope   string // names the session by its key
	claimID string
	within  string // the tenant whose rows it may see and write, whatever its key says
	tries   int    // lost races for a session
}

// admissionOp is an admission in a group, with what resolve has found.
type admissionOp = op[admission, submission.Admitted]

// place is where an admission goes: a session as it was read, or a new one.
type place struct {
	fresh     bool
	sessionID string
	child     bool // of a sub-agent
	deleting  bool
	rewound   bool
	executor  string
	entryHead int64
	eventHead int64
	now       time.Time // on the platform's clock
}

// refuses is why nothing is admitted there. pinned is that a session is meant by its id.
func (p place) refuses(pinned bool) error {
	switch {
	case pinned && p.fresh:
		return session.ErrNotFound
	case pinned && p.rewound:
		return session.ErrRewound
	case p.deleting:
		return session.ErrDeleting
	}
	return nil
}

// Admit implements submission.Store.
func (s *Store) Admit(ctx context.Context, a submission.Admission) (submission.Admitted, error) {
	scope, claimID, within := scopeOf(a.Key), uuid.NewString(), cmp.Or(tenancy.Of(ctx), a.Key.Tenant)
	for tries := 0; ; tries++ {
		out, err := s.admits.do(ctx, origin{a.Key.Tenant, scope}, admission{
			Admission: a, scope: scope, claimID: claimID, within: within, tries: tries,
		})
		if (isViolation(err) || errors.Is(err, errMoved)) && tries < 10 {
			// The session was made, closed or deleted, or the key used, between the read and the write: read again.
			continue
		}
		if err != nil {
			return submission.Admitted{}, fmt.Errorf("admit: %w", err)
		}
		return out, nil
	}
}

// errMoved says that the lane which was found takes no submissions any more.
var errMoved = errors.New("the session was closed or deleted meanwhile")

// scopeOf names a session in receipts, which outlive it.
func scopeOf(k session.Key) string {
	b, _ := json.Marshal([]string{k.Tenant, k.Agent, k.Instance, k.Name}) // strings always can be marshalled
	return string(b)
}

// flushAdmissions admits a batch in one transaction, those of each tenant within it. Where two replicas use sessions or
// keys at the same time, the batch is sorted, so that they wait for each other in one order only.
func (s *Store) flushAdmissions(ctx context.Context, ops []*admissionOp) error {
	slices.SortFunc(ops, func(a, b *admissionOp) int {
		return cmp.Or(cmp.Compare(a.in.within, b.in.within), cmp.Compare(a.in.scope, b.in.scope))
	})
	places, found, err := s.resolve(ctx, ops)
	if err != nil {
		return err
	}
	var fresh, known []int
	for i, o := range ops {
		o.err = nil
		pinned := o.in.SessionID != ""
		switch {
		case places[i].child:
			o.err = submission.ErrSubAgent
		case found[i] || o.in.tries > 0 || o.again || o.in.ReplayOnly || pinned && o.in.IdempotencyKey != "":
			// It looks like a replay, has lost a race or may have been committed: worth a look before the write.
			answered, err := s.replay(tenancy.Within(ctx, o.in.within), o)
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
			switch o.err = places[i].refuses(pinned); {
			case o.err != nil:
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
	w := admitting{store: s, batch: s.batch(), ops: ops, places: places}
	if err := w.queue(true, fresh); err != nil {
		return err
	}
	if err := w.queue(false, known); err != nil {
		return err
	}
	w.meet(known)
	for _, of := range s.tenants(ops, slices.Concat(fresh, known)) {
		w.enter(ops[of[0]].in.within)
		if err := s.queueRecords(w.batch, ops, of); err != nil {
			return err
		}
	}
	return s.foreign(ctx, w.within, s.send(ctx, w.batch))
}

// tenants splits admissions of a batch, which are given by their places in it, by tenant. Without a second wall they
// stay together.
func (s *Store) tenants(ops []*admissionOp, chosen []int) [][]int {
	if s.wall == "" {
		return [][]int{chosen}
	}
	slices.SortStableFunc(chosen, func(a, b int) int { return cmp.Compare(ops[a].in.within, ops[b].in.within) })
	var split [][]int
	for from, i := 0, 1; i <= len(chosen); i++ {
		if i == len(chosen) || ops[chosen[i]].in.within != ops[chosen[from]].in.within {
			split, from = append(split, chosen[from:i]), i
		}
	}
	return split
}

// resolve reads where each admission goes, and whether its idempotency key has a receipt.
func (s *Store) resolve(ctx context.Context, ops []*admissionOp) (places []place, found []bool, err error) {
	n := len(ops)
	places, found = make([]place, n), make([]bool, n)
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	batch := &pgx.Batch{}
	for _, of := range s.tenants(ops, all) {
		asked := make([]admitRow, len(of))
		for j, i := range of {
			asked[j] = admitRow{admission: &ops[i].in, ord: int32(i)}
		}
		s.within(batch, ops[of[0]].in.within)
		text, columns := resolveSQL, resolveTable
		if slices.ContainsFunc(asked, func(r admitRow) bool { return r.SessionID != "" }) {
			text, columns = pinnedSQL, pinnedTable
		}
		batch.Queue(text, columns.args(asked, s.now())...).Query(func(rows pgx.Rows) error {
			var i int
			var id *string
			var p place
			var receipt bool
			_, err := pgx.ForEachRow(rows, []any{
				&i, &id, &p.child, &p.executor, &p.entryHead, &p.eventHead, &receipt, &p.deleting, &p.rewound, &p.now,
			}, func() error {
				found[i], places[i] = receipt, p
				if places[i].sessionID = value(id); id == nil {
					places[i].fresh, places[i].sessionID = true, newID()
				}
				return nil
			})
			return err
		})
	}
	return places, found, s.send(ctx, batch)
}

// admitting is the transaction of a batch.
type admitting struct {
	store  *Store
	batch  *pgx.Batch
	ops    []*admissionOp
	places []place
	within string // the tenant of what is queued next, "" for none yet
}

// lockKnownSQL locks lanes in the order in which they are given.
const lockKnownSQL = `SELECT 1 FROM unnest($1::uuid[]) AS t(lane_id) JOIN lanes l ON l.lane_id = t.lane_id
  FOR NO KEY UPDATE OF l`

// queue queues the statements for ops[i], i in chosen, which are in order, all fresh or all known: one for each tenant.
// Where that changes the order in which lanes are locked, which is that of commits too, they are locked before.
func (w *admitting) queue(fresh bool, chosen []int) error {
	if len(chosen) == 0 {
		return nil
	}
	lanes := make([]string, len(chosen))
	for j, i := range chosen {
		lanes[j] = w.places[i].sessionID
	}
	split := w.store.tenants(w.ops, chosen)
	if len(split) > 1 && !fresh {
		w.enter("")
		w.batch.Queue(lockKnownSQL, lanes)
	}
	for _, of := range split {
		w.enter(w.ops[of[0]].in.within)
		if err := queueAdmissions(w.batch, fresh, w.ops, w.places, of); err != nil {
			return err
		}
	}
	return nil
}

// meet queues what admissions want of lanes that are busy.
func (w *admitting) meet(known []int) {
	wants := slices.DeleteFunc(slices.Clone(known), func(i int) bool {
		return w.ops[i].in.WhenBusy == submission.Queue
	})
	if len(wants) == 0 {
		return
	}
	for _, of := range w.store.tenants(w.ops, wants) {
		w.enter(w.ops[of[0]].in.within)
		rows := make([]busyRow, len(of))
		for j, i := range of {
			rows[j] = busyRow{int32(i), w.places[i].sessionID, w.ops[i].in.ID, int16(w.ops[i].in.WhenBusy)}
		}
		w.batch.Queue(busySQL, busyTable.args(rows, w.store.now(), micros(lane.ForceGrace))...).
			Query(func(rows pgx.Rows) error {
				var i int
				var did int16
				var host string
				_, err := pgx.ForEachRow(rows, []any{&i, &did, &host}, func() error {
					sub := &w.ops[i].out.Submission
					sub.WhenBusy, sub.Host = submission.WhenBusy(did), host
					return nil
				})
				return err
			})
	}
}

// enter makes what is queued next run within a tenant, "" for none.
func (w *admitting) enter(tenant string) {
	if w.within != tenant {
		w.within = tenant
		w.store.within(w.batch, tenant)
	}
}

// queueAdmissions queues the statement for ops[i], i in chosen, all fresh or all known.
func queueAdmissions(batch *pgx.Batch, fresh bool, ops []*admissionOp, places []place, chosen []int) error {
	rows, missing, receipts := make([]admitRow, len(chosen)), make(map[int]bool, len(chosen)), false
	for j, i := range chosen {
		a := &ops[i].in
		segment, err := startedSegment(a, places[i])
		if err != nil {
			return err
		}
		options, err := a.Options.Encode()
		if err != nil {
			return err
		}
		rows[j] = admitRow{admission: a, place: places[i], ord: int32(i), segment: segment, options: options}
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
				ops[i].err = errMoved
			}
			return err
		})
	var images []admittedImage
	for _, i := range chosen {
		for _, image := range ops[i].in.Images {
			images = append(images, admittedImage{image, ops[i].in.ID})
		}
	}
	queue(batch, admittedImages, admittedTable, images)
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
			AgentDigest: a.AgentDigest, Input: a.Input, Timeout: a.Timeout, Options: a.Options,
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
